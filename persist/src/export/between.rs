//! Detects a pooler, a proxy or an address translation (NAT) between us and Postgres.
//!
//! Postgres reports the port of its client. If that is none of our ports, something is in between.
//! Nothing depends on it: the export is correct through a pooler, also in transaction mode. It is
//! only reported, so that nobody searches for the pooler's limits and faults in Postgres. Reads
//! `/proc`; without that, nothing is detected.

use std::collections::HashSet;
use std::fs;

/// The query for the port of Postgres's client.
pub(super) const CLIENT_PORT: &str = "SELECT inet_client_port()";

/// Whether the port of Postgres's client belongs to none of our own sockets to these ports.
pub(super) fn stands_between(client_port: Option<i32>, target_ports: &[u16]) -> bool {
    let Some(port) = client_port.and_then(|port| u16::try_from(port).ok()) else { return false };
    own_ports(target_ports).is_some_and(|ports| !ports.contains(&port))
}

/// The local ports of this process's TCP connections to these ports; `None` = `/proc` is not there.
fn own_ports(target_ports: &[u16]) -> Option<HashSet<u16>> {
    let links =
        fs::read_dir("/proc/self/fd").ok()?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inode = |link: &str| link.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned);
    let inodes: HashSet<String> = links.filter_map(|link| inode(link.to_str()?)).collect();
    let tables: Vec<String> = ["tcp", "tcp6"]
        .iter()
        .filter_map(|name| fs::read_to_string(format!("/proc/self/net/{name}")).ok())
        .collect();
    let known = !tables.is_empty();
    let ports = tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(|line| port_of(line, target_ports, &inodes));
    known.then(|| ports.collect())
}

/// The local port in a line of the kernel's table, if the socket is one of `inodes` and leads to such a port.
fn port_of(line: &str, target_ports: &[u16], inodes: &HashSet<String>) -> Option<u16> {
    let mut words = line.split_whitespace();
    let mut port = |word| u16::from_str_radix(words.nth(word)?.rsplit_once(':')?.1, 16).ok();
    let (local, remote) = (port(1)?, port(0)?);
    // After them: the state, two queues, a timer, retransmissions, the user, a time-out.
    let is_ours = words.nth(6).is_some_and(|inode| inodes.contains(inode));
    (is_ours && target_ports.contains(&remote)).then_some(local)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_ports_of_our_own_connections_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("it")).expect("connected");
        let target = listener.local_addr().expect("it").port();
        let ports = own_ports(&[target]).expect("Linux has /proc");
        assert_eq!(ports, HashSet::from([client.local_addr().expect("it").port()]));
        let line = "   3: 0100007F:1F90 0100007F:B3C2 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        let ours = HashSet::from(["4711".to_owned()]);
        assert_eq!(port_of(line, &[0xB3C2], &ours), Some(8080));
        assert_eq!(port_of(line, &[5432], &ours), None);
        assert_eq!(port_of(line, &[0xB3C2], &HashSet::new()), None);
    }
}

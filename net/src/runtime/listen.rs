//! Opens listening sockets, each for the buyers' API or the merchant API, and prepares them for closing.
//!
//! One `unsafe` call: no library has the socket option that [`refuse_new`] sets.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::http::route::Listener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A listening socket of one core.
pub struct ListenSocket {
    /// Which API it serves.
    pub listener: Listener,
    /// The socket; see [`listen`].
    pub socket: Socket,
    /// Most connections on it, on this core.
    pub connections_max: usize,
}

/// Opens a listening socket. With `shared`, several cores can listen on the same address and
/// the kernel spreads connections over them.
///
/// # Errors
/// The system's error: the address is in use, or not one of this machine.
pub fn listen(address: std::net::SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = bind(address, shared)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Binds an address; fails if somebody listens on it, also with a shared socket. No client can connect: closing a
/// socket that listens would reset its connections.
///
/// # Errors
/// As [`listen`].
pub fn claim(address: std::net::SocketAddr) -> io::Result<Socket> {
    bind(address, false)
}

fn bind(address: std::net::SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Refuses new connections from now on. Those that are established, or about to be, can still be accepted.
/// Closing a listening socket resets them, so call this a moment before.
///
/// It binds the socket to a network interface that does not exist. The kernel compares interfaces only when a
/// connection begins. As long as other sockets share the address, some new connections get no answer instead of
/// a refusal; they try again.
///
/// # Errors
/// The system's error: Linux before 5.7 allows this only to root.
pub(super) fn refuse_new(listener: &impl AsFd) -> io::Result<()> {
    let interface = libc::c_int::MAX;
    let (value, len) = ((&raw const interface).cast(), size_of_val(&interface) as libc::socklen_t);
    let fd = listener.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `len` bytes at `value`, which is alive for the call.
    let result = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, value, len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

    use super::*;

    /// Two sockets at one address, like those of two cores.
    fn pair(ip: impl Into<std::net::IpAddr>) -> (SocketAddr, [TcpListener; 2]) {
        let first: TcpListener = listen(SocketAddr::new(ip.into(), 0), true).unwrap().into();
        let address = first.local_addr().unwrap();
        (address, [first, listen(address, true).unwrap().into()])
    }

    /// An engine that starts must not accept a connection that it then resets.
    #[test]
    fn an_address_is_claimed_once_and_accepts_nobody() {
        // No other test takes a port of this address meanwhile.
        let (address, listeners) = pair(Ipv4Addr::new(127, 0, 0, 99));
        let error = claim(address).expect_err("in use");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop(listeners);
        let claimed = claim(address).unwrap();
        let error = TcpStream::connect(address).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        drop(claimed);
    }

    #[test]
    fn only_new_connections_are_refused() {
        for ip in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).ip(), Ipv6Addr::LOCALHOST.into()] {
            let (address, listeners) = pair(ip);
            let mut early: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
            early.iter_mut().for_each(|client| client.write_all(b"?").unwrap());
            listeners.iter().for_each(|listener| refuse_new(listener).unwrap());
            for _ in 0..8 {
                let error = TcpStream::connect(address).expect_err("refused");
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            }
            let mut accepted = Vec::new();
            for listener in &listeners {
                listener.set_nonblocking(true).unwrap();
                accepted.extend(std::iter::from_fn(|| listener.accept().ok()));
            }
            assert_eq!(accepted.len(), early.len());
            drop(listeners);
            for (mut server, _) in accepted {
                server.set_nonblocking(false).unwrap();
                let mut byte = [0];
                server.read_exact(&mut byte).unwrap();
                server.write_all(b"!").unwrap();
            }
            for client in &mut early {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                assert_eq!(&byte, b"!");
            }
        }
    }
}

//! The client's address, as proxies pass it on in a header.
//!
//! Only what trusted proxies have written is used. A list is read from its end, where the nearest proxy
//! wrote, as long as the writer is trusted; several lines of one field are one list (RFC 9110 section 5.3).
//! An address may have a port, brackets, quotes and a zone, as proxies write them. Anything else ends the
//! walk: then the last trusted proxy is used, and the result says that the client is unknown. Next:
//! [`super::Identity::client`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::http::head::Head;
use crate::named::named;

named! {
    /// The header field in which proxies name the client.
    pub enum AddressHeader {
        /// A list of addresses.
        XForwardedFor = "X-Forwarded-For",
        /// A list of elements with `for=` (RFC 7239).
        Forwarded = "Forwarded",
        /// One address.
        XRealIp = "X-Real-IP",
        /// One address, from Cloudflare.
        CfConnectingIp = "CF-Connecting-IP",
        /// One address, from Akamai and others.
        TrueClientIp = "True-Client-IP",
    }
}

impl AddressHeader {
    /// The field with this name, in any case.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|header| header.name().eq_ignore_ascii_case(name))
    }

    const fn is_list(self) -> bool {
        matches!(self, Self::XForwardedFor | Self::Forwarded)
    }
}

/// The client of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// The address for limits.
    pub ip: IpAddr,
    /// Whether that is the client's. If not, a trusted proxy has sent the request without a usable address in
    /// the address header, and `ip` is the proxy's.
    pub is_known: bool,
}

/// The client behind `peer`, which is a trusted proxy.
pub(super) fn client_behind(
    head: &Head<'_>,
    header: AddressHeader,
    peer: IpAddr,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Client {
    let unknown = |ip| Client { ip, is_known: false };
    let mut values = head.values_from_last(header.name());
    if !header.is_list() {
        let only = values.next().filter(|_| values.next().is_none()).and_then(parse);
        return only.map_or(unknown(peer), |ip| Client { ip, is_known: true });
    }
    let (mut client, mut seen) = (peer, false);
    for value in values {
        let mut rest = Some(value);
        while let Some(list) = rest {
            let (before, element) = split_last(list);
            rest = before;
            if element.is_empty() {
                continue;
            }
            let address = if header == AddressHeader::Forwarded { for_of(element) } else { Some(element) };
            match address.and_then(parse) {
                Some(ip) if is_proxy(ip) => (client, seen) = (ip, true),
                Some(ip) => return Client { ip, is_known: true },
                None => return unknown(client),
            }
        }
    }
    // All of them are proxies: the request is a proxy's own.
    Client { ip: client, is_known: seen }
}

/// The last element of a list and what is before it. A comma within quotes does not separate; addresses have
/// no escaped quotes, so those may be misread.
fn split_last(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut quoted = false;
    for (at, byte) in list.iter().enumerate().rev() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => return (Some(&list[..at]), list[at + 1..].trim_ascii()),
            _ => {}
        }
    }
    (None, list.trim_ascii())
}

/// The value of `for=` in an element of `Forwarded`, if there is exactly one.
fn for_of(element: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    for pair in element.split(|&byte| byte == b';') {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        if pair[..at].trim_ascii().eq_ignore_ascii_case(b"for")
            && found.replace(pair[at + 1..].trim_ascii()).is_some()
        {
            return None;
        }
    }
    found
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]`, `[::1]:5`, each also in quotes, and IPv6 with a zone.
fn parse(text: &[u8]) -> Option<IpAddr> {
    let text = text.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(text);
    let text = str::from_utf8(text).ok()?;
    let v6 = |text: &str| text.split('%').next()?.parse::<Ipv6Addr>().ok();
    let ip = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (inside, port) = bracketed.split_once(']')?;
            IpAddr::V6(v6(inside).filter(|_| port.is_empty() || port.strip_prefix(':').is_some_and(is_port))?)
        }
        None => match text.split_once(':') {
            Some((v4, port)) if !port.contains(':') => {
                IpAddr::V4(v4.parse::<Ipv4Addr>().ok().filter(|_| is_port(port))?)
            }
            Some(_) => IpAddr::V6(v6(text)?),
            None => IpAddr::V4(text.parse().ok()?),
        },
    };
    Some(ip.to_canonical())
}

/// A port, or an obfuscated one (RFC 7239 section 6.3).
fn is_port(text: &str) -> bool {
    let hidden = text.starts_with('_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    hidden || text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_proxies_write_them() {
        let good = [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:443", "192.0.2.7"),
            ("\"192.0.2.7:443\"", "192.0.2.7"),
            ("192.0.2.7:_hidden", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("\"[2001:db8::1]:443\"", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%eth0]:1", "fe80::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("[::ffff:192.0.2.7]:9", "192.0.2.7"),
        ];
        for (text, expected) in good {
            assert_eq!(parse(text.as_bytes()), Some(expected.parse().unwrap()), "{text}");
        }
        let bad = [
            "",
            "unknown",
            "_hidden",
            "localhost",
            "192.0.2",
            "192.0.2.7:",
            "192.0.2.7:x",
            "192.0.2.7:99999",
            "[192.0.2.7]",
            "[2001:db8::1",
            "[2001:db8::1]443",
            "[2001:db8::1]:x",
            "2001:db8::1]",
            "unix:",
            "\"",
            "192.0.2.7 192.0.2.8",
            "\u{ff11}.1.1.1",
        ];
        for text in bad {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        for header in AddressHeader::ALL {
            assert_eq!(AddressHeader::find(&header.name().to_lowercase()), Some(header));
        }
        assert_eq!(AddressHeader::find("X-Forwarded"), None);
    }
}

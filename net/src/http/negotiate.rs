//! Content negotiation: whether a client accepts gzip, and which version it has cached.

use crate::http::field::{Field, Name};
use crate::http::head::Head;

/// What a request says about the form of the response.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wants<'a> {
    /// Whether `Accept-Encoding` allows gzip.
    pub gzip: bool,
    /// `If-None-Match`.
    pub held: Field<'a>,
}

impl<'a> Wants<'a> {
    /// What this request says.
    pub fn of(head: &Head<'a>) -> Self {
        let gzip = head.field(Name::AcceptEncoding).last().is_some_and(takes_gzip);
        Self { gzip, held: head.field(Name::IfNoneMatch) }
    }
}

/// Whether an `Accept-Encoding` allows gzip (RFC 9110 section 12.5.3): named with a weight
/// above 0, or not named and `*` has one. What is malformed allows nothing.
pub fn takes_gzip(accepts: &[u8]) -> bool {
    let (mut named, mut any) = (None, None);
    for entry in accepts.split(|&byte| byte == b',') {
        let mut parts = entry.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let coding = parts.next().unwrap_or_default();
        let weight = weight(parts);
        if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") {
            named = Some(weight);
        } else if coding == b"*" {
            any = Some(weight);
        }
    }
    named.or(any).unwrap_or(0) > 0
}

/// The weight among the parameters of one entry of a list, in thousandths; 1000 without one,
/// 0 where it is malformed (RFC 9110 section 12.4.2).
pub(crate) fn weight<'a>(parameters: impl Iterator<Item = &'a [u8]>) -> u16 {
    for parameter in parameters {
        if let [b'q' | b'Q', b'=', digits @ ..] = parameter {
            return thousandths(digits).unwrap_or(0);
        }
    }
    1_000
}

fn thousandths(digits: &[u8]) -> Option<u16> {
    let (whole, rest) = match digits {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', rest @ ..] if rest.len() <= 3 => (whole, rest),
        _ => return None,
    };
    let mut value = u16::from(whole - b'0') * 1_000;
    for (digit, unit) in rest.iter().zip([100, 10, 1]) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value += u16::from(digit - b'0') * unit;
    }
    (value <= 1_000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::takes_gzip;

    #[test]
    fn weights_are_read_rightly() {
        let taken =
            ["gzip", "GZIP", "deflate, gzip;q=0.5", "*", "gzip; q=1", "x-gzip", "br;q=0, gzip;q=0.001"];
        for accepts in taken {
            assert!(takes_gzip(accepts.as_bytes()), "{accepts}");
        }
        let refused = [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "gzip; q=0.000",
            "*;q=0",
            "gzip;q=0, *",
            "gzip;q=x",
            "gzip;q=1.001",
            "gzip;q=0.0001",
            "gzip;q=2",
            "gzip;q=",
            "gzipped",
        ];
        for accepts in refused {
            assert!(!takes_gzip(accepts.as_bytes()), "{accepts}");
        }
    }
}

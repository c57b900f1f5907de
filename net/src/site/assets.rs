//! The embedded files: style, script, icon. Compressed by the build, named by their content.
//!
//! A name changes with the content behind it, so whoever has the file may keep it for ever.

use crate::http::answer::{Answer, Cache, Date, Manner, Media, Status};
use crate::http::head::lists_tag;
use crate::site::html::Wants;

/// One embedded file, twice: as it is, and compressed.
#[derive(PartialEq, Eq)]
pub struct Asset {
    /// Where it is served.
    pub path: &'static str,
    tag: &'static str,
    gzip_tag: &'static str,
    media: Media,
    plain: &'static [u8],
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// All of them.
const ALL: [&Asset; 4] = [&STYLE, &SCRIPT, &PAGE_SCRIPT, &ICON];

/// The file at this path.
pub fn find(path: &str) -> Option<&'static Asset> {
    ALL.into_iter().find(|asset| asset.path == path)
}

impl std::fmt::Debug for Asset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path)
    }
}

impl Asset {
    /// Its bytes as they are.
    pub const fn plain(&self) -> &'static [u8] {
        self.plain
    }

    /// Its bytes compressed with gzip.
    pub const fn gzip(&self) -> &'static [u8] {
        self.gzip
    }

    /// Appends a response with the file, in the form that `wants` allows, or 304 if the client
    /// has it.
    pub fn answer(&self, out: &mut Vec<u8>, wants: Wants<'_>, cache: Cache, manner: Manner, date: &Date) {
        let zipped = wants.gzip;
        let (tag, body) = if zipped { (self.gzip_tag, self.gzip) } else { (self.tag, self.plain) };
        let fresh = wants.held.last().is_some_and(|held| lists_tag(held, Some(tag)));
        let status = if fresh { Status::NotModified } else { Status::Ok };
        let answer = Answer::begin(out, status, cache, manner, date)
            .header("ETag", tag)
            .header("X-Content-Type-Options", "nosniff");
        if fresh {
            return answer.no_body();
        }
        let answer = if zipped { answer.header("Content-Encoding", "gzip") } else { answer };
        answer.body(self.media, |out| out.extend_from_slice(body));
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
pub(super) fn weight<'a>(parameters: impl Iterator<Item = &'a [u8]>) -> u16 {
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
    use super::*;
    use crate::http::answer::date_line;
    use crate::http::field::Field;

    fn answer(encodings: Field<'_>, held: Field<'_>) -> String {
        let mut out = Vec::new();
        SCRIPT.answer(
            &mut out,
            Wants { gzip: encodings.last().is_some_and(takes_gzip), held },
            Cache::FileForEver,
            Manner::KEEP,
            &date_line(0),
        );
        let head_end = out.windows(4).position(|part| part == b"\r\n\r\n").expect("a head") + 4;
        let body = &out[head_end..];
        assert!(body.is_empty() || body == SCRIPT.plain || body == SCRIPT.gzip);
        String::from_utf8(out[..head_end].to_vec()).expect("ASCII")
    }

    #[test]
    fn compressed_files_are_the_files() {
        use std::io::Read as _;
        for asset in ALL {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(asset.gzip).read_to_end(&mut plain).expect("gzip");
            assert_eq!(plain, asset.plain, "{asset:?}");
            assert_eq!(find(asset.path), Some(asset));
            assert!(asset.gzip.len() < asset.plain.len(), "{asset:?}");
        }
        assert_eq!(find("/assets/sale.js"), None);
        assert_eq!(find("/assets/"), None);
    }

    #[test]
    fn a_file_is_compressed_only_for_those_who_take_it() {
        let zipped = answer(Field::Once(b"br, gzip"), Field::Absent);
        assert!(zipped.starts_with("HTTP/1.1 200 ") && zipped.contains("\r\nContent-Encoding: gzip\r\n"));
        assert!(zipped.contains("\r\nVary: Accept-Encoding\r\n"));
        assert!(zipped.contains("\r\nCache-Control: public, max-age=31536000, immutable\r\n"));
        let plain = answer(Field::Absent, Field::Absent);
        assert!(plain.starts_with("HTTP/1.1 200 ") && !plain.contains("Content-Encoding"));
        assert!(plain.contains("\r\nVary: Accept-Encoding\r\n"));
        assert_ne!(SCRIPT.tag, SCRIPT.gzip_tag);
    }

    #[test]
    fn whoever_has_it_is_told_so() {
        let gzip = Field::Once(b"gzip");
        let status = |accepts, held: &str| {
            let head = answer(accepts, Field::Once(held.as_bytes()));
            (head[9..12].to_owned(), head.contains("Content-Length"))
        };
        assert_eq!(status(gzip, SCRIPT.gzip_tag), ("304".to_owned(), false));
        assert_eq!(status(gzip, "*"), ("304".to_owned(), false));
        assert_eq!(status(gzip, &format!("\"x\", W/{}", SCRIPT.gzip_tag)), ("304".to_owned(), false));
        assert_eq!(status(gzip, SCRIPT.tag), ("200".to_owned(), true));
        assert_eq!(status(Field::Absent, SCRIPT.tag), ("304".to_owned(), false));
    }

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

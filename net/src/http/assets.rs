//! The embedded files: style, script, icon. Compressed by the build, named by their content.
//!
//! A name changes with the content behind it, so whoever has the file may keep it for ever.

use crate::http::answer::{Answer, Cache, Date, Media, ResponseMode, Status};
use crate::http::head::lists_tag;
use crate::http::negotiate::Wants;

/// One embedded file, plain and compressed.
#[derive(PartialEq, Eq)]
pub struct Asset {
    /// The path at which it is served.
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
    pub fn answer(&self, out: &mut Vec<u8>, wants: Wants<'_>, cache: Cache, mode: ResponseMode, date: &Date) {
        let zipped = wants.gzip;
        let (tag, body) = if zipped { (self.gzip_tag, self.gzip) } else { (self.tag, self.plain) };
        let fresh = wants.held.last().is_some_and(|held| lists_tag(held, Some(tag)));
        let status = if fresh { Status::NotModified } else { Status::Ok };
        let answer = Answer::begin(out, status, cache, mode, date)
            .header("ETag", tag)
            .header("X-Content-Type-Options", "nosniff");
        if fresh {
            return answer.no_body();
        }
        let answer = if zipped { answer.header("Content-Encoding", "gzip") } else { answer };
        answer.body(self.media, |out| out.extend_from_slice(body));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::answer::date_line;
    use crate::http::field::Field;
    use crate::http::negotiate::takes_gzip;

    fn answer(encodings: Field<'_>, held: Field<'_>) -> String {
        let mut out = Vec::new();
        SCRIPT.answer(
            &mut out,
            Wants { gzip: encodings.last().is_some_and(takes_gzip), held },
            Cache::FileForEver,
            ResponseMode::KEEP,
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
}

//! A rendered page as a response, and who may cache it.
//!
//! A page for everybody has a weak entity tag and is compressed once, when it is rendered. It
//! may be cached for a second, so that a CDN can serve the crowd. A page of one buyer is never
//! stored and never compressed: its length must not tell what is in it.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http::answer::{Answer, Cache, Date, Media, ResponseMode, Status};
use crate::http::head::lists_tag;
use crate::http::negotiate::Wants;
use crate::site::SECURITY;
use stampede_core::types::OrderId;

/// Who may cache a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Everybody, for a second.
    Shared {
        /// The entity tag with its quotes, without `W/`; `None` while the page shows what is not
        /// durable. A weak tag may stand for both forms, plain and compressed (RFC 9110 section
        /// 8.8.3.3).
        tag: Option<String>,
        /// The document compressed with gzip.
        gzip: Vec<u8>,
    },
    /// Nobody.
    Never,
}

/// A rendered page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Html {
    /// The status of the response.
    pub status: Status,
    /// Who may cache it.
    pub keep: Keep,
    /// The document.
    pub body: Vec<u8>,
    /// When to try again, in milliseconds, for `Retry-After` (429, 503).
    pub retry_after_ms: Option<u64>,
}

impl Html {
    /// A page for everybody.
    pub fn shared(tag: Option<String>, body: Vec<u8>) -> Self {
        let gzip = compressed(&body);
        Self { status: Status::Ok, keep: Keep::Shared { tag, gzip }, body, retry_after_ms: None }
    }

    /// A page of one buyer.
    pub const fn private(status: Status, body: Vec<u8>) -> Self {
        Self { status, keep: Keep::Never, body, retry_after_ms: None }
    }

    /// Appends a response with the page, in the form that `wants` allows, or 304 if the client
    /// has it.
    pub fn answer(&self, out: &mut Vec<u8>, wants: Wants<'_>, manner: ResponseMode, date: &Date) {
        let Keep::Shared { tag, gzip } = &self.keep else { return self.answer_private(out, manner, date) };
        let fresh = wants.held.last().is_some_and(|held| lists_tag(held, tag.as_deref()));
        let status = if fresh { Status::NotModified } else { self.status };
        let answer =
            Answer::begin(out, status, Cache::Page, manner, date).weak_tag(tag.as_deref()).push(&[SECURITY]);
        if fresh {
            return answer.no_body();
        }
        if wants.gzip {
            let answer = answer.header("Content-Encoding", "gzip");
            return answer.body(Media::Html, |out| out.extend_from_slice(gzip));
        }
        answer.body(Media::Html, |out| out.extend_from_slice(&self.body));
    }

    fn answer_private(&self, out: &mut Vec<u8>, manner: ResponseMode, date: &Date) {
        let mut answer = Answer::begin(out, self.status, Cache::Never, manner, date).push(&[SECURITY]);
        if let Some(wait_ms) = self.retry_after_ms {
            answer = answer.header_number("Retry-After", wait_ms.div_ceil(1_000).max(1));
        }
        answer.body(Media::Html, |out| out.extend_from_slice(&self.body));
    }
}

fn compressed(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Into memory nothing can fail.
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

/// Appends the redirection after a form: to the page of the order (RFC 9110 section 15.4.4).
pub fn see_order(out: &mut Vec<u8>, order: OrderId, manner: ResponseMode, date: &Date) {
    let (mut item, mut id) = (itoa::Buffer::new(), itoa::Buffer::new());
    let place =
        ["Location: /sale/", item.format(order.item().get()), "/order/", id.format(order.get()), "\r\n"];
    let answer = Answer::begin(out, Status::SeeOther, Cache::Never, manner, date).push(&place);
    answer.push(&[SECURITY]).body(Media::Html, |_| {});
}

/// Appends the response to a form from a browser without a session: a session, and a redirect
/// that has the browser send the same form again (RFC 9110 section 15.4.8). The form did nothing yet.
pub fn send_again(out: &mut Vec<u8>, (path, cookie): (&str, &str), manner: ResponseMode, date: &Date) {
    let answer = Answer::begin(out, Status::TemporaryRedirect, Cache::Never, manner, date);
    let answer = answer.push(&["Location: ", path, "\r\nSet-Cookie: ", cookie, "\r\n"]);
    answer.push(&[SECURITY]).body(Media::Html, |_| {});
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::answer::date_line;
    use crate::http::field::Field;

    fn shown(html: &Html, held: Field<'_>) -> String {
        let mut out = Vec::new();
        let wants = Wants { held, gzip: false };
        html.answer(&mut out, wants, ResponseMode::KEEP, &date_line(0));
        String::from_utf8(out).expect("text")
    }

    const CSP: &str = "\r\nContent-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
        img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'\r\n";

    #[test]
    fn every_response_has_the_security_headers() {
        let mut redirects = [Vec::new(), Vec::new()];
        let order = OrderId::from_u64(7 << 32 | 3).expect("an order");
        see_order(&mut redirects[0], order, ResponseMode::KEEP, &date_line(0));
        send_again(&mut redirects[1], ("/sale/7?again=1", "a=b"), ResponseMode::KEEP, &date_line(0));
        let mut answers = redirects.map(|bytes| String::from_utf8(bytes).expect("text")).to_vec();
        assert!(answers[0].starts_with("HTTP/1.1 303 See Other\r\n"));
        assert!(answers[0].contains("\r\nLocation: /sale/7/order/30064771075\r\n"));
        assert!(answers[1].starts_with("HTTP/1.1 307 Temporary Redirect\r\n"));
        answers.push(shown(&Html::private(Status::Conflict, b"x".to_vec()), Field::Absent));
        answers.push(shown(&Html::shared(Some("\"t\"".to_owned()), b"x".to_vec()), Field::Absent));
        answers.push(shown(&Html::shared(Some("\"t\"".to_owned()), b"x".to_vec()), Field::Once(b"W/\"t\"")));
        for answer in answers {
            assert!(answer.contains(CSP), "{answer}");
            assert!(answer.contains("\r\nX-Content-Type-Options: nosniff\r\n"), "{answer}");
            assert!(answer.contains("\r\nReferrer-Policy: same-origin\r\n"), "{answer}");
        }
    }

    #[test]
    fn only_pages_for_everybody_are_cached() {
        let private = shown(&Html::private(Status::Ok, b"secret".to_vec()), Field::Once(b"*"));
        assert!(private.starts_with("HTTP/1.1 200 ") && private.contains("\r\nCache-Control: no-store\r\n"));
        assert!(private.ends_with("secret") && !private.contains("ETag"));
        let page = Html::shared(Some("\"t\"".to_owned()), b"page".to_vec());
        let first = shown(&page, Field::Absent);
        assert!(first.contains("\r\nETag: W/\"t\"\r\n"), "{first}");
        assert!(first.contains("\r\nCache-Control: public, max-age=1\r\n"), "{first}");
        assert!(first.contains("\r\nVary: Accept-Language, Accept-Encoding\r\n") && first.ends_with("page"));
        let again = shown(&page, Field::Once(b"\"t\""));
        assert!(again.starts_with("HTTP/1.1 304 ") && again.ends_with("\r\n\r\n"), "{again}");
        assert!(again.contains("\r\nVary: Accept-Language, Accept-Encoding\r\n"));
    }

    #[test]
    fn only_pages_for_everybody_are_compressed() {
        let mut out = Vec::new();
        let wants = Wants { gzip: true, held: Field::Absent };
        Html::shared(Some("\"t\"".to_owned()), b"page".to_vec()).answer(
            &mut out,
            wants,
            ResponseMode::KEEP,
            &date_line(0),
        );
        let body_at = out.windows(4).position(|part| part == b"\r\n\r\n").expect("a head") + 4;
        assert!(out[..body_at].windows(24).any(|part| part == b"\r\nContent-Encoding: gzip"));
        let mut plain = String::new();
        let mut decoder = flate2::read::GzDecoder::new(&out[body_at..]);
        std::io::Read::read_to_string(&mut decoder, &mut plain).expect("gzip");
        assert_eq!(plain, "page");
        let mut out = Vec::new();
        Html::private(Status::Ok, b"secret".to_vec()).answer(
            &mut out,
            wants,
            ResponseMode::KEEP,
            &date_line(0),
        );
        assert!(out.ends_with(b"secret"));
    }

    #[test]
    fn a_busy_response_says_when_to_try_again() {
        let mut html = Html::private(Status::TooManyRequests, Vec::new());
        html.retry_after_ms = Some(1_200);
        assert!(shown(&html, Field::Absent).contains("\r\nRetry-After: 2\r\n"));
    }
}

//! Reads what our forms send: `application/x-www-form-urlencoded`, strictly.
//!
//! Each field at most once, no unknown field, values of bounded length in UTF-8 without
//! control characters. Anything else is `bad_request`; no browser sends it from our form.

use stampede_core::limits::IDEMPOTENCY_KEY_BYTES_MAX;

use crate::http::body::Solved;
use crate::http::chars::{hex_value, is_visible};
use crate::http::field::{Field, Name};
use crate::http::head::Head;
use crate::http::problem::{Code, Problem};

/// Longest value of a field, decoded, in bytes.
pub const VALUE_BYTES_MAX: usize = 1_024;

/// The form of the sale page.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BuyForm {
    /// The idempotency key.
    pub key: Option<String>,
    /// The ticket.
    pub ticket: Option<String>,
    /// The challenge that was shown.
    pub challenge: Option<String>,
    /// The buyer's answer to it.
    pub answer: Option<String>,
}

impl BuyForm {
    /// Reads the form.
    ///
    /// # Errors
    /// `bad_request`, naming the field where there is one.
    pub fn parse(head: &Head<'_>, body: &[u8]) -> Result<Self, Problem> {
        check_type(head.field(Name::ContentType))?;
        let mut form = Self::default();
        each_field(body, |name, value| {
            let slot = match name {
                "key" if is_key(&value) => &mut form.key,
                "key" => return Err(bad("the key is 1 to 255 visible characters").field(name)),
                "ticket" => &mut form.ticket,
                "challenge" => &mut form.challenge,
                "answer" => &mut form.answer,
                _ => return Err(bad("the form has a field that it cannot have").field(name)),
            };
            if slot.is_some() {
                return Err(bad("a field of the form is repeated").field(name));
            }
            // A field left empty counts as absent.
            *slot = Some(value).filter(|value| !value.is_empty());
            Ok(())
        })?;
        Ok(form)
    }

    /// The challenge and the buyer's answer, if there was a challenge.
    pub fn solved(&self) -> Option<Solved<'_>> {
        let answer = self.answer.as_deref().unwrap_or_default().trim();
        self.challenge.as_deref().map(|challenge| Solved { challenge, answer })
    }
}

/// Reads a form without fields.
///
/// # Errors
/// `bad_request` if it has any.
pub fn empty(head: &Head<'_>, body: &[u8]) -> Result<(), Problem> {
    if body.is_empty() {
        return Ok(());
    }
    check_type(head.field(Name::ContentType))?;
    each_field(body, |name, _| Err(bad("the form has a field that it cannot have").field(name)))
}

fn check_type(content_type: Field<'_>) -> Result<(), Problem> {
    let media = content_type.once().map(|value| value.split(|&byte| byte == b';').next().unwrap_or_default());
    match media {
        Some(media) if media.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded") => {
            Ok(())
        }
        _ => Err(bad("a form is sent as application/x-www-form-urlencoded")),
    }
}

fn each_field(body: &[u8], mut take: impl FnMut(&str, String) -> Result<(), Problem>) -> Result<(), Problem> {
    for pair in body.split(|&byte| byte == b'&').filter(|_| !body.is_empty()) {
        let at = pair.iter().position(|&byte| byte == b'=').ok_or(bad("a field of the form has no value"))?;
        // Our names need no escapes: a name with one is not ours.
        let name = str::from_utf8(&pair[..at]).map_err(|_| bad("the form is not UTF-8"))?;
        take(name, decode(&pair[at + 1..])?)?;
    }
    Ok(())
}

fn decode(bytes: &[u8]) -> Result<String, Problem> {
    let mut plain = Vec::with_capacity(bytes.len().min(VALUE_BYTES_MAX));
    let mut bytes = bytes.iter();
    while let Some(&byte) = bytes.next() {
        if plain.len() == VALUE_BYTES_MAX {
            return Err(bad("a field of the form is too long"));
        }
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().copied().and_then(hex_value);
                let (high, low) = (digit(), digit());
                high.zip(low).map(|(high, low)| high << 4 | low).ok_or(bad("a stray percent sign"))?
            }
            byte if is_visible(byte) => byte,
            _ => return Err(bad("a character that a form does not send")),
        });
    }
    let text = String::from_utf8(plain).map_err(|_| bad("the form is not UTF-8"))?;
    if text.chars().any(char::is_control) { Err(bad("a control character")) } else { Ok(text) }
}

fn is_key(value: &str) -> bool {
    let fits = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&value.len());
    fits && value.bytes().all(|byte| is_visible(byte) && byte != b'"')
}

const fn bad(detail: &'static str) -> Problem {
    Problem::new(Code::BadRequest).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::conn::{Conn, Next};
    use crate::http::route::Listener;

    const FORM: &str = "application/x-www-form-urlencoded";

    fn parse_as(media: &str, body: &[u8]) -> Result<BuyForm, String> {
        let head = format!("POST /sale/1 HTTP/1.1\r\nHost: a\r\n{media}Content-Length: 0\r\n\r\n");
        let mut conn = Conn::new(Listener::Public, 0);
        conn.feed(head.as_bytes(), 0);
        let Next::Request(request) = conn.next() else { panic!("framed well") };
        BuyForm::parse(&request.head, body).map_err(|problem| problem.detail.unwrap_or_default().to_owned())
    }

    fn parse(body: &[u8]) -> Result<BuyForm, String> {
        parse_as(&format!("Content-Type: {FORM}\r\n"), body)
    }

    const WHOLE: &[u8] = b"key=page-1&ticket=a.b-c&challenge=%E4%BD%A0%2B+x&answer=+42";

    #[test]
    fn a_form_is_read() {
        let form = parse(WHOLE).expect("a form");
        assert_eq!(form.key.as_deref(), Some("page-1"));
        assert_eq!(form.ticket.as_deref(), Some("a.b-c"));
        assert_eq!(form.solved(), Some(Solved { challenge: "你+ x", answer: "42" }));
        assert_eq!(parse(b""), Ok(BuyForm::default()));
        assert_eq!(parse(b"ticket=&answer="), Ok(BuyForm::default()));
        assert!(parse_as(&format!("Content-Type: {FORM}; charset=UTF-8\r\n"), WHOLE).is_ok());
    }

    #[test]
    fn bad_forms_are_refused() {
        let long = format!("ticket={}", "x".repeat(VALUE_BYTES_MAX + 1));
        let bad: [&[u8]; 18] = [
            b"key",
            b"&",
            b"key=a&",
            b"&key=a",
            b"key=a&key=a",
            b"ticket=a&ticket=b",
            b"key=",
            b"key=a+b",
            b"key=%",
            b"ticket=%4",
            b"ticket=%zz",
            b"ticket=\xff",
            b"ticket=%ff",
            b"ticket=%00",
            b"ticket=a%0Ab",
            b"quantity=1",
            b"k%65y=a",
            long.as_bytes(),
        ];
        for body in bad {
            assert!(parse(body).is_err(), "{}", body.escape_ascii());
        }
        let key = format!("key={}", "k".repeat(256));
        assert!(parse(key.as_bytes()).is_err() && parse(&key.as_bytes()[..259]).is_ok());
        assert!(parse_as("", WHOLE).is_err());
        assert!(parse_as("Content-Type: text/plain\r\n", WHOLE).is_err());
        assert!(parse_as(&format!("Content-Type: {FORM}\r\nContent-Type: {FORM}\r\n"), WHOLE).is_err());
    }

    /// A form cut anywhere is refused, or has shorter values; never other ones.
    #[test]
    fn a_form_cut_anywhere_is_shorter_or_refused() {
        let whole = parse(WHOLE).expect("a form");
        let is_part = |part: &Option<String>, of: &Option<String>| match (part, of) {
            (Some(part), Some(of)) => of.starts_with(part.as_str()),
            (Some(_), None) => false,
            (None, _) => true,
        };
        for len in 0..WHOLE.len() {
            let Ok(form) = parse(&WHOLE[..len]) else { continue };
            assert!(
                is_part(&form.key, &whole.key) && is_part(&form.ticket, &whole.ticket),
                "{len}: {form:?}"
            );
            assert!(is_part(&form.challenge, &whole.challenge) && is_part(&form.answer, &whole.answer));
        }
    }
}

//! What the simulated clients put on the wire, and how they read what comes back.

use std::fmt::Write as _;

use memchr::memmem;
use stampede_core::item::OrderState;

use crate::engine::TOKEN;

/// One answer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The first answer in these bytes, and how long it is.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let head_len = memmem::find(bytes, b"\r\n\r\n")? + 4;
        let head = &bytes[..head_len];
        let status = number(&head[9..])? as u16;
        let at = memmem::find(head, b"Content-Length: ").or_else(|| memmem::find(head, b"content-length: "));
        let len = at.map_or(Some(0), |at| number(&head[at + 16..]))? as usize;
        let body = bytes.get(head_len..head_len + len)?;
        Some((Self { status, head, body }, head_len + len))
    }
    pub(crate) fn number(&self, field: &str) -> Option<u64> {
        let at = find_field(self.body, field)?;
        number(self.body[at..].strip_prefix(b"\"").unwrap_or(&self.body[at..]))
    }
    pub(crate) fn text(&self, field: &str) -> &'a str {
        let value = find_field(self.body, field).and_then(|at| self.body[at..].strip_prefix(b"\""));
        let value = value.and_then(|rest| rest.split(|byte| *byte == b'"').next());
        value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or("")
    }
    /// The order it shows.
    pub(crate) fn order(&self) -> Option<Shown> {
        order(self.body)
    }
    /// The orders of a list.
    pub(crate) fn orders(&self) -> Vec<Shown> {
        let starts = memmem::find_iter(self.body, b"{\"order_id\"");
        starts.filter_map(|at| order(&self.body[at..])).collect()
    }
}

/// An order as a client was shown it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shown {
    pub(crate) id: u64,
    pub(crate) quantity: u64,
    /// `None` = accepted, not durable.
    pub(crate) state: Option<OrderState>,
    pub(crate) created: u64,
    /// What a unit costs; not in every answer.
    pub(crate) price: Option<u64>,
    pub(crate) lsn: u64,
}

fn order(body: &[u8]) -> Option<Shown> {
    let answer = Answer { status: 0, head: b"", body };
    Some(Shown {
        id: answer.number("order_id")?,
        quantity: answer.number("quantity")?,
        state: state(answer.text("state")),
        created: answer.number("created_at_ms")?,
        price: answer.number("price_minor"),
        lsn: answer.number("lsn")?,
    })
}

fn state(name: &str) -> Option<OrderState> {
    (0..=8).filter_map(OrderState::from_code).find(|state| state.name() == name)
}

fn find_field(body: &[u8], field: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = memmem::find(&body[from..], field.as_bytes()) {
        let (start, end) = (from + at, from + at + field.len());
        if start > 0 && body[start - 1] == b'"' && body[end..].starts_with(b"\":") {
            return Some(end + 2);
        }
        from = end;
    }
    None
}

fn number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
    let mut digits = digits.peekable();
    digits.peek()?;
    Some(digits.fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// A request under construction.
#[derive(Default)]
pub(crate) struct Writer {
    text: String,
}

impl Writer {
    /// A buyer's request.
    pub(crate) fn buyer(
        &mut self,
        method: &str,
        path: &str,
        buyer: u16,
        key: Option<usize>,
        body: &str,
    ) -> &[u8] {
        self.text.clear();
        let text = &mut self.text;
        let _ = write!(text, "{method} {path} HTTP/1.1\r\nHost: s\r\nX-Buyer: b{buyer}\r\n");
        if let Some(key) = key {
            let _ = write!(text, "Idempotency-Key: k{key}\r\n");
        }
        self.end(method, body)
    }
    /// The merchant's.
    pub(crate) fn merchant(&mut self, method: &str, path: &str, body: &str) -> &[u8] {
        self.text.clear();
        let text = &mut self.text;
        let _ = write!(text, "{method} {path} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {TOKEN}\r\n");
        self.end(method, body)
    }
    fn end(&mut self, method: &str, body: &str) -> &[u8] {
        let _ = match method {
            "GET" => write!(self.text, "\r\n"),
            _ => write!(self.text, "Content-Length: {}\r\n\r\n{body}", body.len()),
        };
        self.text.as_bytes()
    }
}

//! How the end-to-end tests talk to a server: a plain client, and scripts of lines.
//!
//! A script's line is `who METHOD path [body] [#key] [+Header:value] -> answer`. `shop`
//! calls the merchant listener, `anon` sends no identity, anybody else is the buyer of
//! that name. `$x` after an answer names its order; later lines may use it.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::server::{PATIENCE, Server, TOKEN};

/// One response.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn order_id(&self) -> Option<String> {
        self.json()["order_id"].as_str().map(str::to_owned)
    }

    /// The response in a few words, without order ids.
    pub(crate) fn brief(&self) -> String {
        let (mut words, body) = (vec![self.status.to_string()], self.json());
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        words.extend(text("code"));
        words.extend(text("field").map(|field| format!("field={field}")));
        words.extend(text("state"));
        words.extend(body["quantity"].as_u64().map(|units| format!("x{units}")));
        words.extend(text("stock_band"));
        if let Some(granted) = body["granted"].as_u64() {
            words.push(format!("{granted}={}+{}+{}", body["available"], body["held"], body["sold"]));
        }
        for list in ["orders", "items", "entries"] {
            words.extend(body[list].as_array().map(|rows| format!("{} {list}", rows.len())));
        }
        words.extend(body["has_more"].as_bool().filter(|more| *more).map(|_| "and more".to_owned()));
        words.extend(self.header("Idempotent-Replay").map(|_| "again".to_owned()));
        words.join(" ")
    }
}

/// A client on one connection.
pub(crate) struct Http {
    stream: TcpStream,
    host: SocketAddr,
    buffer: Vec<u8>,
}

impl Http {
    pub(crate) fn to(host: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&host, PATIENCE).expect("the server takes connections");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, host, buffer: Vec::new() }
    }

    /// The bytes of a request.
    pub(crate) fn request(&self, call: &str, headers: &[&str], body: &str) -> String {
        let mut text = format!("{call} HTTP/1.1\r\nHost: {}\r\n", self.host);
        headers.iter().for_each(|header| text.push_str(&format!("{header}\r\n")));
        if !body.is_empty() || call.starts_with('P') {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        text
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("the server takes requests");
    }

    /// Sends as much as the server accepts without blocking; `false` once it accepts nothing.
    pub(crate) fn try_send(&mut self, text: &str) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let sent = self.stream.write(text.as_bytes());
        self.stream.set_nonblocking(false).unwrap();
        matches!(sent, Ok(len) if len == text.len())
    }

    pub(crate) fn call(&mut self, call: &str, headers: &[&str], body: &str) -> Answer {
        let request = self.request(call, headers, body);
        self.send(&request);
        self.read(call.starts_with("HEAD")).expect("an answer")
    }

    /// The next response; `None` if the connection is closed.
    pub(crate) fn read(&mut self, of_head: bool) -> Option<Answer> {
        let head_end = loop {
            match self.buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                Some(end) => break end,
                None if !self.fill() => return None,
                None => {}
            }
        };
        let head = String::from_utf8(self.buffer.drain(..head_end + 4).collect()).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("Content-Length").map_or(0, |length| length.parse::<usize>().unwrap());
        let length = if of_head || status == 304 { 0 } else { length };
        while self.buffer.len() < length {
            assert!(self.fill(), "the body was cut short: {answer:?}");
        }
        answer.body = String::from_utf8(self.buffer.drain(..length).collect()).unwrap();
        Some(answer)
    }

    fn fill(&mut self) -> bool {
        let mut part = [0; 16 << 10];
        match self.stream.read(&mut part) {
            Ok(len) => {
                self.buffer.extend_from_slice(&part[..len]);
                len > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    pub(crate) fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// A conversation of several people with one server. Each has one connection.
pub(crate) struct Talk<'s> {
    server: &'s Server,
    people: HashMap<String, Http>,
    orders: HashMap<String, String>,
}

impl<'s> Talk<'s> {
    pub(crate) fn with(server: &'s Server) -> Self {
        Self { server, people: HashMap::new(), orders: HashMap::new() }
    }

    /// The names of everybody's orders.
    pub(crate) fn into_orders(self) -> HashMap<String, String> {
        self.orders
    }

    /// The same people with the next process.
    pub(crate) fn resume(server: &'s Server, orders: HashMap<String, String>) -> Self {
        Self { server, people: HashMap::new(), orders }
    }

    /// Sends every line of a script and compares every response.
    pub(crate) fn check(&mut self, script: &str) {
        let lines = script.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with("//")) {
            let (question, expected) = line.rsplit_once(" -> ").expect("`question -> answer`");
            let answer = self.say(question.trim());
            let said = self.brief(&answer, expected.trim());
            assert_eq!(said, expected.trim(), "`{line}` was answered {}{}", answer.head, answer.body);
        }
    }

    /// Sends one line, without an expected response.
    pub(crate) fn say(&mut self, question: &str) -> Answer {
        let mut question = question.to_owned();
        for (name, id) in &self.orders {
            question = question.replace(name, id);
        }
        let mut words = question.split_whitespace();
        let who = words.next().expect("somebody").to_owned();
        let call = format!("{} {}", words.next().expect("a method"), words.next().expect("a path"));
        let (mut body, mut headers) = (String::new(), Vec::new());
        headers.extend(match who.as_str() {
            "anon" => None,
            "shop" => Some(format!("Authorization: Bearer {TOKEN}")),
            buyer => Some(format!("X-Buyer: {buyer}")),
        });
        for word in words {
            match word.split_at(1) {
                ("#", key) => headers.push(format!("Idempotency-Key: {key}")),
                ("+", header) => headers.push(header.replacen(':', ": ", 1)),
                _ => body = word.to_owned(),
            }
        }
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let address = if who == "shop" { self.server.admin } else { self.server.public };
        self.people.entry(who).or_insert_with(|| Http::to(address)).call(&call, &headers, &body)
    }

    /// The response in a few words, with the order's name; a new order gets the expected
    /// name.
    fn brief(&mut self, answer: &Answer, expected: &str) -> String {
        let Some(id) = answer.order_id() else { return answer.brief() };
        let hoped = expected.rsplit(' ').next().filter(|name| name.starts_with('$'));
        let known = self.orders.iter().find(|(_, known)| **known == id).map(|(name, _)| name.clone());
        let name = match (known, hoped) {
            (Some(name), _) => name,
            (None, Some(new)) if !self.orders.contains_key(new) => {
                self.orders.insert(new.to_owned(), id);
                new.to_owned()
            }
            (None, _) => "$?".to_owned(),
        };
        format!("{} {name}", answer.brief())
    }
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// The body that puts an item on sale now, for an hour.
pub(crate) fn item(stock: u64, cap: u32, payment: &str, hold_ms: u64) -> String {
    let now_ms = now_ms();
    sale(stock, cap, payment, hold_ms, now_ms - 1_000, now_ms + 3_600_000)
}

/// The body that puts an item on sale between two moments.
pub(crate) fn sale(
    stock: u64,
    cap: u32,
    payment: &str,
    hold_ms: u64,
    opens_at_ms: u64,
    closes_at_ms: u64,
) -> String {
    json!({
        "name": "phone", "price_minor": 499_900, "currency": "CNY", "stock": stock, "cap": cap,
        "opens_at_ms": opens_at_ms, "closes_at_ms": closes_at_ms, "payment": payment, "hold_ms": hold_ms,
    })
    .to_string()
}

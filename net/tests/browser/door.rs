//! A proxy between browser and server: it records every request, and on command does to one
//! what a bad network would do.
//!
//! It keeps its address while the server restarts; without a server it closes connections.
//! Next: `sale.rs`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// What happens to one request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The server processes the request, and the connection breaks before the response arrives.
    LoseAnswer,
    /// The response is held back until [`Door::let_go`].
    HoldAnswer,
    /// The server never sees the request; this is the response.
    Answer(String),
}

impl Fault {
    /// A refusal with `Retry-After`.
    pub(crate) fn refusal(status: u16, code: &str, retry_after_s: u64) -> Self {
        let body = format!(
            r#"{{"status":{status},"code":"{code}","title":"Not now","retry_after_ms":{}}}"#,
            retry_after_s * 1_000
        );
        Self::Answer(format!(
            "HTTP/1.1 {status} Not now\r\nContent-Type: application/problem+json\r\n\
             Retry-After: {retry_after_s}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    }
}

#[derive(Default)]
struct Books {
    server: Option<SocketAddr>,
    /// Each request as `METHOD path`, and its idempotency key.
    requests: Vec<(String, Option<String>)>,
    /// The last response's body to each of them.
    answers: HashMap<String, String>,
    /// Faults that wait for a request that begins like this.
    faults: Vec<(String, Fault)>,
    /// Whether held responses may go.
    may_go: bool,
}

/// The proxy.
pub(crate) struct Door {
    /// Where the browser connects.
    pub(crate) address: SocketAddr,
    books: Arc<(Mutex<Books>, Condvar)>,
}

impl Door {
    /// A proxy to this server.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let books = Arc::<(Mutex<Books>, Condvar)>::default();
        let door = Self { address, books };
        door.lead_to(Some(server));
        let books = door.books.clone();
        thread::spawn(move || {
            for browser in listener.incoming().map_while(Result::ok) {
                let books = books.clone();
                // Either side closes, or a fault does; then the thread ends.
                thread::spawn(move || pass(&browser, &books));
            }
        });
        door
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.0.lock().unwrap()
    }

    /// From now on the server has another address, or none.
    pub(crate) fn lead_to(&self, server: Option<SocketAddr>) {
        self.books().server = server;
    }

    /// Does this to the next request that begins like this (`METHOD path`).
    pub(crate) fn spoil(&self, begins: &str, fault: Fault) {
        self.books().faults.push((begins.to_owned(), fault));
    }

    /// Faults that no request has triggered yet.
    pub(crate) fn faults_left(&self) -> usize {
        self.books().faults.len()
    }

    /// Releases held responses, now and from now on.
    pub(crate) fn let_go(&self) {
        self.books().may_go = true;
        self.books.1.notify_all();
    }

    /// The requests so far that begin like this.
    pub(crate) fn count(&self, begins: &str) -> usize {
        self.books().requests.iter().filter(|(request, _)| request.starts_with(begins)).count()
    }

    /// The server's last response to this request.
    pub(crate) fn last_answer(&self, request: &str) -> String {
        self.books().answers.get(request).unwrap_or_else(|| panic!("no answer to {request}")).clone()
    }

    /// The idempotency keys of those requests.
    pub(crate) fn keys(&self, begins: &str) -> Vec<Option<String>> {
        let books = self.books();
        let requests = books.requests.iter().filter(|(request, _)| request.starts_with(begins));
        requests.map(|(_, key)| key.clone()).collect()
    }
}

/// One message: its first line, its head and its body.
struct Message {
    first: String,
    head: String,
    body: Vec<u8>,
}

impl Message {
    /// Reads one message; `None` at the end of the stream. `has_body` decides from the head whether
    /// a stated length means a body.
    fn read(from: &mut BufReader<&TcpStream>, has_body: impl Fn(&str) -> bool) -> Option<Self> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if from.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let first = head.lines().next()?.to_owned();
        let mut message = Self { first, head, body: Vec::new() };
        let length = message.field("content-length").map_or(0, |length| length.parse().expect("a length"));
        message.body.resize(if has_body(&message.first) { length } else { 0 }, 0);
        from.read_exact(&mut message.body).ok()?;
        Some(message)
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn write(&self, mut to: &TcpStream) -> Option<()> {
        to.write_all(self.head.as_bytes()).ok()?;
        to.write_all(&self.body).ok()
    }
}

/// Serves one request of the browser; one per connection, because Chromium silently repeats a
/// request that fails on a kept connection.
fn pass(browser: &TcpStream, books: &(Mutex<Books>, Condvar)) -> Option<()> {
    let request = Message::read(&mut BufReader::new(browser), |_| true)?;
    let name = request.first.trim_end_matches(" HTTP/1.1").to_owned();
    let (server, fault) = note(&name, &request, &mut books.0.lock().unwrap());
    if let Some(Fault::Answer(answer)) = fault {
        let mut browser = browser;
        return browser.write_all(answer.as_bytes()).ok();
    }
    let server = TcpStream::connect(server?).ok()?;
    request.write(&server)?;
    let with_body = |line: &str| !name.starts_with("HEAD") && !line.contains(" 304 ");
    let mut answer = Message::read(&mut BufReader::new(&server), with_body)?;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    books.0.lock().unwrap().answers.insert(name, body);
    match fault {
        Some(Fault::LoseAnswer) => return None,
        Some(Fault::HoldAnswer) => hold(books),
        _ => {}
    }
    answer.head.insert_str(answer.first.len(), "\r\nConnection: close");
    answer.write(browser)
}

/// Records a request, and decides where it goes and what happens to it.
fn note(name: &str, request: &Message, books: &mut Books) -> (Option<SocketAddr>, Option<Fault>) {
    books.requests.push((name.to_owned(), request.field("idempotency-key").map(str::to_owned)));
    let fault = books.faults.iter().position(|(begins, _)| name.starts_with(begins));
    (books.server, fault.map(|at| books.faults.remove(at).1))
}

fn hold((books, changed): &(Mutex<Books>, Condvar)) {
    let books = books.lock().unwrap();
    drop(changed.wait_while(books, |books| !books.may_go).unwrap());
}

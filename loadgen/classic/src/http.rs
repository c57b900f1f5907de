//! The app tier's HTTP: a listener, and a thread per connection, as the tutorials' servers have it.
//!
//! It speaks our contract as far as a purchase goes. A connection's thread reads a request,
//! decides it in the [`Shop`], answers, and reads the next one; requests may be pipelined.
//! What it does not understand it refuses with a `problem+json`. How a purchase is read and answered is
//! shared with [`crate::redis_lua::front`]. Next: [`crate::shop`].

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use crate::error::ClassicError;
use crate::listener::listen;
use crate::shop::{Bought, Shop};
use stampede_loadgen::printer;

/// Most open connections; one more is closed at once.
pub const CONNECTIONS_MAX: u32 = 4_096;
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Most bytes of a request's body.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// Most header fields.
const FIELDS_MAX: usize = 64;
/// Most bytes of a buyer's name and of an idempotency key.
const BUYER_BYTES_MAX: usize = 64;
/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Stack of a connection's thread.
const STACK_BYTES: usize = 512 * 1024;

/// A bound listener and the shop behind it.
pub struct AppTier {
    listener: TcpListener,
    shop: Arc<Shop>,
}

impl AppTier {
    /// Binds; nothing is answered yet.
    ///
    /// # Errors
    /// What the system says when the address cannot be bound.
    pub fn bind(addr: SocketAddr, shop: Shop) -> io::Result<Self> {
        Ok(Self { listener: listen(addr)?, shop: Arc::new(shop) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is set and one more connection has come to wake it (see [`Self::wake`]).
    pub fn serve(&self, stop: &AtomicBool) {
        let open = Arc::new(AtomicU32::new(0));
        for stream in self.listener.incoming() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            // A connection that broke before it was accepted, or no descriptor left: the next one.
            let Ok(stream) = stream else {
                thread::yield_now();
                continue;
            };
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (shop, mine) = (Arc::clone(&self.shop), Open(Arc::clone(&open)));
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            // An error drops the stream, which closes it: the system has no thread for it.
            let _ = thread.spawn(move || {
                let _mine = mine;
                // A connection that breaks ends its thread and nothing else.
                let _ = talk(stream, &shop);
            });
        }
    }

    /// Lets [`Self::serve`] look at its `stop`.
    pub fn wake(addr: SocketAddr) {
        drop(TcpStream::connect_timeout(&addr, Duration::from_secs(1)));
    }
}

/// Counts a connection as open until it is dropped, by a panic, too.
struct Open(Arc<AtomicU32>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn talk(mut stream: TcpStream, shop: &Shop) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut inbox = Vec::with_capacity(HEAD_BYTES_MAX);
    loop {
        match read_request(&inbox) {
            Ok(Some(request)) => {
                let response = respond(shop, &request);
                let (used, close) = (request.bytes, request.close);
                stream.write_all(&response.bytes(close))?;
                inbox.drain(..used);
                if close {
                    return Ok(());
                }
            }
            Ok(None) => {
                let mut chunk = [0; 4096];
                let count = stream.read(&mut chunk)?;
                if count == 0 {
                    return Ok(());
                }
                inbox.extend_from_slice(&chunk[..count]);
            }
            // Where the next request would begin is not known any more.
            Err(refusal) => return stream.write_all(&refusal.bytes(true)),
        }
    }
}

/// A whole request, as far as it matters here.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Request<'a> {
    method: &'a str,
    path: &'a str,
    buyer: Option<&'a str>,
    key: Option<&'a str>,
    body: &'a [u8],
    /// Whether the client wants no more on this connection.
    pub(crate) close: bool,
    /// How many bytes it took.
    pub(crate) bytes: usize,
}

/// The first request in the bytes, if it is whole.
pub(crate) fn read_request(bytes: &[u8]) -> Result<Option<Request<'_>>, Response> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let head_bytes = match head.parse(bytes) {
        Ok(httparse::Status::Complete(count)) if count <= HEAD_BYTES_MAX => count,
        Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(refuse(431, "headers_too_large")),
        Err(httparse::Error::Version) => return Err(refuse(505, "version_not_supported")),
        Err(_) => return Err(refuse(400, "bad_request")),
    };
    let (mut body_bytes, mut buyer, mut key, mut close) = (None, None, None, head.version == Some(0));
    for field in head.headers.iter() {
        let value = str::from_utf8(field.value).map_err(|_| refuse(400, "bad_header"))?.trim();
        match field.name {
            name if name.eq_ignore_ascii_case("content-length") => {
                let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                let length = value.parse::<usize>().ok().filter(|_| digits && body_bytes.is_none());
                body_bytes = Some(length.ok_or_else(|| refuse(400, "bad_header"))?);
            }
            name if name.eq_ignore_ascii_case("transfer-encoding") => {
                return Err(refuse(501, "not_implemented"));
            }
            name if name.eq_ignore_ascii_case("x-buyer") => buyer = Some(value),
            name if name.eq_ignore_ascii_case("idempotency-key") => key = Some(value),
            name if name.eq_ignore_ascii_case("connection") => {
                close |= value.eq_ignore_ascii_case("close");
            }
            _ => {}
        }
    }
    let body_bytes = body_bytes.unwrap_or(0);
    if body_bytes > BODY_BYTES_MAX {
        return Err(refuse(413, "body_too_large"));
    }
    let Some(body) = bytes.get(head_bytes..head_bytes + body_bytes) else { return Ok(None) };
    let (Some(method), Some(path)) = (head.method, head.path) else {
        return Err(refuse(400, "bad_request"));
    };
    Ok(Some(Request { method, path, buyer, key, body, close, bytes: head_bytes + body_bytes }))
}

/// The body of a purchase. The tutorials sell one unit at a time, and so do we.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PurchaseBody {
    quantity: u32,
}

fn respond(shop: &Shop, request: &Request<'_>) -> Response {
    match (request.method, route(request.path)) {
        ("GET", Route::Stats) => Response::json(200, shop.counters.figures()),
        ("POST", Route::Orders(item)) => buy(shop, request, item),
        (_, Route::Nowhere) => refuse(404, "not_found"),
        _ => refuse(405, "method_not_allowed"),
    }
}

/// The purchase in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Purchase<'a> {
    pub(crate) item: u32,
    pub(crate) buyer: &'a str,
    /// Empty: none was given.
    pub(crate) key: &'a str,
}

/// The purchase in a request, or the refusal if there is none.
pub(crate) fn purchase_in<'a>(request: &Request<'a>) -> Result<Purchase<'a>, Response> {
    match (request.method, route(request.path)) {
        ("POST", Route::Orders(item)) => purchase_of(request, item),
        (_, Route::Orders(_)) => Err(refuse(405, "method_not_allowed")),
        _ => Err(refuse(404, "not_found")),
    }
}

fn purchase_of<'a>(request: &Request<'a>, item: u32) -> Result<Purchase<'a>, Response> {
    match serde_json::from_slice::<PurchaseBody>(request.body) {
        Ok(PurchaseBody { quantity: 1 }) => {}
        Ok(_) => return Err(refuse(400, "bad_quantity")),
        Err(_) => return Err(refuse(400, "bad_json")),
    }
    let sound = |name: &&str| {
        (1..=BUYER_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
    };
    let Some(buyer) = request.buyer.filter(sound) else { return Err(refuse(401, "unauthenticated")) };
    let key = match request.key {
        Some(key) if !sound(&key) => return Err(refuse(400, "bad_header")),
        key => key.unwrap_or(""),
    };
    Ok(Purchase { item, buyer, key })
}

fn buy(shop: &Shop, request: &Request<'_>, item: u32) -> Response {
    let Purchase { buyer, key, .. } = match purchase_of(request, item) {
        Ok(purchase) => purchase,
        Err(refusal) => return refusal,
    };
    match shop.buy(item, buyer, key) {
        Ok(bought) => response_to_purchase(item, bought),
        Err(error) => {
            tell_once(&error);
            refuse(500, "internal")
        }
    }
}

/// The response to a purchase of `item`.
pub(crate) fn response_to_purchase(item: u32, bought: Bought) -> Response {
    let order = |order_id: i64, created_at_ms: i64, replay: bool| Response {
        status: 201,
        kind: "application/json",
        replay,
        body: format!(
            "{{\"order_id\":\"{order_id}\",\"item_id\":{item},\"quantity\":1,\
             \"state\":\"confirmed\",\"created_at_ms\":{created_at_ms}}}"
        ),
    };
    match bought {
        Bought::Order { order_id, created_at_ms } => order(order_id, created_at_ms, false),
        Bought::Again { order_id, created_at_ms } => order(order_id, created_at_ms, true),
        Bought::CapReached => refuse(409, "cap_reached"),
        Bought::SoldOut => refuse(409, "sold_out"),
        Bought::Conflict => refuse(409, "version_conflict"),
        Bought::RateLimited => refuse(429, "rate_limited"),
        Bought::NotFound => refuse(404, "not_found"),
    }
}

/// The first failure is said; a thousand like it would say no more.
pub(crate) fn tell_once(error: &ClassicError) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        printer::tell(&format!("stampede-classic serve: {error} (further failures are only counted)"));
    }
}

enum Route {
    Stats,
    Orders(u32),
    Nowhere,
}

fn route(path: &str) -> Route {
    if path == "/stats" {
        return Route::Stats;
    }
    let item = path.strip_prefix("/v1/items/").and_then(|rest| rest.strip_suffix("/orders"));
    match item.filter(|item| item.bytes().all(|b| b.is_ascii_digit())).map(str::parse) {
        Some(Ok(item)) => Route::Orders(item),
        _ => Route::Nowhere,
    }
}

/// A response that has not been written yet.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Response {
    status: u16,
    kind: &'static str,
    /// Whether it was given before, to the same key.
    replay: bool,
    body: String,
}

impl Response {
    fn json(status: u16, value: impl serde::Serialize) -> Self {
        let body = serde_json::to_string(&value).expect("plain figures have a JSON form");
        Self { status, kind: "application/json", replay: false, body }
    }

    /// As it is sent; `close`: the connection ends after it.
    pub(crate) fn bytes(&self, close: bool) -> Vec<u8> {
        let Self { status, kind, replay, body } = self;
        let replay = if *replay { "Idempotent-Replay: true\r\n" } else { "" };
        let retry = if *status == 429 { "Retry-After: 1\r\n" } else { "" };
        let close = if close { "Connection: close\r\n" } else { "" };
        let (reason, length) = (reason(*status), body.len());
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{retry}{replay}{close}\r\n{body}"
        )
        .into_bytes()
    }
}

/// A refusal with this code.
pub(crate) fn refuse(status: u16, code: &'static str) -> Response {
    let body = format!("{{\"status\":{status},\"code\":\"{code}\",\"title\":\"{}\"}}", title(code));
    Response { status, kind: "application/problem+json", replay: false, body }
}

fn title(code: &str) -> &'static str {
    match code {
        "sold_out" => "Sold out",
        "cap_reached" => "This buyer has as many as one may have",
        "version_conflict" => "Somebody else was faster; try again",
        "rate_limited" => "Too many buyers at once; try again later",
        "unauthenticated" => "The X-Buyer header must name the buyer, 1 to 64 visible characters",
        "bad_json" => "The body must be {\\\"quantity\\\":1}",
        "bad_quantity" => "The classic designs sell one unit at a time",
        "internal" => "The database or the cache refused",
        _ => "The request was not understood",
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "Bad Request",
    }
}

#[cfg(test)]
mod tests;

//! Answers: values into the bytes of a response, appended to the caller's buffer.
//!
//! Every length is counted, never guessed; every answer to a framing doubt says
//! `Connection: close`; no byte that came from outside ever reaches a header; no answer
//! can begin without saying who may keep it ([`Cache`]).
//! The time of day comes in as a ready [`Date`], which RFC 9110 section
//! 6.6.1 wants from a server that has a clock. Hot refusals come out of
//! [`crate::http::templates`]; pages of items out of [`crate::http::page`].

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use stampede_core::item::OrderState;
use stampede_core::money::Price;
use stampede_core::types::{Lsn, OrderId, Quantity, UnixMillis};

use crate::http::json_out::{self, Object};
use crate::http::limits::IDLE_MS;
use crate::http::problem::{Code, Problem};
use crate::http::templates;

/// The interim answer that a waiting client gets before it sends its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Bytes of a `Date` line with its line end.
const DATE_BYTES: usize = 37;
/// Most bytes of a `Keep-Alive` line with its line end.
const KEEP_ALIVE_BYTES_MAX: usize = "Keep-Alive: timeout=4294967295\r\n".len();

/// The header lines that all answers of a second share: `Date`, and, where the connection stays,
/// `Keep-Alive` with how long a client may leave it unused. Render it once per second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Date {
    lines: [u8; DATE_BYTES + KEEP_ALIVE_BYTES_MAX],
    len: usize,
}

impl Date {
    /// The lines at a time in Unix seconds, where an unused connection is kept for `idle_s` seconds.
    ///
    /// Times beyond the year 9999 give the last one that there is.
    pub fn new(unix_s: u64, idle_s: u32) -> Self {
        const LAST_UNIX_S: u64 = 253_402_300_799;
        let time = UNIX_EPOCH + Duration::from_secs(unix_s.min(LAST_UNIX_S));
        let mut lines = [0; DATE_BYTES + KEEP_ALIVE_BYTES_MAX];
        let mut rest = &mut lines[..];
        let date = httpdate::HttpDate::from(time);
        let written = write!(rest, "Date: {date}\r\nKeep-Alive: timeout={idle_s}\r\n");
        debug_assert!(written.is_ok(), "an HTTP date has 29 bytes");
        let len = DATE_BYTES + KEEP_ALIVE_BYTES_MAX - rest.len();
        Self { lines, len }
    }

    /// What an answer says after which the connection is treated so.
    fn lines(&self, linger: Linger) -> &[u8] {
        match linger {
            Linger::Keep | Linger::KeepSaid => &self.lines[..self.len],
            Linger::Close => &self.lines[..DATE_BYTES],
        }
    }
}

/// The lines at a time in Unix seconds, where an unused connection is kept as long as is usual.
pub fn date_line(unix_s: u64) -> Date {
    Date::new(unix_s, (IDLE_MS / 1_000) as u32)
}

/// Who may keep an answer, and for how long. A cache keeps what says nothing for as long as it
/// likes: so every answer says it, and its type asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cache {
    /// Nobody: it belongs to one reader or to one moment.
    Never,
    /// Everybody, for a second: items and draws, which pages of other origins may read.
    Read,
    /// Everybody, for a minute: a draw that is over.
    ReadLong,
    /// Everybody, for a second: a page for browsers.
    Page,
    /// Everybody, for a day: what may change under its name.
    File,
    /// Everybody, for ever: what is named by its content.
    FileForEver,
}

impl Cache {
    /// Its lines: `Cache-Control`, and where the answer may be kept, `Vary` with what it depends on.
    pub const fn lines(self) -> &'static str {
        match self {
            Self::Never => "Cache-Control: no-store\r\n",
            Self::Read => "Cache-Control: max-age=1\r\nVary: Origin\r\n",
            Self::ReadLong => "Cache-Control: max-age=60\r\nVary: Origin\r\n",
            Self::Page => "Cache-Control: public, max-age=1\r\nVary: Accept-Language, Accept-Encoding\r\n",
            Self::File => "Cache-Control: public, max-age=86400\r\nVary: Accept-Encoding\r\n",
            Self::FileForEver => {
                "Cache-Control: public, max-age=31536000, immutable\r\nVary: Accept-Encoding\r\n"
            }
        }
    }
}

/// What an answer says to a page of another origin that may read it; see
/// [`crate::identity::cors`].
#[derive(PartialEq, Eq, Debug)]
pub struct Cors {
    /// Whole header lines with their line ends.
    pub lines: String,
}

/// What happens to the connection after an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Linger {
    /// It stays open, which needs no word in HTTP/1.1.
    Keep,
    /// It stays open, which HTTP/1.0 wants said.
    KeepSaid,
    /// It is closed.
    Close,
}

/// How an answer is to be written; it depends on the request alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manner {
    /// What happens to the connection.
    pub linger: Linger,
    /// The request was a HEAD: the same head, no body.
    pub bodiless: bool,
    /// What is said to the page of another origin that sent the request, if it may read the answer.
    pub cors: Option<&'static Cors>,
}

impl Manner {
    /// An ordinary answer on a connection that stays.
    pub const KEEP: Self = Self { linger: Linger::Keep, bodiless: false, cors: None };
    /// An answer after which the connection is closed.
    pub const CLOSE: Self = Self { linger: Linger::Close, bodiless: false, cors: None };

    /// The same, closing the connection.
    pub const fn closing(self) -> Self {
        Self { linger: Linger::Close, ..self }
    }
    /// Whether the connection is to be closed.
    pub const fn closes(self) -> bool {
        matches!(self.linger, Linger::Close)
    }
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $phrase:literal,)+) => {
        /// The statuses that are answered.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Status { $($(#[$doc])* $variant),+ }

        impl Status {
            /// Its number.
            pub const fn number(self) -> u16 {
                match self { $(Self::$variant => $number),+ }
            }
            pub(crate) const fn line(self) -> &'static str {
                match self { $(Self::$variant => concat!("HTTP/1.1 ", $number, " ", $phrase, "\r\n")),+ }
            }
        }
    };
}

statuses! {
    /// 200
    Ok = 200 "OK",
    /// 201
    Created = 201 "Created",
    /// 202
    Accepted = 202 "Accepted",
    /// 204
    NoContent = 204 "No Content",
    /// 303
    SeeOther = 303 "See Other",
    /// 304
    NotModified = 304 "Not Modified",
    /// 307
    TemporaryRedirect = 307 "Temporary Redirect",
    /// 400
    BadRequest = 400 "Bad Request",
    /// 401
    Unauthorized = 401 "Unauthorized",
    /// 403
    Forbidden = 403 "Forbidden",
    /// 404
    NotFound = 404 "Not Found",
    /// 405
    MethodNotAllowed = 405 "Method Not Allowed",
    /// 409
    Conflict = 409 "Conflict",
    /// 412
    PreconditionFailed = 412 "Precondition Failed",
    /// 413
    BodyTooLarge = 413 "Content Too Large",
    /// 414
    TargetTooLong = 414 "URI Too Long",
    /// 415
    UnsupportedMediaType = 415 "Unsupported Media Type",
    /// 417
    ExpectationFailed = 417 "Expectation Failed",
    /// 422
    Unprocessable = 422 "Unprocessable Content",
    /// 429
    TooManyRequests = 429 "Too Many Requests",
    /// 431
    HeadersTooLarge = 431 "Request Header Fields Too Large",
    /// 500
    Internal = 500 "Internal Server Error",
    /// 501
    NotImplemented = 501 "Not Implemented",
    /// 503
    Unavailable = 503 "Service Unavailable",
    /// 505
    VersionNotSupported = 505 "HTTP Version Not Supported",
}

/// What a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media {
    /// `application/json`
    Json,
    /// `application/problem+json` (RFC 9457)
    Problem,
    /// `text/plain; charset=utf-8`
    Plain,
    /// The Prometheus text format.
    Metrics,
    /// `text/html; charset=utf-8`
    Html,
    /// `text/css; charset=utf-8`
    Css,
    /// `text/javascript; charset=utf-8`
    Script,
    /// `image/svg+xml`
    Svg,
    /// `application/x-ndjson`
    Lines,
    /// `application/vnd.stampede.batch`
    Batch,
}

impl Media {
    const fn line(self) -> &'static str {
        match self {
            Self::Json => "Content-Type: application/json\r\n",
            Self::Problem => "Content-Type: application/problem+json\r\n",
            Self::Plain => "Content-Type: text/plain; charset=utf-8\r\n",
            Self::Metrics => "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n",
            Self::Html => "Content-Type: text/html; charset=utf-8\r\n",
            Self::Css => "Content-Type: text/css; charset=utf-8\r\n",
            Self::Script => "Content-Type: text/javascript; charset=utf-8\r\n",
            Self::Svg => "Content-Type: image/svg+xml\r\n",
            Self::Lines => "Content-Type: application/x-ndjson\r\n",
            Self::Batch => "Content-Type: application/vnd.stampede.batch\r\n",
        }
    }
}

/// A response that is being written. Dropped before its body, it is a broken one.
#[must_use = "a response needs its body, or the word that it has none"]
#[derive(Debug)]
pub struct Answer<'o> {
    out: &'o mut Vec<u8>,
    manner: Manner,
}

impl<'o> Answer<'o> {
    /// Begins with the status, the date, what becomes of the connection, and who may keep it.
    pub fn begin(out: &'o mut Vec<u8>, status: Status, cache: Cache, manner: Manner, date: &Date) -> Self {
        begin_shared(out, status, manner, date);
        match manner.linger {
            Linger::Keep => {}
            Linger::KeepSaid => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            Linger::Close => out.extend_from_slice(b"Connection: close\r\n"),
        }
        out.extend_from_slice(cache.lines().as_bytes());
        Self { out, manner }
    }

    /// A header whose value is ours: a constant.
    pub fn header(self, name: &'static str, value: &'static str) -> Self {
        self.push(&[name, ": ", value, "\r\n"])
    }

    /// A header whose value is a number.
    pub fn header_number(self, name: &'static str, value: u64) -> Self {
        let mut digits = itoa::Buffer::new();
        self.push(&[name, ": ", digits.format(value), "\r\n"])
    }

    /// A weak entity tag, if there is one; with its quotes.
    pub fn weak_tag(self, tag: Option<&str>) -> Self {
        match tag {
            Some(tag) => self.push(&["ETag: W/", tag, "\r\n"]),
            None => self,
        }
    }

    /// A strong entity tag: the LSN that made the thing what it is.
    pub fn tag(self, lsn: Lsn) -> Self {
        let mut digits = itoa::Buffer::new();
        self.push(&["ETag: \"", digits.format(lsn.0), "\"\r\n"])
    }

    /// `Location: /v1/orders/{id}`
    pub fn location(self, order: OrderId) -> Self {
        let mut digits = itoa::Buffer::new();
        self.push(&["Location: /v1/orders/", digits.format(order.get()), "\r\n"])
    }

    /// Ends the head and lets `fill` append the body, whose length is put in afterwards.
    pub fn body(self, media: Media, fill: impl FnOnce(&mut Vec<u8>)) {
        const ROOM: &str = "                    ";
        let Self { out, manner } = self.push(&[media.line(), "Content-Length: ", ROOM, "\r\n\r\n"]);
        let body_at = out.len();
        fill(out);
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(out.len() - body_at).as_bytes();
        if manner.bodiless {
            out.truncate(body_at);
        }
        let room_at = body_at - ROOM.len() - 4;
        out[room_at..room_at + digits.len()].copy_from_slice(digits);
        out.copy_within(room_at + ROOM.len().., room_at + digits.len());
        out.truncate(out.len() - ROOM.len() + digits.len());
    }

    /// Ends the head of a body of so many bytes, which the caller writes.
    pub fn body_follows(self, media: Media, len: usize) {
        let mut digits = itoa::Buffer::new();
        let _written = self.push(&[media.line(), "Content-Length: ", digits.format(len), "\r\n\r\n"]);
    }

    /// Ends a response that by its status has no body (204, 304).
    pub fn no_body(self) {
        self.out.extend_from_slice(b"\r\n");
    }

    pub(crate) fn push(self, parts: &[&str]) -> Self {
        for part in parts {
            self.out.extend_from_slice(part.as_bytes());
        }
        self
    }
}

/// Appends what differs from request to request in answers that are the same otherwise.
pub(crate) fn begin_shared(out: &mut Vec<u8>, status: Status, manner: Manner, date: &Date) {
    out.extend_from_slice(status.line().as_bytes());
    out.extend_from_slice(date.lines(manner.linger));
    if let Some(cors) = manner.cors {
        out.extend_from_slice(cors.lines.as_bytes());
    }
}

/// A response whose body is one JSON object; nobody may keep it.
pub fn json(
    out: &mut Vec<u8>,
    status: Status,
    manner: Manner,
    date: &Date,
    fill: impl FnOnce(&mut Object<'_>),
) {
    Answer::begin(out, status, Cache::Never, manner, date)
        .body(Media::Json, |out| json_out::object(out, fill));
}

/// A response whose body is there already; nobody may keep it.
pub fn bytes(out: &mut Vec<u8>, status: Status, media: Media, body: &[u8], manner: Manner, date: &Date) {
    Answer::begin(out, status, Cache::Never, manner, date).body(media, |out| out.extend_from_slice(body));
}

/// `{"now_ms":…}`
pub fn time(out: &mut Vec<u8>, now: UnixMillis, manner: Manner, date: &Date) {
    json(out, Status::Ok, manner, date, |object| {
        object.number("now_ms", now.0);
    });
}

/// A refusal, as RFC 9457 has it. Hot ones are copied whole and patched.
pub fn problem(out: &mut Vec<u8>, problem: &Problem, manner: Manner, date: &Date) {
    if !templates::write(out, problem, manner, date) {
        render_problem(out, problem, manner, date);
    }
}

pub(crate) fn render_problem(out: &mut Vec<u8>, problem: &Problem, manner: Manner, date: &Date) {
    let retry_after_ms = problem.retry_after_ms.or(problem.code.retry_after_ms_default());
    let mut answer = Answer::begin(out, problem.code.status(), Cache::Never, manner, date);
    if problem.code == Code::Unauthenticated {
        answer = answer.header("WWW-Authenticate", "Bearer");
    }
    if problem.code == Code::UnsupportedMediaType {
        // RFC 7694 section 3: which codings of a body are read.
        answer = answer.header("Accept-Encoding", "identity");
    }
    if let Some(methods) = problem.allow {
        answer = answer.header("Allow", methods);
    }
    if let Some(wait_ms) = retry_after_ms {
        answer = answer.header_number("Retry-After", wait_ms.div_ceil(1_000).max(1));
    }
    answer.body(Media::Problem, |out| {
        json_out::object(out, |object| fill_problem(object, problem, retry_after_ms));
    });
}

fn fill_problem(object: &mut Object<'_>, problem: &Problem, retry_after_ms: Option<u64>) {
    let code = problem.code;
    object.number("status", code.status().number()).text("code", code.name()).text("title", code.title());
    if let Some(detail) = problem.detail {
        object.text("detail", detail);
    }
    if let Some(field) = &problem.field {
        object.text("field", field.as_str());
    }
    if let Some(wait_ms) = retry_after_ms {
        object.number("retry_after_ms", wait_ms);
    }
    if let Some(wait_ms) = problem.opens_in_ms {
        object.number("opens_in_ms", wait_ms);
    }
    if let Some(order) = problem.order_id {
        object.quoted("order_id", order.get());
    }
}

/// Where an order stands, as a client sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShownState {
    /// Decided, not durable yet.
    Accepted,
    /// Durable, and there.
    Durable(OrderState),
}

impl ShownState {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Durable(state) => state.name(),
        }
    }
}

/// An order, as a client sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrderView {
    /// Which.
    pub order: OrderId,
    /// Its units.
    pub quantity: Quantity,
    /// Where it stands.
    pub state: ShownState,
    /// When it was placed.
    pub created_at_ms: UnixMillis,
    /// When it expires unpaid; zero = never, which is shown as `null`.
    pub pay_by_ms: UnixMillis,
    /// What a unit of it costs.
    pub price: Price,
    /// Units given back; shown where there are some.
    pub refunded: u32,
    /// The fact that placed it.
    pub lsn: Lsn,
}

impl OrderView {
    /// Appends its fields to an object.
    pub fn fill(&self, object: &mut Object<'_>) {
        let pay_by_ms = Some(self.pay_by_ms.0).filter(|&time| time != 0);
        object
            .quoted("order_id", self.order.get())
            .number("item_id", self.order.item().get())
            .number("quantity", self.quantity.get())
            .text("state", self.state.name())
            .number("created_at_ms", self.created_at_ms.0)
            .number_or_null("pay_by_ms", pay_by_ms);
        if let Some(price) = self.price.known() {
            object.number("price_minor", price.minor).text("currency", price.currency());
        }
        if self.refunded > 0 {
            object.number("refunded_quantity", self.refunded);
        }
        object.number("lsn", self.lsn.0);
    }
}

/// What the head of an answer with an order says besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OrderHeaders {
    /// `Idempotent-Replay: true`: this answer was given before.
    pub replay: bool,
    /// `Location`: where the order can be read.
    pub location: bool,
}

/// An answer with one order.
pub fn order(
    out: &mut Vec<u8>,
    status: Status,
    view: &OrderView,
    headers: OrderHeaders,
    manner: Manner,
    date: &Date,
) {
    let mut answer = Answer::begin(out, status, Cache::Never, manner, date);
    if headers.replay {
        answer = answer.header("Idempotent-Replay", "true");
    }
    if headers.location {
        answer = answer.location(view.order);
    }
    answer.body(Media::Json, |out| json_out::object(out, |object| view.fill(object)));
}

/// `{"orders":[…],"has_more":…}`, with `next_after` where the list goes on behind that.
pub fn order_list(
    out: &mut Vec<u8>,
    orders: impl IntoIterator<Item = OrderView>,
    (has_more, next_after): (bool, Option<&str>),
    manner: Manner,
    date: &Date,
) {
    json(out, Status::Ok, manner, date, |object| {
        object.array("orders", |array| {
            for view in orders {
                array.object(|object| view.fill(object));
            }
        });
        object.boolean("has_more", has_more);
        if let Some(next_after) = next_after {
            object.text("next_after", next_after);
        }
    });
}

//! Compares the server's reader with the second one: both must find the same requests, or none.

use stampede_net::http::conn::{Conn, Left, Next, Request};
use stampede_net::http::field::{Field, Name};
use stampede_net::http::limits::CONN_BUFFER_BYTES_MAX;
use stampede_net::http::line::Version;
use stampede_net::http::route::Listener;

use crate::reader::{Message, Reading, Side, read};

/// What the server's reader finds in a stream, in the terms of the second reader.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stream {
    requests: Vec<Taken>,
    rejected: bool,
    mid_request: bool,
    finished: bool,
}

/// A request, as far as the server keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Taken {
    method: String,
    minor: u8,
    path: String,
    query: Option<Vec<u8>>,
    body: Vec<u8>,
    closes: bool,
    prefers_async: bool,
    expects_continue: bool,
    fields: Vec<(&'static str, Kept)>,
}

/// How often a field occurred, and its last value.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Kept {
    Absent,
    Once(Vec<u8>),
    Repeated(Vec<u8>),
}

/// Reads a stream, cut at these positions, with both readers. Returns how many requests
/// it contained.
///
/// # Errors
/// How the two differ, or how the server differs from itself when the stream is cut.
pub(crate) fn check(bytes: &[u8], cuts: &[usize]) -> Result<usize, String> {
    // Batches go to the merchant listener, and are read piece by piece.
    if bytes.windows(BATCH.len()).any(|part| part == BATCH) {
        check_on(Side::Shop, bytes, cuts)?;
    }
    check_on(Side::Buyers, bytes, cuts)
}

const BATCH: &[u8] = b"/v1/orders/batch";

fn check_on(side: Side, bytes: &[u8], cuts: &[usize]) -> Result<usize, String> {
    let whole = stream(side, bytes, &[]);
    let cut = stream(side, bytes, cuts);
    if cut != whole {
        return Err(format!("cut at {cuts:?}: {cut:?}; in one piece: {whole:?}"));
    }
    agree(side, bytes, &whole)
}

fn agree(side: Side, bytes: &[u8], stream: &Stream) -> Result<usize, String> {
    let mut at = 0;
    for (number, taken) in stream.requests.iter().enumerate() {
        match read(side, &bytes[at..]) {
            Reading::Whole(message, len) => {
                let expected = kept(&message, &taken.fields);
                if *taken != expected {
                    return Err(format!(
                        "request {number} is {taken:?}, but the second reader finds {expected:?}"
                    ));
                }
                at += len;
            }
            other => return Err(format!("request {number} at byte {at}, taken, is {other:?} to the second")),
        }
    }
    let ended = stream.requests.last().is_some_and(|taken| taken.closes);
    let end = read(side, &bytes[at..]);
    let agreed = match end {
        _ if ended => !stream.rejected && stream.finished,
        Reading::Whole(..) => false,
        Reading::Refused(_) => stream.rejected,
        Reading::Unfinished { .. } => !stream.rejected && stream.mid_request,
        Reading::Nothing => !stream.rejected && !stream.mid_request,
    };
    if agreed {
        return Ok(stream.requests.len());
    }
    let (rejected, mid) = (stream.rejected, stream.mid_request);
    Err(format!("from byte {at} on: {end:?} to the second; here rejected={rejected} mid-request={mid}"))
}

fn stream(side: Side, bytes: &[u8], cuts: &[usize]) -> Stream {
    let listener = if side == Side::Shop { Listener::Merchant } else { Listener::Public };
    let (mut conn, mut open) = (Conn::new(listener, 0), None);
    let mut stream = Stream { requests: Vec::new(), rejected: false, mid_request: false, finished: false };
    let mut from = 0;
    for to in cuts.iter().copied().chain([bytes.len()]) {
        let mut piece = &bytes[from..to];
        while !piece.is_empty() {
            let taken = conn.feed(piece, 0);
            assert!(taken > 0, "a connection that wants more takes something");
            assert!(conn.buffer_bytes() <= CONN_BUFFER_BYTES_MAX, "a buffer without bound");
            piece = &piece[taken..];
            drain(&mut conn, &mut open, &mut stream);
        }
        from = to;
    }
    stream.mid_request = conn.is_mid_request();
    stream.finished = conn.is_finished();
    stream
}

/// Takes everything that is there. `open`: a batch whose body is incomplete; it counts once it is complete.
fn drain(conn: &mut Conn, open: &mut Option<Taken>, stream: &mut Stream) {
    loop {
        if let Some(mut batch) = open.take() {
            batch.body.extend_from_slice(conn.piece());
            let come = conn.piece().len();
            conn.take(come);
            if conn.left() == Left::Bytes(0) {
                stream.requests.push(batch);
            } else if conn.broken().is_none() {
                *open = Some(batch);
                return;
            }
        }
        match conn.next() {
            Next::NeedMore => return,
            Next::Reject(_) => stream.rejected = true,
            Next::Request(request) => {
                assert!(!stream.rejected, "a request after a refusal");
                match request.streamed {
                    Some(_) => *open = Some(taken(&request)),
                    None => stream.requests.push(taken(&request)),
                }
            }
        }
    }
}

fn taken(request: &Request<'_>) -> Taken {
    let head = &request.head;
    let fields = [
        ("host", head.field(Name::Host)),
        ("authorization", head.field(Name::Authorization)),
        ("cookie", head.field(Name::Cookie)),
        ("origin", head.field(Name::Origin)),
        ("sec-fetch-site", head.field(Name::SecFetchSite)),
        ("accept-language", head.field(Name::AcceptLanguage)),
        ("accept-encoding", head.field(Name::AcceptEncoding)),
        ("content-type", head.field(Name::ContentType)),
        ("idempotency-key", head.field(Name::IdempotencyKey)),
        ("if-none-match", head.field(Name::IfNoneMatch)),
        ("x-buyer", head.field(Name::XBuyer)),
        ("x-buyer-level", head.field(Name::XBuyerLevel)),
        ("x-forwarded-for", head.field(Name::XForwardedFor)),
    ];
    Taken {
        method: format!("{:?}", head.method).to_uppercase(),
        minor: u8::from(head.version == Version::Http11),
        path: head.path.to_owned(),
        query: head.query.map(<[u8]>::to_vec),
        body: request.body.to_vec(),
        closes: head.response_mode().closes(),
        prefers_async: head.prefers_async,
        expects_continue: head.expects_continue,
        fields: fields
            .map(|(name, field)| {
                let kept = match field {
                    Field::Absent => Kept::Absent,
                    Field::Once(value) => Kept::Once(value.to_vec()),
                    Field::Repeated(value) => Kept::Repeated(value.to_vec()),
                };
                (name, kept)
            })
            .into(),
    }
}

/// What the server should have kept of a message.
fn kept(message: &Message, names: &[(&'static str, Kept)]) -> Taken {
    let keep = |name: &'static str| match message.values(name)[..] {
        [] => Kept::Absent,
        [value] => Kept::Once(value.to_vec()),
        [.., last] => Kept::Repeated(last.to_vec()),
    };
    Taken {
        method: message.method.clone(),
        minor: message.minor,
        path: message.path.clone(),
        query: message.query.clone(),
        body: message.body.clone(),
        closes: message.closes,
        prefers_async: message.lists("prefer", "respond-async"),
        expects_continue: message.minor == 1 && !message.values("expect").is_empty(),
        fields: names.iter().map(|(name, _)| (*name, keep(name))).collect(),
    }
}

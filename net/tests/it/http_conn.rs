//! Bytes in, requests out: cut anywhere, bounded in memory and time, never a panic.

use proptest::prelude::*;
use stampede_net::http::conn::{Conn, Left, Next};
use stampede_net::http::limits::{BATCH_BODY_BYTES_MAX, CONN_BUFFER_BYTES, CONN_BUFFER_BYTES_MAX};
use stampede_net::http::route::Listener;

/// A purchase that must not come out after anything that closes the connection.
const CANARY: &[u8] =
    b"POST /v1/items/9/orders HTTP/1.1\r\nHost: canary\r\nContent-Length: 14\r\n\r\n{\"quantity\":1}";

/// The requests from a connection that gets these pieces, as text.
fn transcript<'a>(listener: Listener, pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut conn = Conn::new(listener, 0);
    let mut shown = Vec::new();
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() {
            let taken = conn.feed(rest, 0);
            assert!(taken > 0, "a connection that wants more accepts the bytes");
            assert!(conn.buffer_bytes() <= CONN_BUFFER_BYTES_MAX);
            rest = &rest[taken..];
            drain(&mut conn, &mut shown);
        }
    }
    if conn.is_mid_request() {
        shown.push("partial".to_owned());
    }
    shown.join(" | ")
}

fn drain(conn: &mut Conn, shown: &mut Vec<String>) {
    loop {
        let text = match conn.next() {
            Next::NeedMore => return,
            Next::Reject(problem) => format!("reject {}", problem.code.status().number()),
            Next::Request(request) => {
                let mut text = match request.route {
                    Ok(route) => format!("{route:?}"),
                    Err(problem) => format!("{}", problem.code.status().number()),
                };
                if !request.body.is_empty() {
                    text += &format!(" body={}", request.body.len());
                }
                if request.head.response_mode().closes() {
                    text += " close";
                }
                text
            }
        };
        shown.push(text);
    }
}

const GET: &[u8] = b"GET /v1/time HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn pipelined_requests_come_out_one_by_one() {
    let flood = GET.repeat(1_000);
    let shown = transcript(Listener::Public, [flood.as_slice()]);
    assert_eq!(shown.split(" | ").count(), 1_000);
    assert!(shown.split(" | ").all(|one| one == "Time"));
}

#[test]
fn a_request_is_lent_with_its_fields() {
    let mut conn = Conn::new(Listener::Public, 0);
    let raw = b"POST /v1/items/7/orders HTTP/1.1\r\nhOST: a:80\r\nIdempotency-Key: \"k 1\"\r\n\
        Idempotency-KEY2: z\r\nPrefer: wait=5, Respond-Async\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(conn.feed(raw, 0), raw.len());
    let Next::Request(request) = conn.next() else { panic!("a complete request was fed") };
    assert_eq!((request.head.path, request.head.query), ("/v1/items/7/orders", None));
    assert_eq!(request.body, b"{}");
    assert!(request.head.prefers_async);
    assert!(request.head.idempotency_key().is_err(), "a space is not visible");
}

#[test]
fn deadlines_run_from_the_first_byte_and_are_absolute() {
    let mut conn = Conn::new(Listener::Public, 1_000);
    assert_eq!(conn.deadline_ms(), 77_000, "idle");
    let post = b"POST /v1/items/7/orders HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n{}  ";
    let mut now_ms = 2_000;
    for (index, byte) in post.iter().enumerate() {
        conn.feed(&[*byte], now_ms);
        let complete = matches!(conn.next(), Next::Request(_));
        assert_eq!(complete, index == post.len() - 1);
        let head_ends_ms = 2_000 + 10 * (post.len() as u64 - 5);
        match index {
            _ if complete => {}
            index if index < post.len() - 5 => assert_eq!(conn.deadline_ms(), 7_000, "head, byte {index}"),
            _ => assert_eq!(conn.deadline_ms(), head_ends_ms + 5_000, "body, byte {index}"),
        }
        now_ms += 10;
    }
    assert!(!conn.is_mid_request());
    conn.answered(50_000);
    assert!(matches!(conn.next(), Next::NeedMore));
    assert_eq!(conn.deadline_ms(), 126_000, "idle again");
    assert_eq!(Conn::new(Listener::Public, 5).with_idle_ms(1_000).deadline_ms(), 2_005);
}

#[test]
fn a_waiting_client_is_told_to_continue_once() {
    let head =
        b"POST /v1/items/7/orders HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    let mut conn = Conn::new(Listener::Public, 0);
    conn.feed(head, 0);
    assert!(matches!(conn.next(), Next::NeedMore));
    assert!(conn.take_continue(false));
    assert!(!conn.take_continue(false));
    conn.feed(b"{}", 0);
    assert!(matches!(conn.next(), Next::Request(_)));
    assert!(!conn.take_continue(false));

    let mut conn = Conn::new(Listener::Public, 0);
    conn.feed(&[head.as_slice(), b"{}"].concat(), 0);
    assert!(matches!(conn.next(), Next::Request(_)));
    assert!(!conn.take_continue(false), "the body was there already");

    let mut conn = Conn::new(Listener::Public, 0);
    conn.feed(head, 0);
    assert!(matches!(conn.next(), Next::NeedMore));
    conn.feed(b"{}", 0);
    assert!(matches!(conn.next(), Next::Request(_)));
    assert!(!conn.take_continue(false), "the client did not wait to be told");
}

#[test]
fn an_idle_connection_owns_no_buffer() {
    let mut conn = Conn::new(Listener::Merchant, 0);
    assert_eq!(conn.buffer_bytes(), 0);
    let body = vec![b' '; 60_000];
    let head = format!("PUT /admin/items/1 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let raw = [head.as_bytes(), &body].concat();
    let mut rest = raw.as_slice();
    while !rest.is_empty() {
        assert!(matches!(conn.next(), Next::NeedMore));
        rest = &rest[conn.feed(rest, 0)..];
        assert!(conn.buffer_bytes() <= raw.len() - rest.len() + CONN_BUFFER_BYTES + raw.len() / 2);
    }
    assert!(matches!(conn.next(), Next::Request(request) if request.body.len() == 60_000));
    assert!(matches!(conn.next(), Next::NeedMore));
    assert_eq!(conn.buffer_bytes(), 0, "a large buffer is released at once");
    assert!(!conn.space().is_empty());
    assert_eq!(conn.buffer_bytes(), CONN_BUFFER_BYTES);
    conn.shrink();
    assert_eq!(conn.buffer_bytes(), 0);
}

#[test]
fn what_follows_the_last_request_is_discarded() {
    let mut conn = Conn::new(Listener::Public, 0);
    conn.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 0);
    assert!(matches!(conn.next(), Next::Request(_)));
    assert!(conn.is_finished());
    for _ in 0..1_000 {
        assert_eq!(conn.feed(CANARY, 0), CANARY.len());
        assert!(matches!(conn.next(), Next::NeedMore));
        let len = conn.space().len().min(CANARY.len());
        conn.space()[..len].copy_from_slice(&CANARY[..len]);
        conn.filled(len, 0);
        assert!(matches!(conn.next(), Next::NeedMore));
    }
    assert!(conn.buffer_bytes() <= CONN_BUFFER_BYTES);
}

/// Valid requests, and what must come out of them.
fn valid_request() -> impl Strategy<Value = (Vec<u8>, String)> {
    let headers = proptest::collection::vec(("[A-Za-z][A-Za-z0-9-]{0,12}x9", "[!-~]{0,30}"), 0..12);
    let body = proptest::collection::vec(any::<u8>(), 0..300);
    let target =
        prop_oneof![Just("/v1/items/3/orders"), Just("/v1/orders/4294967297/cancel"), Just("/nowhere")];
    (target, headers, body).prop_map(|(target, headers, body)| {
        let mut raw = format!("POST {target} HTTP/1.1\r\nHost: shop.example:8080\r\n").into_bytes();
        for (name, value) in headers {
            raw.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        raw.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        raw.extend_from_slice(&body);
        let route = match target {
            "/v1/items/3/orders" => "Buy(ItemId(3))",
            "/nowhere" => "404",
            _ => "CancelOrder(OrderId(4294967297))",
        };
        let shown = if body.is_empty() { route.to_owned() } else { format!("{route} body={}", body.len()) };
        (raw, shown)
    })
}

/// Cuts at these positions, which need not be in order or in range.
fn cut<'a>(raw: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(raw.len() + 1)).collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for to in places.into_iter().chain([raw.len()]) {
        pieces.push(&raw[from..to]);
        from = to;
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn right_requests_come_out_as_they_went_in(
        requests in proptest::collection::vec(valid_request(), 1..5),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let raw = requests.iter().flat_map(|(raw, _)| raw.clone()).collect::<Vec<u8>>();
        let expected = requests.iter().map(|(_, shown)| shown.clone()).collect::<Vec<_>>().join(" | ");
        prop_assert_eq!(transcript(Listener::Public, cut(&raw, &cuts)), expected);
    }

    #[test]
    fn any_bytes_get_one_verdict_however_they_are_cut(
        raw in proptest::collection::vec(any::<u8>(), 1..400),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let whole = transcript(Listener::Public, [raw.as_slice()]);
        prop_assert_eq!(whole, transcript(Listener::Public, cut(&raw, &cuts)));
    }

    #[test]
    fn damaged_requests_get_one_verdict_however_they_are_cut(
        (raw, _) in valid_request(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), Just(0)
        ]), 1..4),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let mut raw = raw;
        for (place, byte) in damage {
            let at = place.index(raw.len());
            raw[at] = byte;
        }
        let whole = transcript(Listener::Public, [raw.as_slice()]);
        prop_assert_eq!(&whole, &transcript(Listener::Public, cut(&raw, &cuts)));
        prop_assert_eq!(&whole, &transcript(Listener::Public, raw.chunks(1)));
    }
}

/// The body of a batch comes piece by piece, for every cut; what follows it is the next
/// request, and a body that nobody takes is discarded.
#[test]
fn the_body_of_a_batch_is_handed_out_in_pieces() {
    let body: Vec<u8> = (0..10_000u32).flat_map(u32::to_le_bytes).collect();
    let head = |framing: &str| format!("POST /v1/orders/batch HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
    let next = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let sized = [head(&format!("Content-Length: {}", body.len())).as_bytes(), &body, next].concat();
    let packed = [head("Transfer-Encoding: chunked").as_bytes(), &chunked(&body, 777), next].concat();
    for (takes, stream) in [(true, &sized), (false, &sized), (true, &packed), (false, &packed)] {
        let left = if stream == &packed { Left::Unknown } else { Left::Bytes(body.len()) };
        for cut in [1, 7, 4_096, 70_000] {
            let mut conn = Conn::new(Listener::Merchant, 0);
            let (mut seen, mut taken, mut rest) = (Vec::new(), Vec::new(), &stream[..]);
            loop {
                if takes && conn.is_streaming() && conn.left() != Left::Bytes(0) {
                    // Like records, whole tens of bytes are taken, except at the end.
                    let (left, piece) = (conn.left(), conn.piece());
                    let is_all = left == Left::Bytes(piece.len());
                    let len = if is_all { piece.len() } else { piece.len() / 10 * 10 };
                    taken.extend_from_slice(&piece[..len]);
                    conn.take(len);
                    if len > 0 {
                        continue;
                    }
                } else if let Next::Request(request) = conn.next() {
                    seen.push((request.head.path.to_owned(), request.streamed));
                    continue;
                }
                if rest.is_empty() {
                    break;
                }
                let len = conn.feed(&rest[..rest.len().min(cut)], 0);
                rest = &rest[len..];
                assert!(conn.buffer_bytes() <= 72 * 1024);
            }
            let expected = [("/v1/orders/batch".to_owned(), Some(left)), ("/healthz".to_owned(), None)];
            assert_eq!(seen, expected, "cut into {cut}");
            assert!(taken == if takes { &body[..] } else { &[] }, "cut into {cut}");
            assert!(!conn.is_mid_request() && !conn.is_finished());
        }
    }
}

/// In chunks of so many bytes.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let chunk = |part: &[u8]| [format!("{:x};x=y\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    let end = b"0\r\nX: y\r\n\r\n".to_vec();
    body.chunks(size).map(chunk).chain([end]).flatten().collect()
}

/// What came before a broken chunk is handed out, and the error after it is found, for every cut.
#[test]
fn a_batch_in_broken_chunks_fails_after_what_came() {
    let head = "POST /v1/orders/batch HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let too_much = format!("3\r\nabc\r\n{:x}\r\n", BATCH_BODY_BYTES_MAX - 2);
    for (body, status) in [("3\r\nabc\r\nx", 400), ("3\r\nabcd", 400), (&*too_much, 413)] {
        let stream = format!("{head}{body}GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        for cut in 1..stream.len() {
            let (mut conn, mut taken, mut told) = (Conn::new(Listener::Merchant, 0), Vec::new(), None);
            for piece in stream.as_bytes().chunks(cut) {
                conn.feed(piece, 0);
                if conn.is_streaming() || matches!(conn.next(), Next::Request(_)) {
                    taken.extend_from_slice(conn.piece());
                    let come = conn.piece().len();
                    conn.take(come);
                    told = told.or(conn.broken());
                }
            }
            let told = told.map(|problem| problem.code.status().number());
            assert_eq!((&taken[..], told), (&b"abc"[..], Some(status)), "{body:?}, {cut} bytes at a time");
            assert!(matches!(conn.next(), Next::Reject(_)) && conn.is_finished());
        }
    }
}

/// A batch that closes the connection ends with its body, not with its head.
#[test]
fn a_batch_that_closes_ends_with_its_body() {
    let head = "POST /v1/orders/batch HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let mut conn = Conn::new(Listener::Merchant, 0);
    conn.feed(head.as_bytes(), 1_000);
    assert!(matches!(conn.next(), Next::Request(request) if request.streamed == Some(Left::Bytes(3))));
    assert!(conn.take_continue(false) && !conn.take_continue(false));
    assert_eq!(conn.deadline_ms(), 31_000);
    conn.feed(b"ab", 2_000);
    assert_eq!((conn.piece().to_vec(), conn.left()), (b"ab".to_vec(), Left::Bytes(3)));
    conn.take(2);
    assert!(conn.is_mid_request() && !conn.is_finished());
    conn.feed(b"cGET / HTTP/1.1\r\n\r\n", 3_000);
    assert_eq!(conn.piece(), b"c");
    conn.take(1);
    assert!(matches!(conn.next(), Next::NeedMore));
    assert!(conn.is_finished());
}

/// A head may have as many bytes as the setting says and not one more, for every cut, and the buffer
/// keeps its bound.
#[test]
fn a_head_is_as_long_as_the_setting_says() {
    use stampede_net::http::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX, conn_buffer_bytes_max};
    for head_bytes in [8_192, 9_000, 16_384, HEAD_BYTES_MAX] {
        for (over, cut) in [(0, 40_000), (0, 1_000), (0, 7), (1, 40_000), (1, 1_000), (1, 7)] {
            let begin =
                "POST /v1/orders/4294967297/cancel HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\nCookie: ";
            let cookies = "c".repeat(head_bytes + over - begin.len() - 4);
            let text = format!("{begin}{cookies}\r\n\r\n{}", " ".repeat(BODY_BYTES_MAX));
            let mut conn = Conn::new(Listener::Public, 0).with_head_bytes(head_bytes as u32);
            let (mut rest, mut seen) = (text.as_bytes(), None);
            while seen.is_none() && !rest.is_empty() {
                let taken = conn.feed(&rest[..rest.len().min(cut)], 0);
                rest = &rest[taken..];
                seen = match conn.next() {
                    Next::NeedMore => None,
                    Next::Request(request) => Some(request.body.len().to_string()),
                    Next::Reject(problem) => Some(problem.code.name().to_owned()),
                };
                assert!(conn.buffer_bytes() <= conn_buffer_bytes_max(head_bytes));
            }
            let expected = if over == 0 { "65536" } else { "headers_too_large" };
            assert_eq!(seen.as_deref(), Some(expected), "{head_bytes} + {over}, {cut} at a time");
        }
    }
}

//! Bytes in, request or refusal out; no socket, no shop.

use super::*;

const POST: &str =
    "POST /v1/items/1/orders HTTP/1.1\r\nHost: h\r\nX-Buyer: b\r\nContent-Length: 14\r\n\r\n{\"quantity\":1}";

fn status(text: &str) -> u16 {
    read_request(text.as_bytes()).expect_err(text).status
}

#[test]
fn requests_are_read_whole_and_one_after_another() {
    let two = format!("{POST}GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n");
    for cut in 0..POST.len() {
        assert_eq!(read_request(&POST.as_bytes()[..cut]).unwrap(), None, "at {cut}");
    }
    let first = read_request(two.as_bytes()).unwrap().unwrap();
    assert_eq!((first.buyer, first.body, first.bytes), (Some("b"), &b"{\"quantity\":1}"[..], POST.len()));
    assert!(!first.close);
    let second = read_request(&two.as_bytes()[first.bytes..]).unwrap().unwrap();
    assert_eq!((second.method, second.path, second.close), ("GET", "/stats", true));
}

#[test]
fn what_is_not_understood_is_refused() {
    let with = |field: &str| format!("POST / HTTP/1.1\r\n{field}\r\n\r\n");
    assert_eq!(status(&with("Transfer-Encoding: chunked")), 501);
    assert_eq!(status(&with("Content-Length: 1\r\nContent-Length: 2")), 400);
    assert_eq!(status(&with("Content-Length: +1")), 400);
    assert_eq!(status(&with("Content-Length: 99999")), 413);
    assert_eq!(status(&with(&format!("X: {}", "x".repeat(HEAD_BYTES_MAX)))), 431);
    assert_eq!(status("nonsense\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/3.0\r\n\r\n"), 505);
}

#[test]
fn routes() {
    assert!(matches!(route("/stats"), Route::Stats));
    assert!(matches!(route("/v1/items/7/orders"), Route::Orders(7)));
    for path in
        ["/", "/v1/items//orders", "/v1/items/-1/orders", "/v1/items/99999999999/orders", "/v1/items/1"]
    {
        assert!(matches!(route(path), Route::Nowhere), "{path}");
    }
}

#[test]
fn the_generator_understands_the_responses() {
    use stampede_loadgen::meaning::{Code, meaning_of};
    let meaning = |response: &Response| meaning_of(response.status, false, response.body.as_bytes());
    let won = meaning(&response_to_purchase(1, Bought::Order { order_id: 5, created_at_ms: 9 }));
    assert_eq!((won.code, won.acked.order_id, won.acked.created_at_ms), (Code::Won, 5, 9));
    assert_eq!(meaning(&response_to_purchase(1, Bought::SoldOut)).code, Code::SoldOut);
    assert_eq!(meaning(&response_to_purchase(1, Bought::RateLimited)).code, Code::RateLimited);
    assert_eq!(meaning(&response_to_purchase(1, Bought::CapReached)).code, Code::CapReached);
    let again = response_to_purchase(1, Bought::Again { order_id: 5, created_at_ms: 9 }).bytes(false);
    assert!(String::from_utf8_lossy(&again).contains("\r\nIdempotent-Replay: true\r\n"));
    assert!(
        response_to_purchase(1, Bought::RateLimited).bytes(false).windows(14).any(|w| w == b"Retry-After: 1")
    );
    for code in ["bad_json", "version_conflict"] {
        serde_json::from_str::<serde_json::Value>(&refuse(409, code).body).unwrap();
    }
}

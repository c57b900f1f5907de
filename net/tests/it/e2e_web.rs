//! What real clients, proxies and balancers send to the real program: chunked bodies and no
//! body, links with tracking parameters, health checks on the buyers' port, idle connections.

use crate::e2e_talk::{Http, Talk, item};
use crate::server::{Bed, Server};

fn put(server: &Server, id: u32, settings: &str) {
    let made = Talk::with(server).say(&format!("shop PUT /admin/items/{id} {settings}"));
    assert_eq!(made.status, 201, "{made:?}");
}

#[test]
fn e2e_web_bodies_may_be_chunked_or_missing() {
    let mut bed = Bed::new();
    let server = bed.start();
    put(&server, 1, &item(100, 1, "on_order", 0));
    let mut http = Http::to(server.public);
    let head = |who: &str, lines: &str| {
        format!("POST /v1/items/1/orders HTTP/1.1\r\nHost: shop\r\nX-Buyer: {who}\r\n{lines}\r\n")
    };
    let chunked = "Transfer-Encoding: chunked\r\n";
    let requests = [
        head("none", ""),
        head("empty", chunked) + "0\r\n\r\n",
        head("chunks", chunked) + "5;x=y\r\n{\"qua\r\n9\r\nntity\":1}\r\n0\r\nX: y\r\n\r\n",
        head("length", "Content-Length: 14\r\n") + "{\"quantity\":1}",
    ];
    // On one connection, one after the other, and all at once.
    for request in &requests {
        http.send(request);
        assert_eq!(http.read(false).expect("an answer").brief(), "201 confirmed x1", "{request}");
    }
    let again: String = requests.iter().map(|request| request.replace("X-Buyer: ", "X-Buyer: 2")).collect();
    http.send(&again);
    for _ in &requests {
        assert_eq!(http.read(false).expect("an answer").brief(), "201 confirmed x1");
    }
    // If the length of a body is unclear, the connection ends.
    for doubt in
        ["Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip, chunked\r\n"]
    {
        let mut http = Http::to(server.public);
        http.send(&(head("doubt", doubt) + "0\r\n\r\n"));
        assert!(matches!(http.read(false).expect("an answer").status, 400 | 501));
        assert!(http.read(false).is_none(), "the connection ends");
    }
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn e2e_web_balancers_can_check_the_buyers_port() {
    let mut bed = Bed::new();
    let server = bed.start();
    // HAProxy's `option httpchk` without any settings.
    let mut http = Http::to(server.public);
    http.send("OPTIONS / HTTP/1.0\r\n\r\n");
    let answer = http.read(false).expect("an answer");
    assert_eq!((answer.status, answer.header("Allow")), (204, Some("GET, HEAD, OPTIONS")));
    assert!(http.read(false).is_none(), "HTTP/1.0 closes");
    let mut http = Http::to(server.public);
    for (path, said) in [("/healthz", "{\"live\":true}"), ("/readyz", "{\"ready\":true}")] {
        let answer = http.call(&format!("GET {path}"), &[], "");
        assert_eq!((answer.status, answer.body.as_str()), (200, said));
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    }
    let told = Http::to(server.admin).call("GET /readyz", &[], "");
    assert!(told.body.contains("\"reasons\":[]"), "the shop's own says more: {told:?}");
}

#[test]
fn e2e_web_links_with_trackers_lead_to_their_pages() {
    let mut bed = Bed::new();
    let server = bed.start();
    put(&server, 1, &item(5, 1, "on_order", 0));
    let mut http = Http::to(server.public);
    for path in ["/", "/sale/1", "/v1/items", "/v1/items/1", "/v1/time"] {
        for query in
            ["utm_campaign=double11|phone", "utm={x}[y]^\\`", "utm=双十一", "_=1", "fbclid=%zz&fbclid"]
        {
            assert_eq!(http.call(&format!("GET {path}?{query}"), &[], "").status, 200, "{path}?{query}");
        }
    }
    for host in ["shop", "[::1]:25", "other.example:80"] {
        http.send(&format!("GET http://{host}/v1/time HTTP/1.1\r\nHost: shop\r\n\r\n"));
        assert_eq!(http.read(false).expect("an answer").status, 200, "{host}");
    }
}

#[test]
fn e2e_web_a_connection_may_idle_as_long_as_announced() {
    let mut bed = Bed::new();
    let server = bed.start();
    let said = Http::to(server.public).call("GET /v1/time", &[], "");
    assert_eq!(said.header("Keep-Alive"), Some("timeout=75"));
    let closing = Http::to(server.public).call("GET /v1/time", &["Connection: close"], "");
    assert_eq!((closing.header("Keep-Alive"), closing.header("Connection")), (None, Some("close")));
    assert_eq!(server.stop(), Some(0));

    let mut bed = Bed::new().set("limits.idle_ms", "1000");
    let server = bed.start();
    put(&server, 1, &item(5, 1, "on_order", 0));
    for address in [server.public, server.admin] {
        let mut http = Http::to(address);
        let said = http.call("GET /healthz", &[], "");
        assert_eq!(said.header("Keep-Alive"), Some("timeout=1"));
        assert!(http.read(false).is_none(), "then it is closed without a response");
    }
}

#[test]
fn e2e_web_pages_of_named_origins_may_call() {
    let mut bed = Bed::new().set("identity.cors_origins", "https://www.shop.example");
    let server = bed.start();
    put(&server, 1, &item(5, 1, "on_order", 0));
    let mut http = Http::to(server.public);
    let origin = "Origin: https://www.shop.example";
    let asked = http.call("OPTIONS /v1/items/1/orders", &[origin, "Access-Control-Request-Method: POST"], "");
    assert_eq!(asked.status, 204);
    assert_eq!(asked.header("Access-Control-Allow-Origin"), Some("https://www.shop.example"));
    assert_eq!(asked.header("Access-Control-Allow-Credentials"), Some("true"));
    let buy = ["X-Buyer: bob", origin, "Sec-Fetch-Site: same-site"];
    let bought = http.call("POST /v1/items/1/orders", &buy, "{}");
    assert_eq!(bought.brief(), "201 confirmed x1");
    assert_eq!(bought.header("Access-Control-Allow-Origin"), Some("https://www.shop.example"));
    let foreign = ["X-Buyer: eve", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"];
    let refused = http.call("POST /v1/items/1/orders", &foreign, "{}");
    assert_eq!(refused.brief(), "403 cross_site");
    assert_eq!(refused.header("Access-Control-Allow-Origin"), None);
}

//! The table of routes, on both listeners.

use stampede_core::types::OrderId;
use stampede_net::http::conn::{Conn, Next};
use stampede_net::http::problem::Code;
use stampede_net::http::route::site::SiteCall;
use stampede_net::http::route::{Listener, Route};

/// The route of a request, as text: its kind, or the error code and details.
fn route(listener: Listener, request: &str) -> String {
    let (method, _) = request.split_once(' ').expect("method and target");
    let length = if matches!(method, "POST" | "PUT" | "PATCH") { "Content-Length: 0\r\n" } else { "" };
    let raw = format!("{request} HTTP/1.1\r\nHost: a\r\n{length}\r\n");
    let mut conn = Conn::new(listener, 0);
    assert_eq!(conn.feed(raw.as_bytes(), 0), raw.len());
    let Next::Request(lent) = conn.next() else { panic!("{request} must be framed well") };
    assert!(!lent.head.response_mode().closes());
    match lent.route {
        Ok(route) => format!("{route:?}"),
        Err(problem) => {
            let field = problem.field.map(|field| format!(" {}", field.as_str())).unwrap_or_default();
            let allow = problem.allow.map(|allow| format!(" [{allow}]")).unwrap_or_default();
            format!("{}{field}{allow}", problem.code.name())
        }
    }
}

fn check(listener: Listener, table: &[(&str, &str)]) {
    for (request, expected) in table {
        assert_eq!(route(listener, request), *expected, "{request}");
    }
}

#[test]
fn public_routes() {
    check(
        Listener::Public,
        &[
            ("GET /v1/time", "Time"),
            ("HEAD /v1/time", "Time"),
            ("GET /v1/items", "Items(ListQuery { limit: 100, after: Start })"),
            (
                "GET /v1/items?after=s12-7",
                "Items(ListQuery { limit: 100, after: Place(Live(UnixMillis(12), ItemId(7))) })",
            ),
            ("GET /v1/items?limit=5&after=7", "Items(ListQuery { limit: 5, after: Item(ItemId(7)) })"),
            ("GET /v1/items/7", "Item(ItemId(7))"),
            ("GET /v1/items/7/draw", "Draw(DrawQuery { item: ItemId(7), limit: 1000, after: None })"),
            (
                "GET /v1/items/7/draw?limit=5&after=30064771073",
                "Draw(DrawQuery { item: ItemId(7), limit: 5, after: Some(OrderId(30064771073)) })",
            ),
            ("GET /v1/items/2147483647", "Item(ItemId(2147483647))"),
            ("POST /v1/items/7/orders", "Buy(ItemId(7))"),
            ("POST /v1/items/7/ticket", "Ticket(ItemId(7))"),
            ("GET /v1/items/7/challenge", "Challenge(ItemId(7))"),
            ("GET /v1/orders", "Orders(OrdersQuery { limit: 50, after: Oldest(None) })"),
            (
                "GET /v1/orders?order=newest&after=12-4294967297",
                "Orders(OrdersQuery { limit: 50, after: Newest(Some((UnixMillis(12), OrderId(4294967297)))) })",
            ),
            ("GET /v1/orders?limit=1", "Orders(OrdersQuery { limit: 1, after: Oldest(None) })"),
            (
                "GET /v1/orders?after=4294967297&limit=200",
                "Orders(OrdersQuery { limit: 200, after: Oldest(Some(OrderId(4294967297))) })",
            ),
            ("GET /v1/orders/4294967297", "Order { order: OrderId(4294967297), wait_ms: 0 }"),
            (
                "GET /v1/orders/4294967297?wait_ms=30000",
                "Order { order: OrderId(4294967297), wait_ms: 30000 }",
            ),
            ("GET /v1/orders/4294967297?wait_ms=0", "Order { order: OrderId(4294967297), wait_ms: 0 }"),
            ("POST /v1/orders/4294967297/cancel", "CancelOrder(OrderId(4294967297))"),
            ("GET /healthz", "PublicHealthz"),
            ("HEAD /readyz", "PublicReadyz"),
        ],
    );
}

#[test]
fn every_path_says_what_it_takes() {
    check(
        Listener::Public,
        &[
            ("OPTIONS *", "Options(\"GET, HEAD, POST, PUT, DELETE, OPTIONS\")"),
            ("OPTIONS /", "Options(\"GET, HEAD, OPTIONS\")"),
            ("OPTIONS /v1/time?x=|", "Options(\"GET, HEAD, OPTIONS\")"),
            ("OPTIONS /v1/items/7/orders", "Options(\"POST, OPTIONS\")"),
            ("OPTIONS /sale/7", "Options(\"GET, HEAD, POST, OPTIONS\")"),
            ("OPTIONS /healthz", "Options(\"GET, HEAD, OPTIONS\")"),
            ("OPTIONS /nowhere", "not_found"),
            ("OPTIONS /admin/items/7", "not_found"),
        ],
    );
    check(
        Listener::Merchant,
        &[
            ("OPTIONS /admin/items/7", "Options(\"GET, HEAD, PUT, OPTIONS\")"),
            ("OPTIONS /admin/blocklist/bob", "Options(\"PUT, DELETE, OPTIONS\")"),
            ("OPTIONS /v1/orders/batch", "Options(\"POST, OPTIONS\")"),
        ],
    );
}

#[test]
fn routes_of_the_sale_page() {
    use stampede_net::site::assets::SCRIPT;
    let script = SCRIPT.path;
    check(
        Listener::Public,
        &[
            ("GET /", "Site(List)"),
            ("HEAD /", "Site(List)"),
            ("GET /sale/7", "Site(Sale(ItemId(7)))"),
            ("GET /?utm_source=a&utm_medium=b&c&d=%20&e=&f=+", "Site(List)"),
            ("GET /sale/7?fbclid=x&again=1", "Site(Sale(ItemId(7)))"),
            ("POST /sale/7", "Site(Buy { item: ItemId(7), again: false })"),
            ("POST /sale/7?again=1", "Site(Buy { item: ItemId(7), again: true })"),
            ("POST /sale/7?again=2", "bad_request again"),
            ("POST /sale/7?again=1&x=1", "bad_request again"),
            ("GET /sale/1/order/4294967297", "Site(Order(OrderId(4294967297)))"),
            ("POST /sale/1/order/4294967297/cancel", "Site(Cancel(OrderId(4294967297)))"),
            ("POST /sale/1/order/4294967297/pay", "Site(Pay(OrderId(4294967297)))"),
            ("POST /v1/demo/session", "Site(Session)"),
            ("POST /v1/demo/orders/4294967297/pay", "Site(PayOwn(OrderId(4294967297)))"),
            ("POST /v1/demo/session?x=1", "bad_request x"),
            ("GET /favicon.ico", "Site(Favicon)"),
            (&format!("GET {script}"), &format!("Site(Asset({script}))")),
            ("PUT /sale/7", "method_not_allowed [GET, HEAD, POST, OPTIONS]"),
            ("POST /", "method_not_allowed [GET, HEAD, OPTIONS]"),
            ("GET /v1/demo/session", "method_not_allowed [POST, OPTIONS]"),
            ("GET /sale/1/order/4294967297/pay", "method_not_allowed [POST, OPTIONS]"),
            ("POST /sale/1/order/4294967297", "method_not_allowed [GET, HEAD, OPTIONS]"),
        ],
    );
    for path in ["/", "/sale/7", "/favicon.ico", "/v1/demo/session"] {
        assert_eq!(route(Listener::Merchant, &format!("GET {path}")), "not_found", "{path}");
    }
}

#[test]
fn merchant_routes() {
    check(
        Listener::Merchant,
        &[
            ("PUT /admin/items/7", "PutItem(ItemId(7))"),
            ("GET /admin/items", "AdminItems(ItemsQuery { limit: 100, after: None, newest: false })"),
            (
                "GET /admin/items?order=newest&after=7",
                "AdminItems(ItemsQuery { limit: 100, after: Some(ItemId(7)), newest: true })",
            ),
            ("GET /admin/items/7", "AdminItem(ItemId(7))"),
            ("POST /admin/items/7/restock", "Restock(ItemId(7))"),
            ("POST /admin/items/7/pause", "PauseItem(ItemId(7))"),
            ("POST /admin/items/7/resume", "ResumeItem(ItemId(7))"),
            ("POST /admin/items/7/close", "CloseItem(ItemId(7))"),
            (
                "GET /admin/items/7/books",
                "Books(BooksQuery { item: ItemId(7), limit: 1000, after: 0, rows: false })",
            ),
            (
                "GET /admin/items/7/books?after=5&limit=2&rows=true",
                "Books(BooksQuery { item: ItemId(7), limit: 2, after: 5, rows: true })",
            ),
            ("GET /admin/items/7/books?limit=1001", "bad_request limit"),
            ("POST /admin/items/7/books", "method_not_allowed [GET, HEAD, OPTIONS]"),
            ("GET /admin/items/7/books?rows=yes", "bad_request rows"),
            ("POST /admin/items/7/mismatch", "Mismatch(ItemId(7))"),
            ("GET /admin/items/7/mismatch", "method_not_allowed [POST, OPTIONS]"),
            (
                "GET /admin/orders",
                "AdminOrders(AdminOrdersQuery { item: None, buyer: None, state: None, payment_ref: None, from_ms: 0, to_ms: 0, \
             newest: false, late_payments: false, limit: 100, after: None })",
            ),
            (
                "GET /admin/orders?item=7&buyer=a%20%C3%A4&limit=1000&after=4294967297",
                "AdminOrders(AdminOrdersQuery { item: Some(ItemId(7)), buyer: Some(a \\xc3\\xa4), state: None, \
             payment_ref: None, from_ms: 0, to_ms: 0, newest: false, late_payments: false, limit: 1000, after: Some(OrderId(4294967297)) })",
            ),
            ("GET /admin/orders/4294967297", "AdminOrder(OrderId(4294967297))"),
            ("POST /admin/orders/4294967297/pay", "PayOrder(OrderId(4294967297))"),
            ("POST /admin/orders/4294967297/refund", "RefundOrder(OrderId(4294967297))"),
            ("POST /admin/orders/4294967297/cancel", "AdminCancelOrder(OrderId(4294967297))"),
            ("POST /admin/orders/4294967297/extend", "ExtendOrder(OrderId(4294967297))"),
            ("PUT /admin/blocklist/bob", "Block(bob)"),
            ("DELETE /admin/blocklist/bob", "Unblock(bob)"),
            ("PUT /admin/blocklist/a+b", "Block(a+b)"),
            ("PUT /admin/blocklist/a%2Fb", "Block(a/b)"),
            ("PUT /admin/blocklist/%e4%b9%b0", "Block(\\xe4\\xb9\\xb0)"),
            ("GET /admin/blocklist", "Blocklist(BlocklistQuery { limit: 100, after: None })"),
            (
                "GET /admin/blocklist?limit=5&after=a%20b",
                "Blocklist(BlocklistQuery { limit: 5, after: Some(a b) })",
            ),
            ("GET /admin/audit?order=newest", "Audit(AuditQuery { limit: 100, after: 0, newest: true })"),
            ("GET /admin/stats", "Stats"),
            ("GET /admin/audit", "Audit(AuditQuery { limit: 100, after: 0, newest: false })"),
            ("GET /admin/audit?after=12&limit=5", "Audit(AuditQuery { limit: 5, after: 12, newest: false })"),
            ("GET /metrics", "Metrics"),
            ("GET /healthz", "Healthz"),
            ("GET /readyz", "Readyz"),
        ],
    );
}

#[test]
fn paths_that_do_not_exist() {
    let public = [
        "/v1",
        "/v1/",
        "/v1/items/",
        "/v1/items/-1",
        "/v1/items/+1",
        "/v1/items/01",
        "/v1/items/1.0",
        "/v1/items/1e1",
        "/v1/items/x",
        "/v1/items/1/",
        "/v1/items/1/orders/",
        "/v1/items/1/orders/2/3/4/5",
        "/v1/items/1/tickets",
        "/v1/items/1/challenges",
        "/v1/demo",
        "/v1/demo/session/",
        "/v1/demo/orders/4294967297",
        "/v1/demo/orders/1/pay",
        "/v1/demo/orders/4294967297/pay/",
        "//",
        "/index.html",
        "/sale",
        "/sale/",
        "/sale/0",
        "/sale/01",
        "/sale/x",
        "/sale/1/",
        "/sale/1/order",
        "/sale/1/order/4294967296",
        "/sale/1/order/8589934593",
        "/sale/1/order/4294967297/",
        "/sale/1/order/4294967297/refund",
        "/sale/1/order/4294967297/pay/",
        "/sale/1/order/4294967297/pay/x",
        "/assets",
        "/assets/",
        "/assets/sale.js",
        "/assets/../sale.js",
        "/favicon.ico/",
        "/V1/time",
        "/v1/Time",
        "/v2/time",
        "/v1/orders/",
        "/v1/orders/1",
        "/v1/orders/4294967296",
        "/v1/orders/04294967297",
        "/v1/orders/9223372036854775808",
        "/v1/orders/4294967297/",
        "/v1/orders/4294967297/pay",
        "/v1/orders/4294967297/cancel/",
        "/metrics",
        "/healthz/",
        "/readyz/x",
        "/admin",
        "/admin/items",
        "/admin/items/1",
        "/admin/stats",
        "/v1/time;x",
        "/v1//time",
        "/v1/items/1%20",
        "/v1/time/x/y/z/1/2/3",
    ];
    for path in public {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(route(Listener::Public, &format!("{method} {path}")), "not_found", "{method} {path}");
        }
    }
    let merchant = [
        "/",
        "/v1/time",
        "/v1/items",
        "/v1/items/1",
        "/v1/items/1/orders",
        "/v1/orders",
        "/admin",
        "/admin/",
        "/admin/items/",
        "/admin/items/1/",
        "/admin/items/1/stop",
        "/admin/items/1/pause/",
        "/admin/orders/1",
        "/admin/orders/4294967297/void",
        "/admin/blocklist/",
        "/admin/blocklist/a/b",
        "/metrics/",
        "/healthz/",
        "/admin/stats/",
    ];
    for path in merchant {
        assert_eq!(route(Listener::Merchant, &format!("GET {path}")), "not_found", "{path}");
    }
    // A number that is no item's id gets an error that says so; an unknown path is not found.
    for id in ["0", "2147483648", "4294967296", "18446744073709551616", "99999999999999999999999"] {
        for call in
            ["GET /v1/items/#", "POST /v1/items/#/orders", "POST /v1/items/#/ticket", "GET /v1/items/#/draw"]
        {
            let told = route(Listener::Public, &call.replace('#', id));
            assert!(told.starts_with("invalid_field item_id"), "{call} {id}: {told}");
            assert_eq!(route(Listener::Public, &(call.replace('#', id) + "/x")), "not_found");
        }
        for call in [
            "PUT /admin/items/#",
            "GET /admin/items/#",
            "POST /admin/items/#/restock",
            "GET /admin/items/#/books",
        ] {
            let told = route(Listener::Merchant, &call.replace('#', id));
            assert!(told.starts_with("invalid_field item_id"), "{call} {id}: {told}");
        }
        let told = route(Listener::Merchant, &format!("GET /admin/orders?item={id}"));
        assert!(told.starts_with("invalid_field item"), "{id}: {told}");
    }
    let long = "s".repeat(256);
    for sub in [&long, "%ff", "%c2%85", "a%00", "a%0Ab"] {
        let told = route(Listener::Merchant, &format!("PUT /admin/blocklist/{sub}"));
        assert!(told.starts_with("invalid_field sub"), "{sub}: {told}");
    }
    assert_eq!(
        route(Listener::Merchant, &format!("PUT /admin/blocklist/{}", &long[1..])),
        format!("Block({})", &long[1..])
    );
}

#[test]
fn methods_that_are_not_allowed_say_which_are() {
    let get = "method_not_allowed [GET, HEAD, OPTIONS]";
    let post = "method_not_allowed [POST, OPTIONS]";
    check(
        Listener::Public,
        &[
            ("POST /v1/time", get),
            ("DELETE /v1/items", get),
            ("PUT /v1/items/7", get),
            ("POST /v1/items/7/draw", get),
            ("POST /v1/orders", get),
            ("POST /v1/orders/4294967297", get),
            ("PATCH /v1/time", get),
            ("TRACE /v1/time", get),
            ("GET /v1/items/7/orders", post),
            ("GET /v1/items/7/ticket", post),
            ("POST /v1/items/7/challenge", get),
            ("PUT /v1/items/7/orders", post),
            ("HEAD /v1/items/7/orders", post),
            ("GET /v1/orders/4294967297/cancel", post),
        ],
    );
    check(
        Listener::Merchant,
        &[
            ("POST /admin/items/7", "method_not_allowed [GET, HEAD, PUT, OPTIONS]"),
            ("DELETE /admin/items/7", "method_not_allowed [GET, HEAD, PUT, OPTIONS]"),
            ("GET /admin/blocklist/bob", "method_not_allowed [PUT, DELETE, OPTIONS]"),
            ("POST /admin/blocklist/bob", "method_not_allowed [PUT, DELETE, OPTIONS]"),
            ("POST /admin/items", get),
            ("POST /admin/orders", get),
            ("POST /admin/stats", get),
            ("POST /metrics", get),
            ("GET /admin/items/7/pause", post),
            ("PUT /admin/items/7/restock", post),
            ("GET /admin/orders/4294967297/pay", post),
        ],
    );
}

#[test]
fn queries_that_the_call_does_not_take() {
    check(
        Listener::Public,
        &[
            ("GET /v1/items?limit=0", "bad_request limit"),
            ("GET /v1/items?limit=101", "bad_request limit"),
            ("POST /v1/orders/4294967297/cancel?x=1", "bad_request x"),
            ("POST /v1/items/7/ticket?", "Ticket(ItemId(7))"),
            ("POST /v1/items/7/orders?quantity=1", "bad_request quantity"),
            ("GET /v1/orders?limit=0", "bad_request limit"),
            ("GET /v1/orders?limit=201", "bad_request limit"),
            ("GET /v1/orders?limit=65537", "bad_request limit"),
            ("GET /v1/orders?limit=-1", "bad_request limit"),
            ("GET /v1/orders?limit=+1", "bad_request limit"),
            ("GET /v1/orders?limit=01", "bad_request limit"),
            ("GET /v1/orders?limit=1.5", "bad_request limit"),
            ("GET /v1/orders?limit=%31", "bad_request limit"),
            ("GET /v1/orders?limit=", "bad_request limit"),
            ("GET /v1/orders?limit=1&limit=1", "bad_request limit"),
            ("GET /v1/orders?limit=1;after=2", "bad_request limit"),
            ("GET /v1/orders?after=1", "bad_request after"),
            ("GET /v1/orders/4294967297?wait_ms=30001", "bad_request wait_ms"),
            ("GET /v1/orders/4294967297?wait_ms=18446744073709551617", "bad_request wait_ms"),
        ],
    );
    let all = "Orders(OrdersQuery { limit: 50, after: Oldest(None) })";
    let first = "Orders(OrdersQuery { limit: 1, after: Oldest(None) })";
    check(
        Listener::Public,
        &[
            ("GET /v1/orders?", all),
            ("GET /v1/orders?limit", all),
            ("GET /v1/orders?=1", all),
            ("GET /v1/orders?Limit=1", all),
            ("GET /v1/orders?_=1&fbclid=x&fbclid=y&a&b=2&c=3&d=4&e=5", all),
            ("GET /v1/orders?&limit=1&", first),
            ("GET /v1/orders?wait_ms=1&limit=1", first),
            ("GET /v1/time?x=1", "Time"),
            ("GET /v1/items?_=1", "Items(ListQuery { limit: 100, after: Start })"),
            ("GET /v1/items/7?utm_campaign=11|{}[]^\\`", "Item(ItemId(7))"),
            ("HEAD /v1/items/7/draw?_=ä", "Draw(DrawQuery { item: ItemId(7), limit: 1000, after: None })"),
            ("GET /v1/items/7/challenge?%", "Challenge(ItemId(7))"),
            ("GET /healthz?_=1", "PublicHealthz"),
        ],
    );
    check(
        Listener::Merchant,
        &[
            ("GET /admin/items?_=1", "bad_request _"),
            ("GET /admin/items?limit", "bad_request"),
            ("GET /admin/items?=1", "bad_request"),
            ("GET /admin/items?limit=1&", "bad_request"),
            ("GET /admin/items?Limit=1", "bad_request Limit"),
            ("GET /admin/orders?a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9&j=0", "bad_request"),
            ("GET /admin/orders?buyer=|", "bad_request"),
            ("GET /admin/orders?item=0", "invalid_field item"),
            ("GET /admin/orders?buyer=", "bad_request buyer"),
            ("GET /admin/orders?buyer=a+b", "bad_request buyer"),
            ("GET /admin/orders?buyer=%00", "bad_request buyer"),
            ("GET /admin/orders?limit=1001", "bad_request limit"),
            ("GET /admin/audit?after=-1", "bad_request after"),
            ("GET /healthz?x=1", "bad_request x"),
        ],
    );
}

#[test]
fn only_reads_that_name_nobody_are_open() {
    assert!(Route::Healthz.is_open() && Route::Metrics.is_open() && Route::Time.is_open());
    assert!(!Route::Stats.is_open());
    assert!(Route::Site(SiteCall::List).is_open());
    let order = OrderId::from_u64(1 << 32 | 1).expect("an order");
    assert!(!Route::Site(SiteCall::Order(order)).is_open());
}

#[test]
fn codes_are_unique_and_have_the_status_of_the_contract() {
    let mut names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Code::ALL.len());
    // docs/API.md, "Errors".
    let contract: &[(u16, &str)] = &[
        (400, "bad_request bad_json bad_quantity unknown_field bad_header"),
        (401, "unauthenticated"),
        (
            403,
            "not_open ended ticket_required ticket_invalid challenge_required challenge_failed not_eligible",
        ),
        (404, "not_found"),
        (405, "method_not_allowed"),
        (413, "body_too_large"),
        (414, "target_too_long"),
        (431, "headers_too_large"),
        (501, "not_implemented"),
        (505, "version_not_supported"),
        (
            409,
            "sold_out cap_reached paused hold_expired not_cancellable idempotency_key_running already_paid",
        ),
        (422, "idempotency_key_reused invalid_field"),
        (429, "rate_limited"),
        (503, "overloaded log_full draining awaiting_database"),
    ];
    for (status, codes) in contract {
        for name in codes.split(' ') {
            let code = Code::ALL.iter().find(|code| code.name() == name).expect(name);
            assert_eq!(code.status().number(), *status, "{name}");
        }
    }
}

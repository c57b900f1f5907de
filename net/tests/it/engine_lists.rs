//! Lists: one shape (`limit`, `after`, `has_more`), filters, newest first, over several cores.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde_json::Value;
use stampede_net::engine::home::Client;
use stampede_net::http::conn::Conn;
use stampede_net::http::route::Listener;

use crate::rig::{Base, Rig, Setup};

const TOKEN: &str = "token-of-the-test-shop";
const CORES: usize = 3;

struct Shop {
    rig: Rig,
}

impl Shop {
    fn open() -> Self {
        let setup = Setup { admin_token: TOKEN.into(), ..Setup::default() };
        Self { rig: Rig::on(Base::made(CORES, setup), CORES, |_, _| {}) }
    }

    /// One request on a connection of its own; returns status and body.
    fn ask(&mut self, listener: Listener, call: &str, lines: &str, body: &str) -> (u16, Value) {
        let token = self.rig.homes[0].connections.enter();
        let conn = Conn::new(listener, 0);
        let mut client = Client::new(token, conn, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let text = format!("{call} HTTP/1.1\r\nHost: shop\r\n{lines}{length}\r\n{body}");
        assert_eq!(client.conn.feed(text.as_bytes(), self.rig.homes[0].mono_ms()), text.len());
        let deadline = Instant::now() + Duration::from_secs(30);
        while client.out.is_empty() {
            assert!(Instant::now() < deadline, "{call}: no answer");
            self.rig.homes[0].serve(&mut client);
            for home in &mut self.rig.homes {
                home.read_clock();
                while home.pump() {}
            }
        }
        self.rig.homes[0].connections.leave(token);
        let answer = String::from_utf8(client.out).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).expect(body) };
        (head[9..12].parse().expect("a status"), body)
    }

    fn shop(&mut self, call: &str, body: &str) -> (u16, Value) {
        self.ask(Listener::Merchant, call, &format!("Authorization: Bearer {TOKEN}\r\n"), body)
    }

    fn buy(&mut self, item: u32, buyer: &str) -> String {
        let call = format!("POST /v1/items/{item}/orders");
        let (status, order) = self.ask(Listener::Public, &call, &format!("X-Buyer: {buyer}\r\n"), "{}");
        assert_eq!(status, 201, "{order}");
        order["order_id"].as_str().expect("an id").to_owned()
    }

    fn walk(&mut self, call: &str, rows: &str, key: &str) -> (Vec<String>, usize) {
        let admin = format!("Authorization: Bearer {TOKEN}\r\n");
        self.walk_on(Listener::Merchant, call, &admin, (rows, key))
    }

    /// All entries of a list, page by page, and the number of pages. `key` names a row's cursor.
    fn walk_on(
        &mut self,
        listener: Listener,
        call: &str,
        lines: &str,
        (rows, key): (&str, &str),
    ) -> (Vec<String>, usize) {
        let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let joint = if call.contains('?') { '&' } else { '?' };
            let (status, page) = self.ask(listener, &format!("{call}{joint}limit=3{after}"), lines, "");
            assert_eq!(status, 200, "{call}: {page}");
            let text = |row: &Value| row[key].as_str().map_or_else(|| row[key].to_string(), str::to_owned);
            seen.extend(page[rows].as_array().expect("rows").iter().map(text));
            assert!(page[rows].as_array().expect("rows").len() <= 3);
            pages += 1;
            if !page["has_more"].as_bool().expect("every list says whether there is more") {
                return (seen, pages);
            }
            let next = page["next_after"].as_str().or(seen.last().map(String::as_str)).expect("a cursor");
            after = format!("&after={next}");
            assert!(pages < 100, "{call} has no end");
        }
    }
}

#[test]
fn engine_lists_of_orders_are_filtered_and_come_newest_first() {
    let mut shop = Shop::open();
    let settings = r#"{"name":"x","stock":100,"opens_at_ms":0,"closes_at_ms":200000000000000,"cap":9"#;
    for item in 21..=26 {
        let held = if item % 2 == 0 { r#","payment":"hold","hold_ms":3600000}"# } else { "}" };
        assert_eq!(shop.shop(&format!("PUT /admin/items/{item}"), &format!("{settings}{held}")).0, 201);
    }
    let (mut all, mut anns) = (Vec::new(), Vec::new());
    for nth in 0..4 {
        for item in 21..=26 {
            let buyer = if nth == 1 { "ann" } else { "bob" };
            let order = shop.buy(item, buyer);
            if buyer == "ann" {
                anns.push(order.clone());
            }
            all.push(order);
        }
    }
    let number = |order: &String| order.parse::<u64>().expect("a number");
    all.sort_unstable_by_key(number);
    assert_eq!(shop.walk("GET /admin/orders", "orders", "order_id").0, all);
    assert_eq!(shop.walk("GET /admin/orders?buyer=ann", "orders", "order_id").0, anns);
    let of_item = |item: u64| all.iter().filter(move |order| number(order) >> 32 == item).cloned();
    for item in 21..=26 {
        let mut newest: Vec<String> = of_item(item).collect();
        assert_eq!(newest.len(), 4);
        assert_eq!(
            shop.walk(&format!("GET /admin/orders?item={item}&order=oldest"), "orders", "order_id").0,
            newest
        );
        newest.reverse();
        assert_eq!(
            shop.walk(&format!("GET /admin/orders?item={item}&order=newest"), "orders", "order_id").0,
            newest
        );
    }
    // One is paid with a long reference, one cancelled.
    let held: Vec<String> = of_item(22).collect();
    let reference = "r".repeat(255);
    let paid = shop
        .shop(&format!("POST /admin/orders/{}/pay", held[2]), &format!(r#"{{"payment_ref":"{reference}"}}"#));
    assert_eq!((paid.0, paid.1["state"].as_str()), (200, Some("paid")));
    assert_eq!(shop.shop(&format!("POST /admin/orders/{}/cancel", held[0]), "").0, 200);
    let by = |query: &str| format!("GET /admin/orders?{query}");
    assert_eq!(
        shop.walk(&by(&format!("payment_ref={reference}")), "orders", "order_id").0,
        [held[2].clone()]
    );
    assert_eq!(shop.walk(&by("payment_ref=other"), "orders", "order_id").0, [] as [String; 0]);
    assert_eq!(shop.walk(&by("state=cancelled"), "orders", "order_id").0, [held[0].clone()]);
    assert_eq!(shop.walk(&by("state=held"), "orders", "order_id").0.len(), 10);
    assert_eq!(shop.walk(&by("state=confirmed&buyer=ann&item=21"), "orders", "order_id").0.len(), 1);
    assert_eq!(shop.walk(&by("buyer=ann&item=21&order=newest"), "orders", "order_id").0.len(), 1);
    let page = shop.shop("GET /admin/orders?limit=1000", "").1;
    let times: Vec<u64> =
        page["orders"].as_array().unwrap().iter().map(|o| o["created_at_ms"].as_u64().unwrap()).collect();
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert_eq!(shop.walk(&by(&format!("from_ms={first}")), "orders", "order_id").0.len(), 24);
    assert_eq!(shop.walk(&by(&format!("from_ms={}", last + 1)), "orders", "order_id").0.len(), 0);
    assert_eq!(shop.walk(&by(&format!("to_ms={}", last + 1)), "orders", "order_id").0.len(), 24);
    assert_eq!(shop.walk(&by(&format!("to_ms={first}")), "orders", "order_id").0.len(), 0);
    for (query, field) in [
        ("order=newest", "order"),
        ("from_ms=1764086400", "from_ms"),
        ("to_ms=1764086400", "to_ms"),
        ("item=2147483648", "item"),
    ] {
        let refused = shop.shop(&by(query), "");
        assert_eq!((refused.0, refused.1["field"].as_str()), (422, Some(field)), "{query}");
    }
    for query in ["state=gone", "order=up", "from_ms=x", "payment_ref="] {
        assert_eq!(shop.shop(&by(query), "").0, 400, "{query}");
    }
}

#[test]
fn engine_lists_say_whether_there_is_more() {
    let mut shop = Shop::open();
    let settings = r#"{"name":"x","stock":1,"opens_at_ms":0,"closes_at_ms":200000000000000}"#;
    for item in 21..=27 {
        assert_eq!(shop.shop(&format!("PUT /admin/items/{item}"), settings).0, 201);
    }
    let mut items: Vec<String> = (21..=27).map(|item| item.to_string()).collect();
    items.push(shop.rig.item.get().to_string());
    items.sort_unstable_by_key(|item| item.parse::<u32>().unwrap());
    assert_eq!(shop.walk("GET /admin/items", "items", "id").0, items);
    items.reverse();
    assert_eq!(shop.walk("GET /admin/items?order=newest", "items", "id").0, items);
    let (status, page) = shop.ask(Listener::Public, "GET /v1/items?limit=7", "", "");
    assert_eq!((status, page["has_more"].as_bool()), (200, Some(true)));
    let (_, page) = shop.ask(Listener::Public, "GET /v1/items?limit=8", "", "");
    assert_eq!((page["items"].as_array().unwrap().len(), page["has_more"].as_bool()), (8, Some(false)));

    // Buyers with all kinds of names, each once, in a stable order.
    assert_eq!(shop.walk("GET /admin/blocklist", "buyers", "buyer").0, [] as [String; 0]);
    let long = "l".repeat(255);
    let mut names: Vec<String> = (0..6).map(|n| format!("b{n}")).chain([long]).collect();
    for name in &names {
        assert_eq!(shop.shop(&format!("PUT /admin/blocklist/{name}"), "").0, 200);
    }
    let (mut listed, pages) = shop.walk("GET /admin/blocklist", "buyers", "buyer");
    assert_eq!(pages, 3);
    listed.sort_unstable();
    names.sort_unstable();
    assert_eq!(listed, names);
    assert_eq!(shop.shop("DELETE /admin/blocklist/b3", "").0, 200);
    assert!(!shop.walk("GET /admin/blocklist", "buyers", "buyer").0.contains(&"b3".to_owned()));

    let oldest = shop.walk("GET /admin/audit", "entries", "lsn").0;
    let mut newest = shop.walk("GET /admin/audit?order=newest", "entries", "lsn").0;
    assert!(oldest.len() >= 15, "{oldest:?}");
    newest.reverse();
    assert_eq!(newest, oldest);
}

const PAST: u64 = 1_000_000_000_000;
const FUTURE: u64 = 200_000_000_000_000;

impl Shop {
    fn put(&mut self, item: u32, opens: u64, closes: u64) {
        let body =
            format!(r#"{{"name":"x","stock":9,"cap":9,"opens_at_ms":{opens},"closes_at_ms":{closes}}}"#);
        assert_eq!(self.shop(&format!("PUT /admin/items/{item}"), &body).0, 201);
    }

    /// A page of the list for buyers, and its cursor.
    fn listed(&mut self, query: &str) -> (Vec<u64>, Option<String>) {
        let (status, page) = self.ask(Listener::Public, &format!("GET /v1/items?{query}"), "", "");
        assert_eq!(status, 200, "{query}: {page}");
        let ids =
            page["items"].as_array().expect("items").iter().map(|item| item["id"].as_u64().expect("an id"));
        let next = page["next_after"].as_str().map(str::to_owned);
        assert_eq!(page["has_more"].as_bool(), Some(next.is_some()), "{page}");
        (ids.collect(), next)
    }
}

/// First what is on sale, by its opening; then what is upcoming, the soonest first; then what is
/// over, the last one first. A client that follows the cursor misses nothing that was not moved.
#[test]
fn engine_lists_show_first_what_is_on_sale() {
    let mut shop = Shop::open();
    let rigs = u64::from(shop.rig.item.get());
    for item in 21..=26 {
        shop.put(item, PAST + 100 - u64::from(item), FUTURE);
    }
    for item in [31, 32, 33] {
        shop.put(item, FUTURE - 1_000 - u64::from(item), FUTURE);
    }
    for item in [11, 12, 13] {
        shop.put(item, PAST, FUTURE + u64::from(item));
        assert_eq!(shop.shop(&format!("POST /admin/items/{item}/close"), "").0, 200);
    }
    assert_eq!(shop.shop("POST /admin/items/24/pause", "").0, 200);
    let whole = [26, 25, 24, 23, 22, 21, 33, 32, 31, 13, 12, 11];
    let in_order = |seen: Vec<String>| -> Vec<u64> {
        let ids = seen.iter().map(|id| id.parse().expect("an id"));
        ids.filter(|&id| id != rigs).collect()
    };
    let (walked, pages) = shop.walk_on(Listener::Public, "GET /v1/items", "", ("items", "id"));
    assert_eq!((in_order(walked), pages), (whole.to_vec(), 5));
    // The item at the end of a page is closed, and so is a later one: all others come once.
    let (mut seen, next) = shop.listed("limit=4");
    let last = seen.last().copied().expect("a page");
    for item in [last, 21] {
        assert_eq!(shop.shop(&format!("POST /admin/items/{item}/close"), "").0, 200);
    }
    let mut next = next;
    while let Some(after) = next {
        let page = shop.listed(&format!("limit=2&after={after}"));
        seen.extend(page.0);
        next = page.1;
    }
    seen.retain(|&id| id != rigs);
    let times = |id: u64| seen.iter().filter(|&&seen| seen == id).count();
    for id in whole {
        assert_eq!(times(id), if id == last { 2 } else { 1 }, "item {id} in {seen:?}");
    }
    // An item's id stands for its present place; after an unknown id the list begins again.
    assert_eq!(shop.listed("limit=2&after=33").0, [32, 31]);
    assert_eq!(shop.listed("limit=3&after=2147483647"), shop.listed("limit=3"));
    for bad in ["after=s1", "after=x", "after=s1-0", "after=-1", "after=e1-1-1", "limit=101"] {
        let (status, _) = shop.ask(Listener::Public, &format!("GET /v1/items?{bad}"), "", "");
        assert_eq!(status, 400, "{bad}");
    }
}

#[test]
fn engine_lists_of_own_orders_come_newest_first() {
    let mut shop = Shop::open();
    for item in 21..=26 {
        shop.put(item, 0, FUTURE);
    }
    let mut orders = Vec::new();
    for item in [25, 21, 26, 23, 21, 25, 22, 24, 21, 26] {
        orders.push(shop.buy(item, "ann"));
        shop.buy(item, "bob");
        let now_ms = shop.rig.homes[0].read_clock().sale;
        while shop.rig.homes[0].read_clock().sale == now_ms {}
    }
    let ann = "X-Buyer: ann\r\n";
    let rows = ("orders", "order_id");
    let newest = shop.walk_on(Listener::Public, "GET /v1/orders?order=newest", ann, rows).0;
    assert!(newest.iter().eq(orders.iter().rev()), "{newest:?} of {orders:?}");
    orders.sort_unstable_by_key(|order| order.parse::<u64>().expect("a number"));
    for call in ["GET /v1/orders", "GET /v1/orders?order=oldest"] {
        assert_eq!(shop.walk_on(Listener::Public, call, ann, rows).0, orders, "{call}");
    }
    let (status, page) = shop.ask(Listener::Public, "GET /v1/orders?order=newest", "X-Buyer: eve\r\n", "");
    assert_eq!((status, page["orders"].as_array().map(Vec::len)), (200, Some(0)));
    for bad in ["order=up", "order=newest&after=4294967297", "order=newest&after=1-1", "after=1-4294967297"] {
        assert_eq!(shop.ask(Listener::Public, &format!("GET /v1/orders?{bad}"), ann, "").0, 400, "{bad}");
    }
}

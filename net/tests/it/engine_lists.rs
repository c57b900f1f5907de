//! The merchant's lists: one shape (`limit`, `after`, `has_more`), filters, the newest first, over several cores.

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

    /// One request on a connection of its own; the status and the body of its answer.
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

    /// All entries of a list, page by page, and how many pages there were. `key` names a row's cursor.
    fn walk(&mut self, call: &str, rows: &str, key: &str) -> (Vec<String>, usize) {
        let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let joint = if call.contains('?') { '&' } else { '?' };
            let (status, page) = self.shop(&format!("{call}{joint}limit=3{after}"), "");
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
fn engine_lists_of_items_blocked_buyers_and_changes_say_whether_there_is_more() {
    let mut shop = Shop::open();
    let settings = r#"{"name":"x","stock":1,"opens_at_ms":0,"closes_at_ms":200000000000000}"#;
    for item in 21..=27 {
        assert_eq!(shop.shop(&format!("PUT /admin/items/{item}"), settings).0, 201);
    }
    let mut items: Vec<String> = (21..=27).map(|item| item.to_string()).collect();
    items.push(shop.rig.item.get().to_string());
    items.sort_unstable_by_key(|item| item.parse::<u32>().unwrap());
    assert_eq!(shop.walk("GET /admin/items", "items", "id").0, items);
    let (status, page) = shop.ask(Listener::Public, "GET /v1/items?limit=7", "", "");
    assert_eq!((status, page["has_more"].as_bool()), (200, Some(true)));
    let (_, page) = shop.ask(Listener::Public, "GET /v1/items?limit=8", "", "");
    assert_eq!((page["items"].as_array().unwrap().len(), page["has_more"].as_bool()), (8, Some(false)));

    // Buyers with names of every kind, each once, in an order that stays.
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

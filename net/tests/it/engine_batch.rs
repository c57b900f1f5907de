//! Batches through the whole engine without sockets: in both formats, cut anywhere, over two
//! owners, with stalled readers and owners.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde_json::Value;
use stampede_core::limits::OWNER_BATCH_MAX;
use stampede_core::types::ItemId;
use stampede_net::engine::ask::{Ask, RareAsk, ReplyTo};
use stampede_net::engine::batch::{BATCHES_MAX, BATCHES_PER_CONNECTION_MAX, CHUNK_RECORDS_MAX};
use stampede_net::engine::counters::Count;
use stampede_net::engine::home::{Client, OUT_BYTES_MAX};
use stampede_net::engine::mesh::Endpoint;
use stampede_net::http::conn::Conn;
use stampede_net::http::limits::{BATCH_BUFFER_BYTES, BATCH_RECORDS_MAX, CONN_BUFFER_BYTES_MAX};
use stampede_net::http::route::Listener;

use crate::rig::{Base, Rig, Setup};

const TOKEN: &str = "token-of-the-test-shop";
const PATIENCE: Duration = Duration::from_secs(30);

/// The media types.
const LINES: &str = "application/x-ndjson";
const BINARY: &str = "application/vnd.stampede.batch";

fn rig(cores: usize) -> Rig {
    let setup = Setup { admin_token: TOKEN.to_owned(), ..Setup::default() };
    Rig::on(Base::made(cores, setup), cores, |_, _| {})
}

/// A connection of the merchant, and everything that came back.
struct Shop {
    client: Client,
    out: Vec<u8>,
}

impl Shop {
    fn new(rig: &mut Rig) -> Self {
        let home = &mut rig.homes[0];
        let token = home.connections.enter();
        let now_ms = home.read_clock().mono_ms;
        let conn = Conn::new(Listener::Merchant, now_ms);
        let client = Client::new(token, conn, IpAddr::V4(Ipv4Addr::LOCALHOST));
        Self { client, out: Vec::new() }
    }

    /// Lets the home serve and takes its output, like the runtime.
    fn serve(&mut self, rig: &mut Rig) {
        while self.serve_without_reading(rig) {
            self.out.append(&mut self.client.out);
        }
        self.out.append(&mut self.client.out);
    }

    /// The same for a client that does not read: its output stays.
    fn serve_without_reading(&mut self, rig: &mut Rig) -> bool {
        let full = rig.homes[0].serve(&mut self.client);
        assert!(self.client.out.len() <= OUT_BYTES_MAX + OUT_BYTES_MAX / 8, "unbounded output");
        assert!(self.client.conn.buffer_bytes() <= CONN_BUFFER_BYTES_MAX, "an unbounded buffer");
        full
    }

    /// Sends the bytes in pieces of `cut`, and lets all cores work while they do not fit.
    fn send(&mut self, rig: &mut Rig, bytes: &[u8], cut: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut rest = bytes;
        while !rest.is_empty() && !self.client.is_closing() {
            self.serve(rig);
            if rig.homes[0].connections.has_room(self.client.id) {
                let taken = self.client.conn.feed(&rest[..rest.len().min(cut)], rig.homes[0].mono_ms());
                assert!(taken > 0, "a connection that wants more takes something");
                rest = &rest[taken..];
            } else {
                pump(rig);
            }
            assert!(Instant::now() < deadline, "{} bytes were never taken", rest.len());
        }
        self.serve(rig);
    }

    /// Works until nothing is outstanding, and returns all answers.
    fn answers(&mut self, rig: &mut Rig) -> Vec<Answer> {
        let deadline = Instant::now() + PATIENCE;
        let owed = |shop: &Self, rig: &Rig| {
            let unread = shop.client.conn.is_mid_request() && !shop.client.is_closing();
            !rig.homes[0].connections.is_idle(shop.client.id) || unread
        };
        while owed(self, rig) {
            pump(rig);
            self.serve(rig);
            assert!(Instant::now() < deadline, "an answer never came");
            std::thread::yield_now();
        }
        self.serve(rig);
        split(&std::mem::take(&mut self.out))
    }

    fn say(&mut self, rig: &mut Rig, call: &str, body: &str) -> Answer {
        let request = request(call, "application/json", body.as_bytes());
        self.send(rig, &request, usize::MAX);
        self.answers(rig).remove(0)
    }

    fn batch(&mut self, rig: &mut Rig, media: &str, body: &[u8], cut: usize) -> Vec<Record> {
        self.send(rig, &batch(media, body), cut);
        let answer = self.answers(rig).remove(0);
        assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", answer.head);
        assert!(answer.head.contains(&format!("\r\nContent-Type: {media}\r\n")), "{}", answer.head);
        answer.records(media)
    }

    /// An item on sale of owner number `owner`, and how it is paid.
    fn put_item(&mut self, rig: &mut Rig, owner: usize, nth: usize, fields: &str) -> u32 {
        let cores = rig.homes.len();
        let of_owner = |item: &ItemId| item.owner(cores) == owner && *item != rig.item;
        let item = (2..).filter_map(ItemId::new).filter(of_owner).nth(nth).unwrap().get();
        let fixed = r#""name":"x","opens_at_ms":0,"closes_at_ms":200000000000000"#;
        let put = self.say(rig, &format!("PUT /admin/items/{item}"), &format!("{{{fixed},{fields}}}"));
        assert!(put.head.contains(" 201 "), "{}", put.head);
        item
    }

    fn sold(&mut self, rig: &mut Rig, item: u32) -> u64 {
        let page = self.say(rig, &format!("GET /admin/items/{item}"), "");
        let page: Value = serde_json::from_slice(&page.body).unwrap();
        page["sold"].as_u64().unwrap()
    }
}

fn pump(rig: &mut Rig) {
    for home in &mut rig.homes {
        home.read_clock();
        while home.pump() {}
    }
}

struct Answer {
    head: String,
    body: Vec<u8>,
}

/// The answer to a record in few words: `201`, `409 sold_out`, `201 again`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Record {
    brief: String,
    order: u64,
}

impl Answer {
    fn records(&self, media: &str) -> Vec<Record> {
        if media == LINES { read_lines(&self.body) } else { read_binary(&self.body) }
    }
}

fn read_lines(body: &[u8]) -> Vec<Record> {
    let record = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let mut brief = row["status"].to_string();
        row["code"].as_str().into_iter().for_each(|code| brief.push_str(&format!(" {code}")));
        row["replay"].as_bool().into_iter().for_each(|_| brief.push_str(" again"));
        let order = row["order_id"].as_str().map_or(0, |order| order.parse().unwrap());
        Record { brief, order }
    };
    str::from_utf8(body).unwrap().lines().map(record).collect()
}

const CODES: [&str; 27] = [
    "",
    "bad_request",
    "bad_json",
    "bad_quantity",
    "unknown_field",
    "invalid_field",
    "not_found",
    "not_eligible",
    "not_open",
    "ended",
    "paused",
    "rate_limited",
    "ticket_required",
    "ticket_invalid",
    "sold_out",
    "cap_reached",
    "idempotency_key_reused",
    "hold_expired",
    "not_cancellable",
    "not_refundable",
    "already_paid",
    "not_drawn",
    "overloaded",
    "log_full",
    "draining",
    "internal",
    "stock_out_of_range",
];

fn read_binary(body: &[u8]) -> Vec<Record> {
    assert_eq!((&body[..5], body.len() % 40), (&b"SBAN\x01"[..], 16), "a header and whole records");
    let count = u32::from_le_bytes(body[8..12].try_into().unwrap()) as usize;
    assert_eq!(body.len(), 16 + 40 * count);
    let record = |row: &[u8]| {
        let mut brief = u16::from_le_bytes([row[0], row[1]]).to_string();
        if row[2] != 0 {
            brief.push_str(&format!(" {}", CODES[usize::from(row[2])]));
        } else if row[3] & 0x80 != 0 {
            brief.push_str(" again");
        }
        Record { brief, order: u64::from_le_bytes(row[8..16].try_into().unwrap()) }
    };
    body[16..].chunks(40).map(record).collect()
}

fn split(mut out: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !out.is_empty() {
        let end = out.windows(4).position(|part| part == b"\r\n\r\n").expect("a whole head") + 4;
        let head = String::from_utf8(out[..end].to_vec()).unwrap();
        let length = head
            .split("Content-Length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
        let body = out[end..end + length].to_vec();
        out = &out[end + length..];
        answers.push(Answer { head, body });
    }
    answers
}

fn request(call: &str, media: &str, body: &[u8]) -> Vec<u8> {
    let length =
        if call.starts_with('G') { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!(
        "{call} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {media}\r\n{length}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn batch(media: &str, body: &[u8]) -> Vec<u8> {
    request("POST /v1/orders/batch", media, body)
}

/// A batch with a chunked body.
fn batch_in(media: &str, chunks: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/orders/batch HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    [head.as_bytes(), chunks].concat()
}

/// A body in chunks of so many bytes, with optional parts that mean nothing.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let chunk = |part: &[u8]| [format!("{:x};a=b\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    let end = b"0\r\nContent-Length: 7\r\n\r\n".to_vec();
    body.chunks(size).map(chunk).chain([end]).flatten().collect()
}

/// The contents of a record.
#[derive(Clone)]
enum Want<'a> {
    Buy(u32, &'a str, u32, &'a str),
    Move(&'a str, u64, &'a str),
}

fn body_of(media: &str, wants: &[Want<'_>]) -> Vec<u8> {
    if media == LINES {
        let line = |want: &Want<'_>| match want {
            Want::Buy(item, buyer, quantity, "") => {
                format!("{{\"item_id\":{item},\"buyer\":\"{buyer}\",\"quantity\":{quantity}}}\n")
            }
            Want::Buy(item, buyer, quantity, key) => format!(
                "{{\"item_id\":{item},\"buyer\":\"{buyer}\",\"quantity\":{quantity},\"key\":\"{key}\"}}\n"
            ),
            Want::Move(kind, order, "") => format!("{{\"kind\":\"{kind}\",\"order_id\":\"{order}\"}}\n"),
            Want::Move(kind, order, reference) => {
                format!("{{\"kind\":\"{kind}\",\"order_id\":\"{order}\",\"payment_ref\":\"{reference}\"}}\n")
            }
        };
        return wants.iter().map(line).collect::<String>().into_bytes();
    }
    let (width, stride) = (16, 24 + 16 + 8);
    let mut body = vec![b'S', b'B', b'A', b'T', 1, width, 8, 0];
    body.extend_from_slice(&(wants.len() as u32).to_le_bytes());
    body.extend_from_slice(&[0; 4]);
    for want in wants {
        let (kind, target, quantity, subject, reference) = match want {
            Want::Buy(item, buyer, quantity, key) => (1, u64::from(*item), *quantity, *buyer, *key),
            Want::Move(kind, order, reference) => {
                let kind = ["pay", "refund", "cancel"].iter().position(|known| known == kind).unwrap();
                (kind as u8 + 2, *order, 0, "", *reference)
            }
        };
        let mut record = vec![0; stride];
        (record[0], record[1], record[2]) = (kind, subject.len() as u8, reference.len() as u8);
        record[8..16].copy_from_slice(&target.to_le_bytes());
        record[16..20].copy_from_slice(&quantity.to_le_bytes());
        record[24..24 + subject.len()].copy_from_slice(subject.as_bytes());
        record[40..40 + reference.len()].copy_from_slice(reference.as_bytes());
        body.extend_from_slice(&record);
    }
    body
}

fn briefs(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.brief.as_str()).collect()
}

/// The gateway's own core owns the item, and buyers of another core wait there: the batch gets its share and no
/// more.
#[test]
fn engine_batch_waits_its_turn_on_its_own_core() {
    const WAITING: usize = 200;
    let mut rig = rig(2);
    let mut shop = Shop::new(&mut rig);
    let here = shop.put_item(&mut rig, 0, 0, r#""stock":100000,"cap":1"#);
    let mesh = rig.homes[0].shared().mesh.clone();
    let mut far = Endpoint::new(mesh.clone(), 1);
    for _ in 0..WAITING {
        let look = Ask::Rare(Box::new(RareAsk::Item(ItemId::new(here.into()).unwrap())));
        assert!(far.ask(0, ReplyTo::Nobody, look));
    }
    let names: Vec<String> = (0..CHUNK_RECORDS_MAX).map(|n| format!("b{n}")).collect();
    let wants: Vec<Want<'_>> = names.iter().map(|name| Want::Buy(here, name, 1, "")).collect();
    let bytes = batch(BINARY, &body_of(BINARY, &wants));
    let (decided, now_ms) = (rig.homes[0].owner().shard().lsn(), rig.homes[0].mono_ms());
    assert!(shop.client.conn.feed(&bytes, now_ms) > 0);
    shop.serve(&mut rig);
    assert_eq!(rig.homes[0].owner().shard().lsn(), decided, "a batch overtakes earlier requests");
    assert!(rig.homes[0].pump(), "more waits than an owner takes in one turn");
    let share = OWNER_BATCH_MAX / 2;
    assert_eq!(rig.homes[0].owner().shard().lsn().0, decided.0 + share as u64);
    assert_eq!(mesh.waiting(1, 0), WAITING - share);
}

#[test]
fn engine_batch_answers_in_order_for_every_cut() {
    let mut rig = rig(2);
    let mut shop = Shop::new(&mut rig);
    let few = shop.put_item(&mut rig, 0, 0, r#""stock":1000,"cap":2"#);
    let here = shop.put_item(&mut rig, 0, 1, r#""stock":1000,"cap":1"#);
    let there = shop.put_item(&mut rig, 1, 0, r#""stock":1000,"cap":1"#);
    let empty = shop.put_item(&mut rig, 1, 1, r#""stock":0,"cap":1"#);
    let blocked = shop.say(&mut rig, "PUT /admin/blocklist/mallory", "");
    assert!(blocked.head.contains(" 200 "), "{}", blocked.head);
    for (round, (media, cut)) in
        [LINES, BINARY].iter().flat_map(|media| [1, 7, 333, usize::MAX].map(|cut| (*media, cut))).enumerate()
    {
        let name = |who: &str| format!("{who}{round}");
        let (ann, bob, cid) = (name("ann"), name("bob"), name("cid"));
        let records = shop.batch(
            &mut rig,
            media,
            &body_of(
                media,
                &[
                    Want::Buy(here, &ann, 1, "k1"),
                    Want::Buy(there, &ann, 1, "k1"),
                    Want::Buy(here, &ann, 1, "k1"),
                    Want::Buy(here, &ann, 1, "k2"),
                    Want::Buy(here, &ann, 2, "k1"),
                    Want::Buy(few, &bob, 1, ""),
                    Want::Buy(few, &bob, 1, ""),
                    Want::Buy(few, &bob, 1, ""),
                    Want::Buy(few, &cid, 3, "k"),
                    Want::Buy(empty, &cid, 1, "k"),
                    Want::Buy(here, "mallory", 1, "k"),
                    Want::Buy(999, &cid, 1, "k"),
                    Want::Buy(there, &cid, 0, "k"),
                    Want::Move("pay", 1, "r"),
                    Want::Move("pay", u64::from(there) << 32 | 900, "r"),
                    Want::Buy(there, &cid, 1, "k"),
                ],
            ),
            cut,
        );
        let expected = [
            "201",
            "201",
            "201 again",
            "409 cap_reached",
            "422 idempotency_key_reused",
            "201",
            "201",
            "409 cap_reached",
            "400 bad_quantity",
            "409 sold_out",
            "403 not_eligible",
            "404 not_found",
            "400 bad_quantity",
            "404 not_found",
            "404 not_found",
            "201",
        ];
        assert_eq!(briefs(&records), expected, "{media}, cut into {cut}");
        assert_eq!(records[2].order, records[0].order);
        assert_eq!(records[3].order, records[0].order, "the order that used the cap");
        assert_eq!((records[0].order >> 32, records[1].order >> 32), (u64::from(here), u64::from(there)));
        assert_eq!(records[15].order, records[1].order + 1);
    }
    assert_eq!(shop.sold(&mut rig, here), 8);
    assert_eq!(shop.sold(&mut rig, there), 16);
}

#[test]
fn engine_batch_moves_orders_as_the_single_calls_do() {
    for media in [LINES, BINARY] {
        let mut rig = rig(2);
        let mut shop = Shop::new(&mut rig);
        let hold = r#""stock":10,"cap":1,"payment":"hold","hold_ms":3600000"#;
        let items = [shop.put_item(&mut rig, 0, 0, hold), shop.put_item(&mut rig, 1, 0, hold)];
        let buys: Vec<_> =
            (0..6).map(|n| Want::Buy(items[n % 2], ["a", "b", "c", "d", "e", "f"][n], 1, "k")).collect();
        let held = shop.batch(&mut rig, media, &body_of(media, &buys), 100);
        assert!(held.iter().all(|record| record.brief == "201"), "{held:?}");
        assert_eq!((shop.sold(&mut rig, items[0]), shop.sold(&mut rig, items[1])), (0, 0));
        let order = |n: usize| held[n].order;
        let moved = shop.batch(
            &mut rig,
            media,
            &body_of(
                media,
                &[
                    Want::Move("pay", order(0), "r0"),
                    Want::Move("pay", order(1), "r1"),
                    Want::Move("pay", order(0), "r0"),
                    Want::Move("pay", order(0), "r9"),
                    Want::Move("refund", order(2), ""),
                    Want::Move("refund", order(1), "r1"),
                    Want::Move("cancel", order(0), ""),
                    Want::Move("cancel", order(2), ""),
                    Want::Move("pay", order(2), "r2"),
                    Want::Move("pay", order(3), "r3"),
                ],
            ),
            100,
        );
        let expected = [
            "200",
            "200",
            "200",
            "409 already_paid",
            "409 not_refundable",
            "200",
            "409 not_cancellable",
            "200",
            "409 hold_expired",
            "200",
        ];
        assert_eq!(briefs(&moved), expected, "{media}");
        let orders: Vec<u64> = [0, 1, 0].map(order).into();
        assert_eq!(moved[..3].iter().map(|record| record.order).collect::<Vec<_>>(), orders);
        assert_eq!((shop.sold(&mut rig, items[0]), shop.sold(&mut rig, items[1])), (1, 1));
    }
}

/// A line is the same record however its JSON is written: in the usual form of gateways, or in
/// any other. The key of each finds the order that the first form placed.
#[test]
fn engine_batch_lines_mean_the_same_in_every_spelling() {
    let mut rig = rig(2);
    let mut shop = Shop::new(&mut rig);
    let items = [0, 1].map(|owner| shop.put_item(&mut rig, owner, 0, r#""stock":1000,"cap":5"#));
    let [a, b] = items;
    let ways = [
        format!(
            "{{\"item_id\":{a},\"buyer\":\"ann\",\"quantity\":2,\"key\":\"k-1\"}}\n\
             {{\"item_id\":{b},\"buyer\":\"ann\",\"key\":\"k-1\",\"level\":3,\"since_s\":9}}\n\
             {{\"item_id\":{a},\"buyer\":\"ann\",\"quantity\":6,\"key\":\"k-2\"}}"
        ),
        format!(
            " {{ \"item_id\" : {a}, \"buyer\" : \"ann\", \"quantity\" : 2, \"key\" : \"k-1\" }} \r\n\
             {{\"since_s\":9,\"level\":3,\"key\":\"k-1\",\"buyer\":\"ann\",\"item_id\":{b}}}\n\
             {{\"item_id\":{a},\"buyer\":\"ann\",\"key\":\"k-2\",\"quantity\":6}}\n"
        ),
        format!(
            "{{\"kind\":\"purchase\",\"item_id\":{a},\"buyer\":\"\\u0061nn\",\"quantity\":2,\"key\":\"k\\u002d1\"}}\n\
             {{\"item_id\":{b},\"buyer\":\"ann\",\"quantity\":1,\"key\":\"k-1\",\"ticket\":\"\"}}\n\
             {{\"kind\":\"purchase\",\"item_id\":{a},\"buyer\":\"ann\",\"quantity\":6,\"key\":\"k-2\"}}\n"
        ),
    ];
    let first = shop.batch(&mut rig, LINES, ways[0].as_bytes(), usize::MAX);
    assert_eq!(briefs(&first)[..2], ["201", "201"]);
    for (way, cut) in ways.iter().flat_map(|way| [1, 50, usize::MAX].map(|cut| (way, cut))) {
        let again = shop.batch(&mut rig, LINES, way.as_bytes(), cut);
        assert_eq!(briefs(&again)[..2], ["201 again", "201 again"], "{way}");
        assert_eq!(again[2].brief, first[2].brief, "{way}");
        let orders = |records: &[Record]| records.iter().map(|record| record.order).collect::<Vec<_>>();
        assert_eq!(orders(&again), orders(&first), "{way}");
    }
    assert_eq!(items.map(|item| shop.sold(&mut rig, item)), [2, 1]);
}

/// I3: no byte of the answers leaves before the last order in the batch is durable.
#[test]
fn engine_batch_answers_wait_for_the_log() {
    let mut rig = rig(1);
    let mut shop = Shop::new(&mut rig);
    let item = shop.put_item(&mut rig, 0, 0, r#""stock":100000,"cap":1"#);
    for round in 0..20 {
        let names: Vec<String> = (0..500).map(|n| format!("b{round}-{n}")).collect();
        let wants: Vec<_> = names.iter().map(|name| Want::Buy(item, name, 1, "k")).collect();
        shop.send(&mut rig, &batch(BINARY, &body_of(BINARY, &wants)), usize::MAX);
        let deadline = Instant::now() + PATIENCE;
        while shop.out.is_empty() {
            assert!(Instant::now() < deadline, "an answer never came");
            pump(&mut rig);
            shop.serve(&mut rig);
        }
        let durable = rig.homes[0].shared().log.durable_lsn().0;
        let answer = shop.answers(&mut rig).remove(0);
        let lsn = |row: &[u8]| u64::from_le_bytes(row[16..24].try_into().unwrap());
        let last = answer.body[16..].chunks(40).map(lsn).max().unwrap();
        assert!(last <= durable, "round {round}: LSN {last} was shown, and {durable} is durable");
    }
}

/// A batch of the largest size, sent twice: every order is the same (I5).
#[test]
fn engine_batch_retried_whole_gives_the_same_orders() {
    let mut rig = rig(2);
    let mut shop = Shop::new(&mut rig);
    let stock = r#""stock":100000,"cap":1"#;
    let items = [shop.put_item(&mut rig, 0, 0, stock), shop.put_item(&mut rig, 1, 0, stock)];
    let names: Vec<String> = (0..BATCH_RECORDS_MAX).map(|n| format!("buyer-{n}")).collect();
    let wants: Vec<_> =
        names.iter().enumerate().map(|(n, name)| Want::Buy(items[n % 2], name, 1, "k")).collect();
    let (lines, binary) = (body_of(LINES, &wants), body_of(BINARY, &wants));
    let first = shop.batch(&mut rig, LINES, &lines, BATCH_BUFFER_BYTES);
    assert!(first.len() == BATCH_RECORDS_MAX && first.iter().all(|record| record.brief == "201"));
    for (number, record) in first.iter().enumerate() {
        let expected = u64::from(items[number % 2]) << 32 | (number as u64 / 2 + 1);
        assert_eq!(record.order, expected, "decided in the order of the batch");
    }
    for (media, body) in [(BINARY, &binary), (LINES, &lines)] {
        let again = shop.batch(&mut rig, media, body, BATCH_BUFFER_BYTES);
        assert!(again.iter().all(|record| record.brief == "201 again"), "{:?}", again[0]);
        assert!(again.iter().zip(&first).all(|(again, first)| again.order == first.order));
    }
    assert_eq!(shop.sold(&mut rig, items[0]) + shop.sold(&mut rig, items[1]), BATCH_RECORDS_MAX as u64);
}

/// Records beyond the maximum of a batch are ignored, and the connection closes.
#[test]
fn engine_batch_lines_beyond_the_bound_are_ignored() {
    let mut rig = rig(1);
    let mut shop = Shop::new(&mut rig);
    let item = shop.put_item(&mut rig, 0, 0, r#""stock":100000,"cap":1"#);
    let names: Vec<String> = (0..BATCH_RECORDS_MAX + 5).map(|n| format!("buyer-{n}")).collect();
    let wants: Vec<_> = names.iter().map(|name| Want::Buy(item, name, 1, "k")).collect();
    shop.send(&mut rig, &batch(LINES, &body_of(LINES, &wants)), 10_000);
    let answer = shop.answers(&mut rig).remove(0);
    assert!(answer.head.contains("\r\nConnection: close\r\n"), "{}", answer.head);
    assert_eq!(answer.records(LINES).len(), BATCH_RECORDS_MAX);
    assert!(shop.client.is_closing());
    assert_eq!(Shop::new(&mut rig).sold(&mut rig, item), BATCH_RECORDS_MAX as u64);
}

/// If the head or the beginning of a body is doubtful, all of the batch is refused: nothing of it, nor
/// of what follows it, is done.
#[test]
fn engine_batch_refused_whole_changes_nothing() {
    let mut rig = rig(1);
    let mut shop = Shop::new(&mut rig);
    let item = shop.put_item(&mut rig, 0, 0, r#""stock":100,"cap":1"#);
    let wants = [Want::Buy(item, "ann", 1, "k")];
    let (lines, binary) = (body_of(LINES, &wants), body_of(BINARY, &wants));
    let good = String::from_utf8(batch(LINES, &lines)).unwrap();
    let mut other_length = batch(BINARY, &binary);
    let at = other_length.len() - binary.len() + 8;
    other_length[at] = 2;
    let cases: [(Vec<u8>, &str); 16] = [
        (good.replace(TOKEN, "wrong").into(), "401 unauthenticated"),
        (good.replace(LINES, "application/json").into(), "415 unsupported_media_type"),
        (
            good.replace("Content-Type", "Content-Encoding: gzip\r\nContent-Type").into(),
            "415 unsupported_media_type",
        ),
        (batch(LINES, b""), "400 bad_request"),
        (good.replace("Content-Length: ", "Content-Length: 999999").into(), "413 body_too_large"),
        (good.replace("Content-Length", "X-Length").into(), "400 bad_request"),
        (good.replace("Content-Length: ", "Transfer-Encoding: chunked\r\nX: ").into(), "400 bad_request"),
        (
            good.replace("Content-Type", "Transfer-Encoding: chunked\r\nContent-Type").into(),
            "400 bad_request",
        ),
        (batch_in(LINES, b"0\r\n\r\n"), "400 bad_request"),
        (batch_in(BINARY, b"4\r\nSBAT\r\n0\r\n\r\n"), "400 bad_request"),
        (batch_in(BINARY, &chunked(&binary[..16], 5)), "400 bad_request"),
        (batch_in(LINES, b"800001\r\n"), "413 body_too_large"),
        (batch_in(LINES, &[b"1;", &[b'x'; 2_000][..]].concat()), "400 bad_request"),
        (good.replace("/batch", "/batch?x=1").into(), "400 bad_request"),
        (batch(BINARY, b"SBAT"), "400 bad_request"),
        (other_length, "400 bad_request"),
    ];
    for (bytes, verdict) in cases {
        let canary = batch(LINES, format!("{{\"item_id\":{item},\"buyer\":\"canary\"}}").as_bytes());
        for cut in [1, 50, usize::MAX] {
            let mut shop = Shop::new(&mut rig);
            shop.send(&mut rig, &[&bytes[..], &canary].concat(), cut);
            let answers = shop.answers(&mut rig);
            assert_eq!(answers.len(), 1, "{verdict}");
            let (status, code) = verdict.split_once(' ').unwrap();
            assert!(
                answers[0].head.starts_with(&format!("HTTP/1.1 {status} ")),
                "{verdict}: {}",
                answers[0].head
            );
            assert!(answers[0].head.contains("\r\nConnection: close\r\n"), "{verdict}");
            assert!(String::from_utf8_lossy(&answers[0].body).contains(&format!("\"{code}\"")), "{verdict}");
            assert!(shop.client.is_closing());
        }
    }
    assert_eq!(shop.sold(&mut rig, item), 0);
}

/// A chunked batch, cut before any byte, means the same as with a length, and what follows it is the
/// next request.
#[test]
fn engine_batch_in_chunks_is_the_same_for_every_cut() {
    for media in [LINES, BINARY] {
        let mut rig = rig(2);
        let mut shop = Shop::new(&mut rig);
        let fields = r#""stock":1000,"cap":1"#;
        let [here, there] = [0, 1].map(|owner| shop.put_item(&mut rig, owner, 0, fields));
        let of = |key: &'static str| {
            [(here, "a"), (there, "b"), (there, "c")].map(|(item, buyer)| Want::Buy(item, buyer, 1, key))
        };
        let (wants, again) = (body_of(media, &of("k")), body_of(media, &of("k")));
        let first = shop.batch(&mut rig, media, &wants, usize::MAX);
        assert_eq!(briefs(&first), ["201", "201", "201"]);
        for size in [1, 7, 1_000] {
            let bytes = [batch_in(media, &chunked(&again, size)), batch(media, &again)].concat();
            let cuts = if size == 7 { 5 } else { 61 };
            for at in (0..bytes.len()).step_by(cuts) {
                shop.send(&mut rig, &bytes[..at], usize::MAX);
                shop.send(&mut rig, &bytes[at..], usize::MAX);
                let answers = shop.answers(&mut rig);
                assert_eq!(answers.len(), 2, "cut at {at}");
                for answer in answers {
                    let records = answer.records(media);
                    assert_eq!(briefs(&records), ["201 again"; 3], "cut at {at}");
                    assert!(records.iter().zip(&first).all(|(again, first)| again.order == first.order));
                }
            }
            shop.send(&mut rig, &bytes, 1);
            assert_eq!(shop.answers(&mut rig).len(), 2, "byte by byte");
        }
        assert_eq!(shop.sold(&mut rig, here) + shop.sold(&mut rig, there), 3);
    }
}

/// A chunked batch of the largest size: its answers wait for the last chunk, and what exceeds the size
/// is not accepted.
#[test]
fn engine_batch_in_chunks_keeps_the_bounds() {
    let mut rig = rig(1);
    let mut shop = Shop::new(&mut rig);
    let item = shop.put_item(&mut rig, 0, 0, r#""stock":100000,"cap":1"#);
    let names: Vec<String> = (0..BATCH_RECORDS_MAX + 1).map(|n| format!("buyer-{n}")).collect();
    let wants: Vec<_> = names.iter().map(|name| Want::Buy(item, name, 1, "k")).collect();
    for media in [LINES, BINARY] {
        let mut shop = Shop::new(&mut rig);
        let bytes = batch_in(media, &chunked(&body_of(media, &wants[..BATCH_RECORDS_MAX]), 30_000));
        let (most, last) = bytes.split_at(bytes.len() - 1);
        shop.send(&mut rig, most, 10_000);
        (0..4).for_each(|_| pump(&mut rig));
        shop.serve(&mut rig);
        assert!(shop.out.is_empty() && shop.client.conn.is_mid_request(), "an answer before the end");
        shop.send(&mut rig, last, 1);
        let answer = shop.answers(&mut rig).remove(0);
        assert_eq!(answer.records(media).len(), BATCH_RECORDS_MAX);
        assert!(!shop.client.is_closing());
    }
    let mut shop = Shop::new(&mut rig);
    shop.send(&mut rig, &batch_in(LINES, &chunked(&body_of(LINES, &wants), 30_000)), 10_000);
    let answer = shop.answers(&mut rig).remove(0);
    assert!(answer.head.contains("\r\nConnection: close\r\n") && shop.client.is_closing(), "{}", answer.head);
    assert_eq!(answer.records(LINES).len(), BATCH_RECORDS_MAX);
    assert_eq!(Shop::new(&mut rig).sold(&mut rig, item), BATCH_RECORDS_MAX as u64);
}

/// Errors in chunks, or in how much they hold, are reported when they show: the connection closes,
/// nothing after them is done, and a retry finds what was decided before.
#[test]
fn engine_batch_in_broken_chunks_is_refused_where_they_break() {
    let mut rig = rig(1);
    let mut shop = Shop::new(&mut rig);
    let item = shop.put_item(&mut rig, 0, 0, r#""stock":100,"cap":1"#);
    let wants = ["a", "b"].map(|name| Want::Buy(item, name, 1, "k"));
    let (lines, binary) = (body_of(LINES, &wants), body_of(BINARY, &wants));
    let unended = |body: &[u8]| chunked(body, 30).split_last_chunk::<24>().unwrap().0.to_vec();
    let mut more = binary.clone();
    more.extend_from_slice(b"more");
    let cases = [
        (batch_in(LINES, &[&unended(&lines)[..], b"x"].concat()), "400"),
        (batch_in(LINES, &[&unended(&lines)[..], b"2\n{}"].concat()), "400"),
        (batch_in(LINES, &[&unended(&lines)[..], b"0\r\nX: \0"].concat()), "400"),
        (batch_in(LINES, &[&unended(&lines)[..], b"7fffff\r\n"].concat()), "413"),
        (batch_in(LINES, &[&unended(&lines)[..], b"0\r\n", &b"X: y\r\n".repeat(65)].concat()), "431"),
        (batch_in(BINARY, &chunked(&more, 30)), "400"),
        (batch_in(BINARY, &chunked(&binary[..binary.len() - 1], 30)), "400"),
        (batch_in(BINARY, &chunked(&binary[..binary.len() - 48], 30)), "400"),
    ];
    let canary = batch(LINES, format!("{{\"item_id\":{item},\"buyer\":\"canary\"}}").as_bytes());
    for (number, (bytes, status)) in cases.into_iter().enumerate() {
        for cut in [1, 40, usize::MAX] {
            let mut shop = Shop::new(&mut rig);
            shop.send(&mut rig, &[&bytes[..], &canary].concat(), cut);
            let answers = shop.answers(&mut rig);
            assert_eq!(answers.len(), 1, "case {number}");
            let head = &answers[0].head;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "case {number}: {head}");
            assert!(head.contains("\r\nConnection: close\r\n") && shop.client.is_closing(), "{head}");
        }
    }
    let mut shop = Shop::new(&mut rig);
    let records = shop.batch(&mut rig, LINES, &lines, usize::MAX);
    assert!(records.iter().all(|record| record.brief == "201 again"), "{records:?}");
    assert_eq!(shop.sold(&mut rig, item), 2);
}

/// A waiting client gets 100 Continue, also for a chunked body, and an empty body is not a batch.
#[test]
fn engine_batch_in_chunks_gets_100_continue() {
    let mut rig = rig(1);
    let mut shop = Shop::new(&mut rig);
    let item = shop.put_item(&mut rig, 0, 0, r#""stock":100,"cap":1"#);
    let body = chunked(&body_of(LINES, &[Want::Buy(item, "ann", 1, "k")]), 9);
    let head = String::from_utf8(batch_in(LINES, b"")).unwrap();
    let head = head.replace("Host", "Expect: 100-continue\r\nHost");
    shop.send(&mut rig, head.as_bytes(), 5);
    assert_eq!(std::mem::take(&mut shop.out), b"HTTP/1.1 100 Continue\r\n\r\n");
    shop.send(&mut rig, &body, 5);
    assert_eq!(briefs(&shop.answers(&mut rig).remove(0).records(LINES)), ["201"]);
    // A client that does not wait gets none, and neither does one that is refused.
    shop.send(&mut rig, &[head.as_bytes(), &body].concat(), usize::MAX);
    assert_eq!(briefs(&shop.answers(&mut rig).remove(0).records(LINES)), ["201 again"]);
    shop.send(&mut rig, head.replace(TOKEN, "wrong").as_bytes(), usize::MAX);
    assert!(shop.answers(&mut rig).remove(0).head.starts_with("HTTP/1.1 401 "));
}

/// The last batch of a connection waits for another core, and its buffer is returned meanwhile, as the
/// runtime does: it is answered all the same.
#[test]
fn engine_batch_that_closes_is_answered_though_it_waits() {
    for in_chunks in [false, true] {
        let mut rig = rig(2);
        let mut shop = Shop::new(&mut rig);
        let item = shop.put_item(&mut rig, 1, 0, r#""stock":100,"cap":1"#);
        let body = body_of(LINES, &[Want::Buy(item, "ann", 1, "k")]);
        let bytes = if in_chunks { batch_in(LINES, &chunked(&body, 9)) } else { batch(LINES, &body) };
        let bytes = String::from_utf8(bytes).unwrap().replace("Host", "Connection: close\r\nHost");
        shop.send(&mut rig, bytes.as_bytes(), usize::MAX);
        let buffer = shop.client.conn.take_buffer();
        let buffer = buffer.and_then(|buffer| shop.client.conn.put_buffer(buffer));
        assert!(buffer.is_none());
        let records = shop.answers(&mut rig).remove(0).records(LINES);
        assert_eq!(briefs(&records), ["201"], "in chunks: {in_chunks}");
        assert!(shop.client.is_closing());
    }
}

/// A connection that ends in the middle: incomplete records are not decided, and a
/// retry finds what was decided.
#[test]
fn engine_batch_cut_off_decides_no_half_record() {
    for media in [LINES, BINARY] {
        let mut rig = rig(2);
        let mut shop = Shop::new(&mut rig);
        let item = shop.put_item(&mut rig, 1, 0, r#""stock":100,"cap":1"#);
        let wants: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| Want::Buy(item, name, 1, "k")).collect();
        let body = body_of(media, &wants);
        let whole = batch(media, &body);
        // Half of the third record is missing, and the whole fourth.
        let record_len = if media == LINES { body.len() / 4 } else { 48 };
        shop.send(&mut rig, &whole[..whole.len() - record_len - record_len / 2], 20);
        // Each core once for the question, and again for what waited behind it.
        (0..2).for_each(|_| pump(&mut rig));
        shop.client.conn.finish();
        shop.serve(&mut rig);
        pump(&mut rig);
        shop.serve(&mut rig);
        assert!(shop.client.is_closing() && shop.out.is_empty(), "nothing is outstanding");
        rig.homes[0].connections.leave(shop.client.id);
        rig.homes[0].sweep();
        let mut shop = Shop::new(&mut rig);
        assert_eq!(shop.sold(&mut rig, item), 2, "{media}");
        let again = shop.batch(&mut rig, media, &body, 1_000);
        assert_eq!(briefs(&again), ["201 again", "201 again", "201", "201"], "{media}");
    }
}

/// Core 1 does nothing: two chunks of a batch for it are taken and no more, and nothing is lost.
#[test]
fn engine_batch_waits_for_a_slow_owner() {
    let mut rig = rig(2);
    let mut shop = Shop::new(&mut rig);
    let item = shop.put_item(&mut rig, 1, 0, r#""stock":100000,"cap":1"#);
    let names: Vec<String> = (0..BATCH_RECORDS_MAX).map(|n| format!("buyer-{n}")).collect();
    let wants: Vec<_> = names.iter().map(|name| Want::Buy(item, name, 1, "k")).collect();
    let request = batch(BINARY, &body_of(BINARY, &wants));
    let mut rest = &request[..];
    loop {
        shop.serve(&mut rig);
        if !rig.homes[0].connections.has_room(shop.client.id) {
            break;
        }
        let taken = shop.client.conn.feed(rest, 0);
        rest = &rest[taken..];
        assert!(!rest.is_empty(), "all of it was accepted although its owner does nothing");
    }
    let taken = request.len() - rest.len();
    assert!(taken <= 2 * CHUNK_RECORDS_MAX * 48 + BATCH_BUFFER_BYTES + 4096, "{taken} bytes were taken");
    // The home alone makes no progress.
    for _ in 0..3 {
        rig.homes[0].pump();
        rig.homes[0].tick();
        shop.serve(&mut rig);
        assert!(!rig.homes[0].connections.has_room(shop.client.id));
    }
    shop.send(&mut rig, rest, usize::MAX);
    let records = shop.answers(&mut rig).remove(0).records(BINARY);
    assert!(records.len() == BATCH_RECORDS_MAX && records.iter().all(|record| record.brief == "201"));
    assert!(records.windows(2).all(|pair| pair[0].order + 1 == pair[1].order));
}

/// A client that sends batches and reads nothing: few are accepted, and its memory stays bounded.
#[test]
fn engine_batch_stops_while_the_client_does_not_read() {
    let mut rig = rig(1);
    let mut shop = Shop::new(&mut rig);
    let item = shop.put_item(&mut rig, 0, 0, r#""stock":1000000,"cap":1"#);
    let request_of = |round: usize| {
        let names: Vec<String> = (0..BATCH_RECORDS_MAX).map(|n| format!("b{round}-{n}")).collect();
        let wants: Vec<_> = names.iter().map(|name| Want::Buy(item, name, 1, "k")).collect();
        batch(LINES, &body_of(LINES, &wants))
    };
    let all: Vec<u8> = (0..12).flat_map(request_of).collect();
    let (mut rest, mut idle) = (&all[..], 0);
    // The runtime reads only when it is not waiting to write.
    while idle < 100 {
        let waits_to_write = shop.serve_without_reading(&mut rig);
        let before = rest.len();
        if !waits_to_write && rig.homes[0].connections.has_room(shop.client.id) {
            let taken = shop.client.conn.feed(rest, 0);
            rest = &rest[taken..];
        }
        pump(&mut rig);
        idle = if rest.len() == before { idle + 1 } else { 0 };
        std::thread::yield_now();
    }
    let taken = rig.homes[0].shared().state.counters[0].get(Count::BatchRecords) as usize;
    assert!(taken <= (BATCHES_PER_CONNECTION_MAX + 1) * BATCH_RECORDS_MAX, "{taken} records were taken");
    assert!(rest.len() > all.len() / 2, "it continued to accept");
    // It reads again, and gets all of it.
    shop.send(&mut rig, rest, usize::MAX);
    let answers = shop.answers(&mut rig);
    assert_eq!(answers.len(), 12);
    assert!(answers.iter().all(|answer| answer.records(LINES).iter().all(|record| record.brief == "201")));
    assert_eq!(shop.sold(&mut rig, item), 12 * BATCH_RECORDS_MAX as u64);
}

/// So many batches may be open; the next one must come again, and there is room again
/// when connections close.
#[test]
fn engine_batch_above_the_limit_of_open_ones_is_refused() {
    let mut rig = rig(1);
    let mut shop = Shop::new(&mut rig);
    let item = shop.put_item(&mut rig, 0, 0, r#""stock":100,"cap":1"#);
    let whole = batch(BINARY, &body_of(BINARY, &[Want::Buy(item, "ann", 1, "k")]));
    let mut open: Vec<Shop> = (0..BATCHES_MAX).map(|_| Shop::new(&mut rig)).collect();
    open.iter_mut().for_each(|shop| shop.send(&mut rig, &whole[..whole.len() - 1], usize::MAX));
    let mut late = Shop::new(&mut rig);
    late.send(&mut rig, &whole, usize::MAX);
    let answer = late.answers(&mut rig).remove(0);
    assert!(
        answer.head.contains(" 503 ") && answer.head.contains("\r\nRetry-After: 1\r\n"),
        "{}",
        answer.head
    );
    for shop in open.drain(..) {
        rig.homes[0].connections.leave(shop.client.id);
    }
    rig.homes[0].sweep();
    let records = Shop::new(&mut rig).batch(&mut rig, BINARY, &whole[whole.len() - 64..], usize::MAX);
    assert_eq!(briefs(&records), ["201"]);
}

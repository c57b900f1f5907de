//! End to end, batches: over a real socket, through a crash, and with the load generator as the
//! client that checks every response.

use serde_json::Value;
use stampede_core::types::ItemId;
use stampede_loadgen::batch::{Format, Mode, Plan, run};

use crate::e2e_talk::{Http, Talk, item};
use crate::server::{Bed, Server, TOKEN};

/// Records of a batch in the tests of crashes.
const RECORDS: usize = 2_000;

/// An item of each of two owners.
fn items() -> [u64; 2] {
    [0, 1].map(|owner| (1..).find(|&id| ItemId::new(id).is_some_and(|item| item.owner(2) == owner)).unwrap())
}

fn body(items: [u64; 2]) -> String {
    let line = |n: usize| format!("{{\"item_id\":{},\"buyer\":\"b{n}\",\"key\":\"k{n}\"}}\n", items[n % 2]);
    (0..RECORDS).map(line).collect()
}

fn headers() -> [String; 2] {
    [format!("Authorization: Bearer {TOKEN}"), "Content-Type: application/x-ndjson".to_owned()]
}

fn send(server: &Server, body: &str) -> Vec<Value> {
    let headers = headers();
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let answer = Http::to(server.admin).call("POST /v1/orders/batch", &headers, body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn orders(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["order_id"].as_str().unwrap()).collect()
}

fn sold(server: &Server, id: u64) -> u64 {
    Talk::with(server).say(&format!("shop GET /admin/items/{id}")).json()["sold"].as_u64().unwrap()
}

/// I2 and I5: a batch's answers hold after `kill -9`, and the same batch gets the same orders.
#[test]
fn e2e_batch_killed_after_its_answer_gives_the_same_orders() {
    let mut bed = Bed::new();
    let server = bed.start();
    let (items, body) = (items(), body(items()));
    for id in items {
        let put = Talk::with(&server)
            .say(&format!("shop PUT /admin/items/{id} {}", item(100_000, 1, "on_order", 0)));
        assert_eq!(put.status, 201, "{put:?}");
    }
    let first = send(&server, &body);
    assert!(first.len() == RECORDS && first.iter().all(|row| row["status"] == 201), "{:?}", first[0]);
    server.kill();
    let server = bed.start();
    let again = send(&server, &body);
    assert!(again.iter().all(|row| row["replay"] == true), "{:?}", again[0]);
    assert_eq!(orders(&again), orders(&first));
    assert_eq!(items.map(|id| sold(&server, id)), [RECORDS as u64 / 2; 2]);
    assert_eq!(server.stop(), Some(0));
}

/// Killed with batches under way: their retry gets one order for each purchase,
/// whatever had become of it.
#[test]
fn e2e_batch_killed_in_the_middle_loses_and_duplicates_nothing() {
    let mut bed = Bed::new();
    let server = bed.start();
    let (items, body) = (items(), body(items()));
    for id in items {
        Talk::with(&server).say(&format!("shop PUT /admin/items/{id} {}", item(100_000, 1, "on_order", 0)));
    }
    let mut gateway = Http::to(server.admin);
    let headers = headers();
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let request = gateway.request("POST /v1/orders/batch", &headers, &body);
    // All but the last line, so the batch cannot have been answered.
    let last = request.trim_end().rfind('\n').unwrap();
    gateway.send(&request[..last + 5]);
    crate::server::wait_for("some of its orders", || (sold(&server, items[0]) > 0).then_some(()));
    server.kill();
    let server = bed.start();
    let before = items.map(|id| sold(&server, id));
    let rows = send(&server, &body);
    assert!(
        rows.iter().all(|row| row["status"] == 201),
        "{:?}",
        rows.iter().find(|row| row["status"] != 201)
    );
    let replayed = rows.iter().filter(|row| row["replay"] == true).count() as u64;
    assert_eq!(replayed, before[0] + before[1], "every order that stood belongs to one purchase");
    assert_eq!(items.map(|id| sold(&server, id)), [RECORDS as u64 / 2; 2]);
    assert_eq!(server.stop(), Some(0));
}

/// The load generator's client in all its modes; it fails on any misplaced answer.
#[test]
fn e2e_batch_client_finds_every_answer_in_its_place() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut first = 100;
    for format in [Format::Binary, Format::Jsonl] {
        for (mode, stock, payment, hold_ms) in [
            (Mode::Winners, 100_000, "on_order", 0),
            (Mode::SoldOut, 300, "on_order", 0),
            (Mode::HoldAndPay, 100_000, "hold", 3_600_000),
        ] {
            let items = 4;
            for id in first..first + items {
                let put = format!("shop PUT /admin/items/{id} {}", item(stock, 1, payment, hold_ms));
                assert_eq!(Talk::with(&server).say(&put).status, 201);
            }
            let (addr, token) = (server.admin, TOKEN.to_owned());
            let (count, batch, pipeline) = (20_000, 3_000, 3);
            let plan =
                Plan { addr, token, item: first, items, stock, count, batch, pipeline, format, mode, tag: 7 };
            let report = run(&plan).unwrap_or_else(|error| panic!("{format:?} {mode:?}: {error}"));
            let winners = if mode == Mode::SoldOut { 1_200 } else { 20_000 };
            assert_eq!((report.winners, report.winners + report.refused), (winners, 20_000), "{mode:?}");
            first += items;
        }
    }
    assert_eq!(server.stop(), Some(0));
}

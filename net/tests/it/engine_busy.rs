//! Backpressure: a slow owner does not get questions without limit. Requests that find its ring
//! full get 503, and nothing has changed.

use std::time::{Duration, Instant};

use stampede_core::types::ItemId;
use stampede_net::engine::home::Client;

use crate::rig::{Rig, connect};

/// Requests that one connection sends at once: as many as may be outstanding.
const BATCH: usize = 64;
/// Connections, all at core 0: more questions than the ring to core 1 holds.
const CLIENTS: usize = 160;

fn requests(item: ItemId, client: usize) -> String {
    let one = |n: usize| {
        format!(
            "POST /v1/items/{item}/orders HTTP/1.1\r\nHost: shop\r\nX-Buyer: b{client}-{n}\r\n\
             Idempotency-Key: k\r\nContent-Length: 14\r\n\r\n{{\"quantity\":1}}"
        )
    };
    (0..BATCH).map(one).collect()
}

/// The status of each response so far.
fn statuses(out: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(out).into_owned();
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

/// Sends, and lets core 1 answer only after everything was sent.
fn ask_all(rig: &mut Rig, clients: &mut [Client], requests: impl Fn(usize) -> String) {
    for (number, client) in clients.iter_mut().enumerate() {
        client.out.clear();
        let (text, now_ms) = (requests(number), rig.homes[0].read_clock().mono_ms);
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let taken = client.conn.feed(rest, now_ms);
            rest = &rest[taken..];
            rig.homes[0].serve(client);
        }
    }
}

fn settle(rig: &mut Rig, clients: &mut [Client], answers: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        for home in &mut rig.homes {
            while home.pump() {}
        }
        for client in clients.iter_mut() {
            rig.homes[0].serve(client);
        }
        let come: usize = clients.iter().map(|client| statuses(&client.out).len()).sum();
        if come == answers {
            return;
        }
        assert!(Instant::now() < deadline, "{come} answers of {answers}");
        std::thread::yield_now();
    }
}

#[test]
fn a_full_ring_is_refused_at_once_and_can_be_retried() {
    let mut rig = Rig::new(2);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| connect(&mut rig.homes[0])).collect();
    let item = rig.item;
    ask_all(&mut rig, &mut clients, |client| requests(item, client));
    settle(&mut rig, &mut clients, CLIENTS * BATCH);
    let first: Vec<Vec<u16>> = clients.iter().map(|client| statuses(&client.out)).collect();
    let count = |wanted: u16| first.iter().flatten().filter(|&&status| status == wanted).count();
    let (placed, busy) = (count(201), count(503));
    assert_eq!(placed + busy, CLIENTS * BATCH);
    assert!(placed >= 8_192 && busy > 1_000, "{placed} placed, {busy} turned away");
    let turned_away = clients.iter().find(|client| client.out.windows(5).any(|part| part == b" 503 "));
    let told = String::from_utf8_lossy(&turned_away.expect("one of them").out).into_owned();
    assert!(told.contains("\r\nRetry-After: 1\r\n") && told.contains("\"overloaded\""), "{told}");
    // Nothing has changed: the very same requests again, and the refused ones buy.
    let is_busy = |statuses: &Vec<u16>| statuses.contains(&503);
    let late: Vec<usize> = (0..CLIENTS).filter(|&client| is_busy(&first[client])).collect();
    let mut late_clients: Vec<Client> = clients.drain(late[0]..).collect();
    ask_all(&mut rig, &mut late_clients, |number| requests(item, late[0] + number));
    settle(&mut rig, &mut late_clients, late.len() * BATCH);
    let answers: Vec<u16> = late_clients.iter().flat_map(|client| statuses(&client.out)).collect();
    assert!(answers.iter().all(|&status| status == 201), "{answers:?}");
    let replayed =
        |client: &Client| String::from_utf8_lossy(&client.out).matches("Idempotent-Replay").count();
    let again: usize = late_clients.iter().map(replayed).sum();
    assert_eq!(again, late.len() * BATCH - busy, "a request with 503 had bought nothing");
}

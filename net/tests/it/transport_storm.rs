//! Thousands of connections that open and end at every point, at random, on each transport.
//!
//! A few threads play clients for some seconds: they connect, send part of a request or several
//! requests, read or do not, and close, half-close or reset. Afterwards the server has as many
//! descriptors and as much memory as before, all places are free, every acknowledged order
//! exists, and nobody has more than the cap. The seed is printed; `STORM_SEED` repeats it.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::e2e_talk::{Http, Talk, item};
use crate::server::{Bed, Server, wait_for};
use crate::transport::{End, buy, connect, open, read_all, reset, split, total, transports, whole};

/// How long clients come, per transport.
const STORM: Duration = Duration::from_secs(6);
const THREADS: u64 = 4;
/// Connections that a thread keeps open besides its active one.
const KEPT: usize = 100;
const BUYERS: u64 = 2_000;
const CAP: u64 = 3;
/// How much memory may have grown when all are gone, in bytes.
const GROWN_BYTES_MAX: u64 = 48 << 20;

/// xorshift: the storm's only source of random numbers.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What clients were told: order id by buyer and key.
type Told = HashMap<(String, String), String>;

/// One thread's clients.
struct Clients<'s> {
    server: &'s Server,
    chance: Chance,
    told: Told,
    kept: Vec<TcpStream>,
    opened: u64,
}

impl Clients<'_> {
    fn request(&mut self) -> (String, Option<(String, String)>) {
        match self.chance.below(8) {
            0 => ("GET /v1/time HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), None),
            1 => ("GET /v1/items/1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), None),
            2 => ("GET /v1/nowhere HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n".to_owned(), None),
            _ => {
                let buyer = format!("buyer-{}", self.chance.below(BUYERS));
                let key = format!("key-{}", self.chance.below(6));
                (buy(&buyer, &key), Some((buyer, key)))
            }
        }
    }

    /// Records the responses to a connection's requests.
    fn heard(&mut self, answers: &[(u16, &str)], asked: &[Option<(String, String)>]) {
        assert!(answers.len() <= asked.len(), "{} answers to {} requests", answers.len(), asked.len());
        for ((status, body), asked) in answers.iter().zip(asked) {
            let Some(asked) = asked else {
                assert!([200, 404].contains(status), "{status} {body}");
                continue;
            };
            match status {
                201 => {
                    let order: serde_json::Value = serde_json::from_str(body).unwrap();
                    let id = order["order_id"].as_str().expect("an order").to_owned();
                    let before = self.told.insert(asked.clone(), id.clone());
                    assert!(before.is_none_or(|before| before == id), "two orders for {asked:?}");
                }
                409 => assert!(
                    body.contains("cap_reached") || body.contains("idempotency_key_running"),
                    "{body}"
                ),
                _ => panic!("{status} {body}"),
            }
        }
    }

    /// One connection from its beginning to its end, or until it is kept.
    fn one(&mut self) {
        let mut stream = connect(self.server);
        self.opened += 1;
        let (mut text, mut asked) = (String::new(), Vec::new());
        for _ in 0..[0, 1, 1, 1, 2, 5, 20, 90][self.chance.below(8) as usize] {
            let (request, what) = self.request();
            text.push_str(&request);
            asked.push(what);
        }
        let wholes = asked.len();
        if self.chance.below(3) == 0 {
            let (request, _) = self.request();
            text.push_str(&request[..self.chance.below(request.len() as u64) as usize]);
        }
        // In one piece or in several; the server may have closed meanwhile only if we broke off.
        let cut = self.chance.below(text.len() as u64 + 1) as usize;
        for part in [&text[..cut], &text[cut..]] {
            stream.write_all(part.as_bytes()).expect("the server accepts requests");
            if self.chance.below(4) == 0 {
                thread::yield_now();
            }
        }
        self.end(stream, &asked[..wholes]);
    }

    fn end(&mut self, mut stream: TcpStream, asked: &[Option<(String, String)>]) {
        match self.chance.below(7) {
            0 => reset(stream),
            1 => drop(stream),
            2 => self.keep(stream),
            3 => {
                // A few bytes, then a reset in the middle of the responses.
                let mut part = vec![0; 1 + self.chance.below(2_000) as usize];
                if !asked.is_empty() {
                    let len = stream.read(&mut part).expect("a response begins");
                    let text = String::from_utf8_lossy(&part[..len]).into_owned();
                    self.heard(&split(&text).0, asked);
                }
                reset(stream);
            }
            way => {
                if way == 4 {
                    self.slowly(&mut stream, asked.len());
                }
                // Every complete request gets a response; then the end, and no reset.
                stream.shutdown(Shutdown::Write).expect("the server is there");
                if way == 4 {
                    return;
                }
                let (said, end) = read_all(&mut stream);
                let answers = whole(&said);
                assert_eq!((answers.len(), end), (asked.len(), End::Closed));
                self.heard(&answers, asked);
            }
        }
    }

    /// Reads a few bytes at a time, and not to the end.
    fn slowly(&mut self, stream: &mut TcpStream, answers: usize) {
        for _ in 0..answers.min(40) {
            let mut part = [0; 16];
            assert!(stream.read(&mut part).expect("an answer") > 0);
        }
    }

    /// Keeps a connection open for a while, and ends another one in its place.
    fn keep(&mut self, stream: TcpStream) {
        self.kept.push(stream);
        if self.kept.len() > KEPT {
            let other = self.kept.swap_remove(self.chance.below(KEPT as u64) as usize);
            if self.chance.below(2) == 0 { reset(other) } else { drop(other) }
        }
    }
}

fn storm(server: &Server, seed: u64) -> (Told, u64) {
    let until = Instant::now() + STORM;
    let threads: Vec<_> = thread::scope(|scope| {
        let play = |number: u64| {
            scope.spawn(move || {
                let chance = Chance((seed ^ (number + 1)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
                let (told, kept) = (Told::new(), Vec::new());
                let mut clients = Clients { server, chance, told, kept, opened: 0 };
                while Instant::now() < until {
                    clients.one();
                }
                (clients.told, clients.opened)
            })
        };
        let threads: Vec<_> = (0..THREADS).map(play).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client was treated wrongly")).collect()
    });
    let (mut told, mut opened) = (Told::new(), 0);
    for (told_here, opened_here) in threads {
        for (asked, id) in told_here {
            let before = told.insert(asked.clone(), id.clone());
            assert!(before.is_none_or(|before| before == id), "two orders for {asked:?}");
        }
        opened += opened_here;
    }
    (told, opened)
}

/// Compares with the merchant API: every acknowledged order exists, nobody has more than the cap.
fn judge(server: &Server, told: &Told) {
    let mut shop = Talk::with(server);
    let mut owners: HashMap<String, String> = HashMap::new();
    for buyer in (0..=BUYERS).map(|number| format!("buyer-{number}")) {
        let orders = shop.say(&format!("shop GET /admin/orders?buyer={buyer}&limit=1000")).json();
        let orders = orders["orders"].as_array().expect("orders").clone();
        assert!(orders.len() as u64 <= CAP, "{buyer} has {} orders", orders.len());
        owners.extend(
            orders.iter().map(|order| (order["order_id"].as_str().unwrap().to_owned(), buyer.clone())),
        );
    }
    for ((buyer, key), id) in told {
        assert_eq!(owners.get(id), Some(buyer), "{buyer} was told of order {id}");
        // The same key always names the same order.
        let again = shop.say(&format!("{buyer} POST /v1/items/1/orders {{\"quantity\":1}} #{key}"));
        assert_eq!(again.order_id().as_ref(), Some(id));
    }
    let books = shop.say("shop GET /admin/items/1").json();
    assert_eq!(books["sold"].as_u64(), Some(owners.len() as u64));
}

#[test]
fn connections_that_come_and_go_at_random_leave_nothing_behind() {
    let seed = std::env::var("STORM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed =
        seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    for transport in transports() {
        println!("on {transport}, STORM_SEED={seed}");
        let mut bed = Bed::new().set("transport", &transport);
        bed.cores = "2";
        let server = bed.start();
        // Units for no more than are bought: space for all their orders is allocated ahead.
        let body = item(2 * BUYERS * CAP, CAP as u32, "on_order", 0);
        assert_eq!(Talk::with(&server).say(&format!("shop PUT /admin/items/1 {body}")).status, 201);
        wait_for("rest", || (open(&server) <= 1).then_some(()));
        let (files, memory) = (server.files(), server.memory_bytes());
        let (told, opened) = storm(&server, seed);
        println!(
            "{opened} connections, {} orders told of, {} requests",
            told.len(),
            total(&server, "requests")
        );
        assert!(opened > 1_000 && told.len() > 100);
        wait_for("the places", || (open(&server) <= 1).then_some(()));
        // One log segment more or less, and the connection that asks.
        wait_for("the descriptors", || (server.files() <= files + 4).then_some(()));
        let grown = server.memory_bytes().saturating_sub(memory);
        println!("memory has grown by {grown} bytes");
        assert!(grown < GROWN_BYTES_MAX, "memory has grown by {grown} bytes");
        let canary = Http::to(server.public).call(
            "POST /v1/items/1/orders",
            &[&format!("X-Buyer: buyer-{BUYERS}")],
            r#"{"quantity":1}"#,
        );
        assert_eq!(canary.status, 201);
        judge(&server, &told);
        assert_eq!(server.stop(), Some(0));
    }
}

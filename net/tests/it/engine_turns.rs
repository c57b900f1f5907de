//! Fair shares: under load, everybody who waits for an owner is served equally often, on whichever core
//! the connection is, and whatever the others send.

use std::time::{Duration, Instant};

use stampede_core::command::Ticket;
use stampede_core::limits::OWNER_BATCH_MAX;
use stampede_core::types::{ItemId, Quantity, Subject};
use stampede_net::engine::ask::{Ask, Key, PurchaseAsk, RareAsk, Reply, ReplyTo, Who};
use stampede_net::engine::batch::{CHUNK_RECORDS_MAX, Chunk, RecordOp};
use stampede_net::engine::home::Client;
use stampede_net::engine::mesh::Endpoint;

use crate::rig::{Base, Rig, Setup, connect};

/// Largest share ÷ smallest share.
const RATIO_MAX: f64 = 1.1;
/// Requests that a connection has under way.
const WINDOW: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);

fn rig(cores: usize) -> Rig {
    let setup = Setup { ring_slots: Some(WINDOW), ack_durable: false, ..Setup::default() };
    Rig::on(Base::made(cores, setup), cores, |_, _| {})
}

/// A connection that always has the maximum of requests under way.
struct Buyer {
    client: Client,
    sent: usize,
    answered: usize,
}

impl Buyer {
    fn new(rig: &mut Rig, core: usize) -> Self {
        Self { client: connect(&mut rig.homes[core]), sent: 0, answered: 0 }
    }

    /// Takes responses, and sends at most so many requests.
    fn go_on(&mut self, rig: &mut Rig, core: usize) {
        let (home, item) = (&mut rig.homes[core], rig.item);
        home.serve(&mut self.client);
        self.take();
        for _ in self.sent - self.answered..WINDOW {
            let request = purchase(item, core, self.sent);
            let now_ms = home.read_clock().mono_ms;
            assert_eq!(self.client.conn.feed(request.as_bytes(), now_ms), request.len());
            self.sent += 1;
            home.serve(&mut self.client);
        }
        self.take();
    }

    fn take(&mut self) {
        let out = std::mem::take(&mut self.client.out);
        self.answered += memchr::memmem::find_iter(&out, b"HTTP/1.1 ").count();
    }
}

fn purchase(item: ItemId, core: usize, number: usize) -> String {
    format!(
        "POST /v1/items/{item}/orders HTTP/1.1\r\nHost: shop\r\nX-Buyer: b{core}-{number}\r\n\
         Content-Length: 14\r\n\r\n{{\"quantity\":1}}"
    )
}

fn ratio(served: &[usize]) -> f64 {
    let (most, least) = (served.iter().max().unwrap(), served.iter().min().unwrap());
    *most as f64 / (*least).max(1) as f64
}

/// All homes, including the owner's own, have more questions open at one owner than it takes in a turn.
fn shares(cores: usize, turns: usize) -> Vec<usize> {
    let mut rig = rig(cores);
    let mut buyers: Vec<Buyer> = (0..cores).map(|core| Buyer::new(&mut rig, core)).collect();
    let owner = rig.item.owner(cores);
    let (mut before, warm_up) = (vec![0; cores], 8);
    for turn in 0..turns + warm_up {
        if turn == warm_up {
            before = buyers.iter().map(|buyer| buyer.answered).collect();
        }
        for (core, buyer) in buyers.iter_mut().enumerate() {
            if core != owner {
                rig.homes[core].pump();
            }
            buyer.go_on(&mut rig, core);
        }
        rig.homes[owner].read_clock();
        assert!(rig.homes[owner].pump(), "the owner is not under load");
    }
    buyers.iter().zip(before).map(|(buyer, before)| buyer.answered - before).collect()
}

#[test]
fn engine_turns_all_homes_have_an_equal_share_of_a_busy_owner() {
    for (cores, turns) in [(4, 100), (16, 150), (64, 300)] {
        let served = shares(cores, turns);
        assert!(served.iter().sum::<usize>() >= turns * OWNER_BATCH_MAX * 9 / 10, "{cores}: {served:?}");
        assert!(ratio(&served) <= RATIO_MAX, "{cores} homes: {served:?}");
    }
}

// ---- whatever the others send ----

/// Questions that a home keeps open.
const OPEN: usize = 200;

fn ask(item: ItemId, home: usize, number: usize) -> Ask {
    let name = format!("s{home}-{number}");
    let buyer = stampede_core::types::HashSecret([1; 16]).buyer(name.as_bytes());
    Ask::Purchase(PurchaseAsk {
        item,
        buyer,
        subject: Subject::new(name.as_bytes()).unwrap(),
        quantity: Quantity::ONE,
        key: Key::new(b""),
        ticket: Ticket::Good,
    })
}

fn chunk(item: ItemId, number: usize) -> Box<Chunk> {
    let mut chunk = Box::<Chunk>::default();
    for index in 0..CHUNK_RECORDS_MAX {
        let name = format!("c{number}-{index}");
        let buyer = stampede_core::types::HashSecret([1; 16]).buyer(name.as_bytes());
        let want = RecordOp::Purchase { item, buyer, quantity: Quantity::ONE, ticket: Ticket::Good };
        chunk.push(index as u32, want, name.as_bytes(), b"");
    }
    chunk
}

/// A gateway streams chunks on core 0, buyers ask one by one on the others, the exporter has changes from the
/// database: each gets one share.
#[test]
fn engine_turns_chunks_are_cut_and_the_exporter_has_its_share() {
    const CORES: usize = 4;
    let setup = Setup { ack_durable: false, ..Setup::default() };
    let mut rig = Rig::on(Base::made(CORES, setup), CORES, |_, _| {});
    let (item, owner) = (rig.item, rig.item.owner(CORES));
    let shared = rig.homes[owner].shared().clone();
    let mut ends: Vec<Endpoint> =
        (0..CORES - 1).map(|core| Endpoint::new(shared.mesh.clone(), core)).collect();
    let granted = |rig: &Rig| rig.homes[owner].owner().shard().item(item).unwrap().granted;
    let (first_granted, deadline) = (granted(&rig), Instant::now() + PATIENCE);
    let (mut served, mut sent, mut open) = ([0usize; CORES], [0usize; CORES], [0usize; CORES]);
    for _ in 0..2_000 {
        for (home, end) in ends.iter_mut().enumerate() {
            let most = if home == 0 { 2 } else { OPEN };
            while open[home] < most {
                let question =
                    if home == 0 { Ask::Batch(chunk(item, sent[0])) } else { ask(item, home, sent[home]) };
                assert!(end.ask(owner, ReplyTo::Nobody, question));
                (sent[home], open[home]) = (sent[home] + 1, open[home] + 1);
            }
        }
        let outside = granted(&rig) - first_granted;
        while sent[CORES - 1] < outside as usize + OPEN {
            shared.mesh.ask_from_outside(owner, RareAsk::Adjust(item, 1, Who::Postgres, Key::none()));
            sent[CORES - 1] += 1;
        }
        rig.homes[owner].read_clock();
        assert!(rig.homes[owner].pump(), "the owner is not under load");
        for (home, end) in ends.iter_mut().enumerate() {
            while let Some((_, reply)) = end.next_reply(owner) {
                open[home] -= 1;
                served[home] += match reply {
                    Reply::Batch(chunk) => {
                        assert!(
                            chunk.is_decided(),
                            "a chunk that was cut came back in part: {:?}",
                            chunk.busy
                        );
                        chunk.len()
                    }
                    _ => 1,
                };
            }
        }
        // This asks more of the journal than it has room for.
        while !shared.queue.producer().has_room() {
            assert!(Instant::now() < deadline, "the journal makes no progress");
            std::thread::yield_now();
        }
    }
    served[CORES - 1] = (granted(&rig) - first_granted) as usize;
    assert!(ratio(&served) <= RATIO_MAX, "chunks, two homes, the exporter: {served:?}");
}

/// Questions in the ring from a core to itself are answered like all others, and the ring is
/// empty when nobody asks any more.
#[test]
fn engine_turns_a_core_waiting_in_its_own_queue_is_served() {
    const CORES: usize = 4;
    let mut rig = rig(CORES);
    let owner = rig.item.owner(CORES);
    let mut buyers: Vec<Buyer> = (0..CORES).map(|core| Buyer::new(&mut rig, core)).collect();
    for _ in 0..20 {
        for (core, buyer) in buyers.iter_mut().enumerate() {
            if core != owner {
                rig.homes[core].pump();
            }
            buyer.go_on(&mut rig, core);
        }
        rig.homes[owner].pump();
    }
    let mesh = rig.homes[owner].shared().mesh.clone();
    assert!(mesh.waiting(owner, owner) > 0, "the owner's own core waits its turn");
    for _ in 0..WINDOW {
        for home in &mut rig.homes {
            home.pump();
        }
    }
    for (core, buyer) in buyers.iter_mut().enumerate() {
        rig.homes[core].serve(&mut buyer.client);
        buyer.take();
        assert_eq!((buyer.answered, core), (buyer.sent, core));
        assert!(!rig.homes[core].has_work());
    }
}

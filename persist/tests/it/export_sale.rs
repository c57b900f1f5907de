//! A random sale, decided by a real shard: what the twins of the export are fed with.

use std::collections::BTreeMap;
use std::sync::Arc;

use stampede_core::catalogue::Catalogue;
use stampede_core::command::{Command, ItemPatch, Movement, Outcome, Purchase, Refusal, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::fact::{ACTOR_POSTGRES, Fact, Switch};
use stampede_core::item::Payment;
use stampede_core::shard::{Accepted, FactSink, Shard};
use stampede_core::types::{HashSecret, ItemId, Lsn, OrderId, Quantity, UnixMillis};
use stampede_persist::codec::fact::{decode, encode, fact_kind};
use stampede_persist::export::ExportEvent;

use crate::export_bed::item;
use crate::sim_disk::Rng;

const SECRET: HashSecret = HashSecret(*b"a test's secret!");
/// Items that may come to be.
pub(crate) const ITEMS: u64 = 6;
const BUYERS: u64 = 14;

/// Keeps facts as the log would give them back.
#[derive(Default)]
struct Keep(Vec<Fact<'static>>, u64);

impl FactSink for Keep {
    fn append(&mut self, fact: Accepted<'_>) -> Lsn {
        let mut bytes = vec![0; 1 << 13];
        let len = encode(&fact, &mut bytes);
        bytes.truncate(len);
        self.0.push(decode(fact_kind(&fact), bytes.leak()).expect("what went in comes out"));
        self.1 += 1;
        Lsn(self.1)
    }
}

/// The sale.
pub(crate) struct RandomSale {
    shard: Shard,
    keep: Keep,
    now: UnixMillis,
    /// Orders placed, to be moved on.
    pub(crate) orders: Vec<OrderId>,
    /// Up to where each item's differences are answered.
    followed: BTreeMap<ItemId, Lsn>,
}

pub(crate) fn buyer(buyer: u64) -> String {
    // Some are not text.
    if buyer == 3 { "b\\3\u{e9}\0".to_owned() } else { format!("buyer-{buyer}") }
}

impl RandomSale {
    pub(crate) fn new() -> Self {
        let shard = Shard::new(0, SECRET, Arc::new(Catalogue::new(1)));
        let now = UnixMillis(1_800_000_000_000);
        Self { shard, keep: Keep::default(), now, orders: Vec::new(), followed: BTreeMap::new() }
    }

    /// Some steps of the sale; the facts that came of them.
    pub(crate) fn go_on(&mut self, rng: &mut Rng, steps: u64) -> Vec<Fact<'static>> {
        for _ in 0..steps {
            self.now.0 += rng.below(300);
            self.step(rng);
        }
        std::mem::take(&mut self.keep.0)
    }

    /// A run of purchases of one item, by as many buyers: more than go into one insert.
    pub(crate) fn rush(&mut self, orders: u64) -> Vec<Fact<'static>> {
        let id = item(ITEMS + 1);
        let patch = ItemPatch {
            name: Some("rush"),
            stock: Some(orders),
            opens_at_ms: Some(self.now),
            closes_at_ms: Some(UnixMillis(self.now.0 + 1)),
            ..ItemPatch::default()
        };
        self.decide(&Command::PutItem { item: id, patch, seed: DrawSeed::NONE, actor: "merchant" });
        for number in 0..orders {
            self.purchase(id, &format!("rush-{number}"), 1, "");
        }
        std::mem::take(&mut self.keep.0)
    }

    /// The engine's answers to what the exporter told it.
    pub(crate) fn answer(&mut self, events: &[ExportEvent]) -> Vec<Fact<'static>> {
        let actor = ACTOR_POSTGRES;
        for event in events {
            match *event {
                ExportEvent::StockChangedOutside { item, delta, as_of, .. } => {
                    if self.followed.get(&item).is_some_and(|answered| *answered > as_of) {
                        continue;
                    }
                    let mut done = self.decide(&Command::AdjustStock { item, delta, actor, key: b"" });
                    if matches!(done, Outcome::Refused(refusal) if refusal != Refusal::NotFound) {
                        let switch = Switch::Paused;
                        done = self.decide(&Command::SwitchItem { item, switch, actor, key: b"" });
                    }
                    self.followed.insert(item, done.shown_after());
                }
                ExportEvent::PauseItem { item, .. } => {
                    self.decide(&Command::SwitchItem { item, switch: Switch::Paused, actor, key: b"" });
                }
                _ => {}
            }
        }
        std::mem::take(&mut self.keep.0)
    }

    fn decide(&mut self, command: &Command<'_>) -> Outcome {
        let outcome = self.shard.decide(self.now, command, &mut self.keep);
        if let Outcome::Placed(order) = outcome {
            self.orders.push(order.order);
        }
        outcome
    }

    fn step(&mut self, rng: &mut Rng) {
        let (id, actor) = (item(1 + rng.below(ITEMS)), "merchant");
        match rng.below(40) {
            0..=2 => self.put(rng, id),
            3 => {
                let delta = rng.below(40) as i64 - 10;
                self.decide(&Command::AdjustStock { item: id, delta, actor, key: b"" });
            }
            4..=6 => {
                let switches = [Switch::Paused, Switch::Resumed, Switch::Resumed, Switch::Resumed];
                let closed = rng.below(30) == 0;
                let switch = if closed { Switch::Closed } else { switches[rng.below(4) as usize] };
                self.decide(&Command::SwitchItem { item: id, switch, actor, key: b"" });
            }
            7 => {
                let (subject, blocked) = (format!("rude-{}", rng.below(5)), rng.below(3) > 0);
                self.decide(&Command::BlockBuyer { subject: subject.as_bytes(), blocked, actor });
            }
            8..=9 => {
                self.now.0 += rng.below(4_000);
                self.shard.tick(self.now, 100, &mut self.keep);
            }
            10..=17 => self.move_on(rng),
            _ => self.buy(rng, id),
        }
    }

    fn put(&mut self, rng: &mut Rng, id: ItemId) {
        let name = format!("phone {id}.{}", rng.below(100));
        let patch = ItemPatch {
            name: Some(&name),
            price_minor: Some(rng.below(1_000)),
            stock: Some(rng.below(60)),
            opens_at_ms: Some(UnixMillis(self.now.0 - 1)),
            closes_at_ms: Some(UnixMillis(self.now.0 + 2_000 + rng.below(100_000))),
            cap: Some(1 + rng.below(4) as u32),
            payment: Some([Payment::OnOrder, Payment::Hold, Payment::OnPayment][id.get() as usize % 3]),
            hold_ms: Some(1_000 + rng.below(5_000)),
            draw_ms: (id.get() == 4).then_some(1_000),
            ..ItemPatch::default()
        };
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&rng.next().to_le_bytes());
        let again = ItemPatch { stock: None, payment: None, draw_ms: None, opens_at_ms: None, ..patch };
        let patch = if self.shard.item(id).is_some() { again } else { patch };
        self.decide(&Command::PutItem { item: id, patch, seed: DrawSeed(seed), actor: "merchant" });
    }

    fn buy(&mut self, rng: &mut Rng, item: ItemId) {
        let subject = buyer(rng.below(BUYERS));
        let key = if rng.coin() { String::new() } else { format!("key-{}", rng.below(1_000)) };
        let quantity = 1 + rng.below(2);
        self.purchase(item, &subject, quantity, &key);
    }

    fn purchase(&mut self, item: ItemId, subject: &str, quantity: u64, key: &str) {
        self.decide(&Command::Purchase(Purchase {
            item,
            buyer: SECRET.buyer(subject.as_bytes()),
            subject: subject.as_bytes(),
            quantity: Quantity::new(quantity).expect("small"),
            key: key.as_bytes(),
            ticket: Ticket::Good,
        }));
    }

    fn move_on(&mut self, rng: &mut Rng) {
        if self.orders.is_empty() {
            return;
        }
        let order = self.orders[rng.below(self.orders.len() as u64) as usize];
        let movement =
            [Movement::Pay, Movement::Pay, Movement::Cancel, Movement::Refund][rng.below(4) as usize];
        let reference = format!("pay-{}", rng.below(3));
        // Some give back a part.
        if movement == Movement::Refund && reference == "pay-0" {
            let (payment_ref, refund_ref, units) = (&b""[..], reference.as_bytes(), Some(Quantity::ONE));
            self.decide(&Command::Refund { order, payment_ref, refund_ref, units, actor: "merchant" });
            return;
        }
        // Some name a payment: the order's own, one that came too late, or none of it.
        let names = movement == Movement::Pay || (movement == Movement::Refund && reference == "pay-1");
        let payment_ref = if names { reference.as_bytes() } else { b"" };
        self.decide(&Command::Move { order, movement, payment_ref, actor: "merchant" });
    }
}

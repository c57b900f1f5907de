//! The home core's early refusal against the owner's word.
//!
//! Whatever `admit` refuses for the sale's sake, the owner refuses with the same words, and
//! it never stands between a buyer and the answer to a retry. The owner can be asked
//! right away: if both refuse, nothing has changed.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::any;
use stampede_core::admit::{Buyer, admit};
use stampede_core::command::{Command, Outcome, Purchase, Refusal, Ticket};
use stampede_core::gauge::Gauge;
use stampede_core::shard::{Accepted, FactSink};
use stampede_core::types::{BuyerHash, ItemId, Lsn, Quantity, UnixMillis};

use crate::trace::{BUYERS, ITEMS, Patch, Step, check, history};
use crate::world::{World, buyer_hash, item_id, subject};

#[derive(Clone, Copy, Debug)]
struct Asker {
    item: ItemId,
    buyer: u8,
    level: u8,
    key: &'static [u8],
    ticket: Ticket,
}

type Seen = RefCell<BTreeMap<&'static str, u64>>;

fn count(seen: &Seen, what: &'static str) {
    *seen.borrow_mut().entry(what).or_default() += 1;
}

/// The sale clock of a home core is never behind that of the owner's facts (I14).
fn sale_clock(world: &World, item: ItemId) -> UnixMillis {
    world.now.max(world.engine.owner(item).clock())
}

fn verdict(world: &World, asker: &Asker) -> Option<Result<Ticket, Refusal>> {
    let gauge = world.engine.owner(asker.item).catalogue().find(asker.item)?;
    let hash = buyer_hash(asker.buyer);
    let blocked = world.engine.owner(asker.item).is_blocked(hash);
    let buyer = Buyer { hash, level: asker.level, since_s: None, blocked };
    Some(admit(sale_clock(world, asker.item), gauge, &buyer, || Ok(()), || asker.ticket))
}

fn ask(world: &mut World, asker: &Asker, seen: &Seen) {
    let Some(verdict) = verdict(world, asker) else { return };
    let (level_min, sold_out) = {
        let item = &world.model.items[&asker.item];
        (item.spec.min_level, world.model.available(asker.item) == 0)
    };
    let blocked = world.model.blocked.iter().any(|subject| **subject == [b'A' + asker.buyer]);
    let eligible = !blocked && asker.level >= level_min;
    assert_eq!(verdict == Err(Refusal::NotEligible), !eligible, "{asker:?}");
    if !eligible {
        return count(seen, "not eligible");
    }
    world.now = sale_clock(world, asker.item);
    let outcome = world.buy(asker.item, asker.buyer, 1, asker.key, asker.ticket);
    match verdict {
        Err(refusal) => {
            assert_eq!(outcome, Outcome::Refused(refusal), "home and owner differ for {asker:?}");
            count(seen, name_of(refusal));
        }
        Ok(ticket) => {
            assert_eq!(ticket, asker.ticket, "the verdict on the ticket goes with the purchase");
            let retry = matches!(outcome, Outcome::Replayed(_));
            if retry && sold_out {
                count(seen, "retry after sold out");
            }
            if retry && ticket != Ticket::Good {
                count(seen, "retry without a good ticket");
            }
        }
    }
}

fn name_of(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotOpen { .. } => "not open",
        Refusal::Ended => "ended",
        Refusal::Paused => "paused",
        Refusal::SoldOut => "sold out",
        Refusal::TicketRequired => "ticket required",
        Refusal::TicketInvalid => "ticket invalid",
        _ => panic!("not one that a home core may give: {refusal:?}"),
    }
}

#[test]
fn a_refusal_at_home_is_the_owners_refusal() {
    let seen = Seen::default();
    let strategy = (history(300), any::<u64>());
    let full = check(200, &strategy, |(history, mut dice)| {
        let mut world = World::new(history.cores);
        for step in &history.steps {
            world.take(step);
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let roll = dice >> 33;
            let asker = Asker {
                item: item_id(roll % ITEMS + 1),
                buyer: (roll / 8 % u64::from(BUYERS)) as u8,
                level: (roll / 128 % 5) as u8,
                key: [&b"k1"[..], b"k2", b""][roll as usize / 1024 % 3],
                ticket: [Ticket::Good, Ticket::Good, Ticket::Missing, Ticket::Invalid]
                    [roll as usize / 4096 % 4],
            };
            ask(&mut world, &asker, &seen);
        }
        world.check_all();
    });
    println!("{:?}", seen.borrow());
    let kinds = [
        "ended",
        "not eligible",
        "not open",
        "paused",
        "retry after sold out",
        "retry without a good ticket",
        "sold out",
        "ticket invalid",
        "ticket required",
    ];
    if full {
        assert!(kinds.iter().all(|kind| seen.borrow().contains_key(kind)), "{:?}", seen.borrow());
    }
}

/// The checks behind one that refuses are not asked: a request before the opening uses up no
/// rate, one above the rate has no ticket looked at.
#[test]
fn each_check_waits_for_its_turn() {
    let mut world = World::new(1);
    let patch = Patch {
        name: Some("item".into()),
        stock: Some(5),
        opens_in_ms: Some(0),
        closes_in_ms: Some(100),
        ..Patch::default()
    };
    world.take(&Step::Put { item: 1, patch });
    let gauge = world.engine.owner(item_id(1)).catalogue().find(item_id(1)).expect("created");
    let buyer = Buyer { hash: buyer_hash(0), level: 0, since_s: None, blocked: false };
    let asked = RefCell::new(String::new());
    let ask = |now: UnixMillis, rate: Result<(), Refusal>, ticket: Ticket| {
        asked.borrow_mut().clear();
        let rate = || {
            asked.borrow_mut().push('r');
            rate
        };
        let ticket = || {
            asked.borrow_mut().push('t');
            ticket
        };
        let verdict = admit(now, gauge, &buyer, rate, ticket);
        (verdict, asked.borrow().clone())
    };
    let limited = Refusal::RateLimited { retry_after_ms: 7 };
    let (early, open) = (UnixMillis(gauge.opens_at_ms().0 - 1), gauge.opens_at_ms());
    assert_eq!(ask(early, Ok(()), Ticket::Good), (Err(Refusal::NotOpen { opens_in_ms: 1 }), String::new()));
    assert_eq!(ask(open, Err(limited), Ticket::Missing), (Err(limited), "r".into()));
    assert_eq!(ask(open, Ok(()), Ticket::Missing), (Err(Refusal::TicketRequired), "rt".into()));
    assert_eq!(ask(open, Ok(()), Ticket::Good), (Ok(Ticket::Good), "rt".into()));
}

/// A sink that looks at the gauge as another core may, at the moment at which the owner has
/// taken the stock and not yet booked the order.
struct Onlooker<'a> {
    gauge: &'a Gauge,
    buyer: BuyerHash,
    saw_it_sold_out: bool,
}

impl FactSink for Onlooker<'_> {
    fn append(&mut self, _: Accepted<'_>) -> Lsn {
        self.saw_it_sold_out = self.gauge.stock.available() == 0;
        assert!(self.gauge.may_hold(self.buyer), "sold out, and the winner is not among the holders");
        Lsn(1_000_000)
    }
}

/// Whoever reads zero finds the winner among the holders already, or the winner's retry would
/// be answered "sold out" (I5).
#[test]
fn a_winner_is_a_holder_before_the_stock_shows_zero() {
    let mut world = World::new(1);
    let patch = Patch {
        name: Some("the last one".into()),
        stock: Some(1),
        opens_in_ms: Some(0),
        closes_in_ms: Some(100),
        ..Patch::default()
    };
    world.take(&Step::Put { item: 1, patch });
    let catalogue = world.engine.owner(item_id(1)).catalogue().clone();
    let gauge = catalogue.find(item_id(1)).expect("created");
    let mut onlooker = Onlooker { gauge, buyer: buyer_hash(0), saw_it_sold_out: false };
    let purchase = Purchase {
        item: item_id(1),
        buyer: buyer_hash(0),
        subject: &subject(0),
        quantity: Quantity::ONE,
        key: b"k1",
        ticket: Ticket::Good,
    };
    let now = gauge.opens_at_ms();
    let outcome = world.engine.shards[0].decide(now, &Command::Purchase(purchase), &mut onlooker);
    assert!(matches!(outcome, Outcome::Placed(_)), "{outcome:?}");
    assert!(onlooker.saw_it_sold_out, "the stock is taken before the fact is appended");
}

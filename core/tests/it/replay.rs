//! Replay refuses or reveals what never happened: every damaged copy of a log must be
//! refused, or end in another digest.

use proptest::prelude::any;
use stampede_core::fact::Fact;
use stampede_core::shard::ApplyError;
use stampede_core::types::{ItemId, Lsn, Quantity, UnixMillis};

use crate::engine::{Engine, apply, digest, replayed};
use crate::trace::{History, Step, check, history};
use crate::world::World;

type Facts = Vec<(Lsn, Fact<'static>)>;

fn recorded(history: &History) -> Engine {
    let mut world = World::new(history.cores);
    history.steps.iter().for_each(|step| {
        world.take(step);
    });
    world.take(&Step::Tick { budget: usize::MAX });
    world.engine
}

/// The facts with the numbers 1, 2, 3, … in their order, as a forger would write them.
fn renumbered(facts: impl IntoIterator<Item = Fact<'static>>) -> Facts {
    (1..).map(Lsn).zip(facts).collect()
}

fn only(facts: &Facts) -> impl Iterator<Item = Fact<'static>> + '_ {
    facts.iter().map(|(_, fact)| *fact)
}

fn assert_noticed(what: &str, facts: &Facts, cores: usize, original: u64) {
    if let Ok(shards) = replayed(cores, facts) {
        assert_ne!(digest(&shards), original, "{what} went unnoticed");
    }
}

/// Whether the state at the end tells where the fact stood: it placed an order, or is the
/// last that moved one. Of an earlier move nothing remains but the state it led to.
fn place_shows(facts: &Facts, at: usize) -> bool {
    match facts[at].1 {
        Fact::OrderPlaced { .. } => true,
        Fact::OrderMoved { order: moved, .. }
        | Fact::OrderRefunded { order: moved, .. }
        | Fact::LatePaymentReturned { order: moved, .. }
        | Fact::PaymentLate { order: moved, .. } => {
            let again = |(_, fact): &(Lsn, Fact<'_>)| {
                matches!(fact, Fact::OrderMoved { order, .. } | Fact::OrderRefunded { order, .. }
                    | Fact::PaymentLate { order, .. } | Fact::LatePaymentReturned { order, .. } if *order == moved)
            };
            !facts[at + 1..].iter().any(again)
        }
        Fact::EntryDrawn { order: drawn, .. } => {
            let again = |(_, fact): &(Lsn, Fact<'_>)| matches!(fact, Fact::OrderMoved { order, .. } if *order == drawn);
            !facts[at + 1..].iter().any(again)
        }
        _ => false,
    }
}

#[test]
fn a_damaged_log_is_noticed() {
    let strategy = (history(250), any::<proptest::sample::Index>());
    check(400, &strategy, |(history, index)| {
        let engine = recorded(&history);
        let (facts, original) = (&engine.log.facts, engine.digest());
        let items: Vec<usize> = (0..facts.len()).filter(|&at| facts[at].1.item().is_some()).collect();
        let cores = history.cores % 4 + 1;
        if items.is_empty() {
            return;
        }
        let at = items[index.index(items.len())];
        assert_noticed("a dropped fact", &dropped(facts, at), cores, original);
        assert_noticed("a doubled fact", &doubled(facts, at), cores, original);
        let damages = [
            ("another quantity", requantified(facts, at)),
            ("another time", redated(facts, at)),
            ("two facts swapped", next_of_item(facts, at).map(|other| swapped(facts, at, other))),
        ];
        for (what, damaged) in damages {
            damaged.inspect(|damaged| assert_noticed(what, damaged, cores, original));
        }
    });
}

/// The numbers around it stay, as in a log whose block was lost.
fn dropped(facts: &Facts, at: usize) -> Facts {
    let mut facts = facts.clone();
    facts.remove(at);
    facts
}

fn doubled(facts: &Facts, at: usize) -> Facts {
    let mut list: Vec<_> = only(facts).collect();
    list.insert(at, facts[at].1);
    renumbered(list)
}

fn swapped(facts: &Facts, at: usize, other: usize) -> Facts {
    let mut list: Vec<_> = only(facts).collect();
    list.swap(at, other);
    renumbered(list)
}

/// The next fact of the same item, if the order of the two must show: two settings, or two
/// grants, may well end in the same state whichever comes first.
fn next_of_item(facts: &Facts, at: usize) -> Option<usize> {
    let item = facts[at].1.item();
    let other = (at + 1..facts.len()).find(|&other| facts[other].1.item() == item)?;
    (place_shows(facts, at) || place_shows(facts, other)).then_some(other)
}

/// One unit more than there was.
fn requantified(facts: &Facts, at: usize) -> Option<Facts> {
    let mut facts = facts.clone();
    match &mut facts[at].1 {
        Fact::ItemCreated { granted, .. } => *granted += 1,
        Fact::StockAdjusted { delta, .. } => *delta -= 1,
        Fact::DrawHeld { units, .. } => *units += 1,
        Fact::OrderPlaced { quantity, .. }
        | Fact::OrderRefunded { quantity, .. }
        | Fact::OrderMoved { quantity, .. }
        | Fact::EntryDrawn { quantity, .. } => {
            *quantity = Quantity::new(u64::from(quantity.get()) + 1).expect("small");
        }
        _ => return None,
    }
    Some(facts)
}

/// A millisecond later than it was; only of an order is the time kept.
fn redated(facts: &Facts, at: usize) -> Option<Facts> {
    let mut facts = facts.clone();
    let Fact::OrderPlaced { at_ms, .. } = &mut facts[at].1 else { return None };
    at_ms.0 += 1;
    Some(facts)
}

#[test]
fn facts_apply_once() {
    check(100, &history(300), |history| {
        let engine = recorded(&history);
        let mut shards = replayed(2, &engine.log.facts).expect("a recorded log can be replayed");
        let once = digest(&shards);
        for (lsn, fact) in &engine.log.facts {
            assert_eq!(apply(&mut shards, *lsn, fact), Err(ApplyError::OutOfOrder(*lsn)));
        }
        assert_eq!((digest(&shards), once), (once, engine.digest()));
    });
}

#[test]
fn a_clock_mark_moves_the_clock_and_nothing_else() {
    let mark = (Lsn(1), Fact::ClockMark { at_ms: UnixMillis(77) });
    let mut shards = replayed(3, &[mark]).expect("a mark can always follow");
    assert_eq!(digest(&shards), 0);
    assert!(shards.iter().all(|shard| (shard.clock(), shard.lsn()) == (UnixMillis(77), Lsn(1))));
    let unknown = ItemId::new(9).expect("valid");
    let fact = Fact::StockAdjusted { at_ms: UnixMillis(78), item: unknown, delta: 1, actor: "a", key: b"" };
    assert_eq!(apply(&mut shards, Lsn(2), &fact), Err(ApplyError::UnknownItem(unknown)));
}

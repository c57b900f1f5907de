//! Draws that a random history does not reach: many entries, long pauses, odd settings.

use std::collections::BTreeSet;

use stampede_core::command::{Command, ItemPatch, Movement, OrderView, Outcome, Purchase, Refusal, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::fact::{Fact, Switch};
use stampede_core::item::{OrderState, Payment};
use stampede_core::limits::{DRAW_MS_MAX, HOLD_MS_MAX};
use stampede_core::types::{ItemId, OrderId, Quantity, UnixMillis};

use crate::engine::{Engine, SECRET};

const OPENS_AT: UnixMillis = UnixMillis(10_000);
const DRAW_MS: u32 = 5_000;
const DRAWS_AT: UnixMillis = UnixMillis(15_000);
const CLOSES_AT: UnixMillis = UnixMillis(1 << 45);
const SEED: DrawSeed = DrawSeed([0x42; 32]);

fn item() -> ItemId {
    ItemId::new(1).expect("valid")
}

fn patch(stock: u64, payment: Payment) -> ItemPatch<'static> {
    ItemPatch {
        name: Some("drawn"),
        stock: Some(stock),
        opens_at_ms: Some(OPENS_AT),
        closes_at_ms: Some(CLOSES_AT),
        cap: Some(3),
        payment: Some(payment),
        hold_ms: Some(if payment == Payment::OnOrder { 0 } else { HOLD_MS_MAX }),
        draw_ms: Some(DRAW_MS),
        ..ItemPatch::default()
    }
}

fn put(engine: &mut Engine, now: UnixMillis, patch: ItemPatch<'_>, seed: DrawSeed) -> Outcome {
    engine.decide(now, &Command::PutItem { item: item(), patch, seed, actor: "shop" })
}

fn with_draw(stock: u64, payment: Payment) -> Engine {
    let mut engine = Engine::new(1);
    let made = put(&mut engine, UnixMillis(1_000), patch(stock, payment), SEED);
    assert!(matches!(made, Outcome::Done { changed: true, .. }), "{made:?}");
    engine
}

fn buy(engine: &mut Engine, now: UnixMillis, buyer: u32, units: u64, key: &[u8]) -> Outcome {
    let subject = buyer.to_be_bytes();
    let quantity = Quantity::new(units).expect("small");
    let buyer = SECRET.buyer(&subject);
    engine.decide(
        now,
        &Command::Purchase(Purchase {
            item: item(),
            buyer,
            subject: &subject,
            quantity,
            key,
            ticket: Ticket::Good,
        }),
    )
}

fn placed(outcome: Outcome) -> OrderView {
    let Outcome::Placed(order) = outcome else { panic!("not placed: {outcome:?}") };
    order
}

fn switch(engine: &mut Engine, now: UnixMillis, switch: Switch) {
    engine.decide(now, &Command::SwitchItem { item: item(), switch, actor: "shop", key: b"" });
}

fn winners(engine: &Engine) -> BTreeSet<OrderId> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let (page, next) = engine.shards[0].draw_entries(item(), after, 1_000).expect("the draw is over");
        all.extend(page);
        match next {
            Some(next) => after = next.get(),
            None => return all.into_iter().filter(|entry| entry.won).map(|entry| entry.order).collect(),
        }
    }
}

/// Ticks until nothing is due, with a restart after that many ticks; how many they were.
fn draw(engine: &mut Engine, restart_after: Option<usize>) -> usize {
    let mut ticks = 0;
    while engine.shards[0].next_due().is_some_and(|due| due <= DRAWS_AT) {
        engine.tick(0, DRAWS_AT, 128);
        ticks += 1;
        if restart_after == Some(ticks) {
            engine.replay(1);
        }
        assert!(ticks < 10_000, "the draw does not end");
    }
    ticks
}

#[test]
fn a_large_draw_takes_small_steps_and_survives_a_restart() {
    const ENTRIES: u32 = 40_000;
    let entered = || {
        let mut engine = with_draw(100, Payment::OnOrder);
        for buyer in 0..ENTRIES {
            assert_eq!(placed(buy(&mut engine, OPENS_AT, buyer, 1, b"")).state, OrderState::Entered);
        }
        engine
    };
    let mut whole = entered();
    let first = whole.tick(0, DRAWS_AT, 128);
    assert!(matches!(first, [(_, Fact::DrawHeld { entries: ENTRIES, units: 100, .. })]), "{first:?}");
    assert!(whole.shards[0].draw_entries(item(), 0, 10).is_none(), "not before the draw is over");
    let ticks = draw(&mut whole, None);
    let expected = winners(&whole);
    assert_eq!(expected.len(), 100);
    for restart_after in [1, 3, ticks / 2] {
        let mut engine = entered();
        draw(&mut engine, Some(restart_after));
        assert_eq!(winners(&engine), expected, "with a restart after {restart_after} ticks");
    }
}

#[test]
fn the_draw_of_a_paused_item_waits_and_so_do_its_holds() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let mut engine = with_draw(2, Payment::Hold);
    let orders: Vec<_> =
        (1..=3).map(|buyer| placed(buy(&mut engine, OPENS_AT, buyer, 1, b"k")).order).collect();
    switch(&mut engine, OPENS_AT, Switch::Paused);
    assert_eq!(engine.tick(0, DRAWS_AT, 9), []);
    // While it waits, entries may still be called off.
    let buyer = SECRET.buyer(&3_u32.to_be_bytes());
    let cancelled = engine.decide(DRAWS_AT, &Command::CancelOwn { order: orders[2], buyer });
    assert!(matches!(cancelled, Outcome::Moved(_)), "{cancelled:?}");
    let resumed = UnixMillis(DRAWS_AT.0 + 60 * DAY_MS);
    switch(&mut engine, resumed, Switch::Resumed);
    assert_eq!(engine.tick(0, resumed, 9).len(), 3);
    let pay_by_ms = UnixMillis(resumed.0 + HOLD_MS_MAX);
    for restart in [Engine::replay as fn(&mut Engine, usize), Engine::reload] {
        restart(&mut engine, 1);
        for &order in &orders[..2] {
            let order = engine.shards[0].order(order).expect("placed").order;
            assert_eq!((order.state, order.pay_by_ms), (OrderState::Held, pay_by_ms));
        }
        assert_eq!(engine.tick(0, resumed, 9), []);
        assert_eq!(engine.shards[0].next_due(), Some(pay_by_ms));
    }
    // A retry gets the answer of the first time.
    let Outcome::Replayed(again) = buy(&mut engine, resumed, 1, 1, b"k") else { panic!("a new order") };
    assert_eq!((again.state, again.pay_by_ms), (OrderState::Entered, UnixMillis(0)));
    assert_eq!(winners(&engine), orders[..2].iter().copied().collect());
}

#[test]
fn one_entry_a_buyer_and_what_is_left_is_sold_to_whoever_comes() {
    let mut engine = with_draw(3, Payment::OnOrder);
    let order = placed(buy(&mut engine, OPENS_AT, 1, 2, b"")).order;
    let second = buy(&mut engine, OPENS_AT, 1, 1, b"");
    assert_eq!(second, Outcome::Refused(Refusal::CapReached { order: Some(order) }));
    let too_many = buy(&mut engine, OPENS_AT, 2, 4, b"");
    assert_eq!(too_many, Outcome::Refused(Refusal::BadQuantity));
    let pay = Command::Move { order, movement: Movement::Pay, payment_ref: b"p", actor: "shop" };
    assert_eq!(engine.decide(OPENS_AT, &pay), Outcome::Refused(Refusal::NotDrawn));
    // Called off, and in again.
    let buyer = SECRET.buyer(&1_u32.to_be_bytes());
    assert!(matches!(engine.decide(OPENS_AT, &Command::CancelOwn { order, buyer }), Outcome::Moved(_)));
    let order = placed(buy(&mut engine, OPENS_AT, 1, 2, b"")).order;
    // Between the end of the draw phase and the draw nothing moves.
    assert_eq!(buy(&mut engine, DRAWS_AT, 3, 1, b""), Outcome::Refused(Refusal::Overloaded));
    assert_eq!(
        engine.decide(DRAWS_AT, &Command::CancelOwn { order, buyer }),
        Outcome::Refused(Refusal::Overloaded)
    );
    engine.tick(0, DRAWS_AT, 9);
    assert_eq!(winners(&engine), [order].into());
    assert_eq!(placed(buy(&mut engine, DRAWS_AT, 3, 1, b"")).state, OrderState::Confirmed);
    assert_eq!(buy(&mut engine, DRAWS_AT, 4, 1, b""), Outcome::Refused(Refusal::SoldOut));
    assert_eq!(winners(&engine), [order].into(), "a later sale is no entry");
}

#[test]
fn a_draw_of_a_closed_item_has_nothing_to_win() {
    let mut engine = with_draw(3, Payment::OnOrder);
    let order = placed(buy(&mut engine, OPENS_AT, 1, 1, b"")).order;
    switch(&mut engine, OPENS_AT, Switch::Closed);
    let facts = engine.tick(0, DRAWS_AT, 9);
    assert!(matches!(facts[0].1, Fact::DrawHeld { entries: 1, units: 0, .. }), "{facts:?}");
    assert_eq!(engine.shards[0].order(order).expect("placed").order.state, OrderState::Lost);
    assert!(winners(&engine).is_empty());
}

#[test]
fn a_draw_is_set_before_the_opening_and_never_moved_after() {
    let invalid = |outcome: Outcome| match outcome {
        Outcome::Refused(Refusal::Invalid(error)) => error.field,
        outcome => panic!("not refused: {outcome:?}"),
    };
    let mut engine = Engine::new(1);
    for (draw_ms, at, seed, field) in [
        (999, 1_000, SEED, "draw_ms"),
        (DRAW_MS_MAX + 1, 1_000, SEED, "draw_ms"),
        (DRAW_MS, OPENS_AT.0, SEED, "opens_at_ms"),
        (DRAW_MS, 1_000, DrawSeed::NONE, "draw_ms"),
    ] {
        let patch = ItemPatch { draw_ms: Some(draw_ms), ..patch(1, Payment::OnOrder) };
        assert_eq!(invalid(put(&mut engine, UnixMillis(at), patch, seed)), field);
    }
    let short = ItemPatch { closes_at_ms: Some(DRAWS_AT), ..patch(1, Payment::OnOrder) };
    assert_eq!(invalid(put(&mut engine, UnixMillis(1_000), short, SEED)), "draw_ms");
    put(&mut engine, UnixMillis(1_000), patch(1, Payment::OnOrder), SEED);
    let change = |draw_ms, opens: Option<u64>| ItemPatch {
        draw_ms,
        opens_at_ms: opens.map(UnixMillis),
        ..ItemPatch::default()
    };
    // Before the opening both may change, and the seed stays the first one.
    let commitment = |engine: &Engine| {
        let view = engine.shards[0].item(item()).expect("made");
        view.draw.map(|draw| draw.commitment)
    };
    let first = commitment(&engine);
    put(&mut engine, UnixMillis(2_000), change(Some(0), None), DrawSeed([9; 32]));
    assert_eq!(commitment(&engine), None);
    put(&mut engine, UnixMillis(2_000), change(Some(DRAW_MS), Some(OPENS_AT.0)), DrawSeed([9; 32]));
    assert_eq!(commitment(&engine), first);
    assert_eq!(invalid(put(&mut engine, OPENS_AT, change(Some(0), None), SEED)), "draw_ms");
    assert_eq!(invalid(put(&mut engine, OPENS_AT, change(None, Some(20_000)), SEED)), "opens_at_ms");
    engine.tick(0, DRAWS_AT, 9);
    assert_eq!(invalid(put(&mut engine, UnixMillis(16_000), change(Some(0), None), SEED)), "draw_ms");
}

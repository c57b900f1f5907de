//! The table "Payments" of docs/API.md, cell by cell: what becomes of a payment, a refund, a cancellation
//! and an extension in each state of an order; and that nothing that was told is forgotten.

use stampede_core::command::{Command, ItemPatch, Movement, OrderView, Outcome, Purchase, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::fact::{Fact, Switch};
use stampede_core::item::{OrderState, Payment};
use stampede_core::money::{MoneyKind, Price, reference_of};
use stampede_core::state_row::StateRow;
use stampede_core::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

use crate::engine::{Engine, SECRET, empty_shards};

const OPENS_AT: UnixMillis = UnixMillis(1_000);
const NOW: UnixMillis = UnixMillis(2_000);
const HOLD_MS: u64 = 1_000;
/// Past every deadline of an order that was placed at [`NOW`].
const LATE: UnixMillis = UnixMillis(4_000);
const SHOP: &str = "shop";

fn item() -> ItemId {
    ItemId::new(1).expect("valid")
}

fn units(units: u64) -> Quantity {
    Quantity::new(units).expect("small")
}

fn put(engine: &mut Engine, patch: ItemPatch<'_>) -> Outcome {
    engine.decide(NOW, &Command::PutItem { item: item(), patch, seed: DrawSeed::NONE, actor: SHOP })
}

fn with(payment: Payment, stock: u64) -> Engine {
    let mut engine = Engine::new(1);
    let made = put(
        &mut engine,
        ItemPatch {
            name: Some("priced"),
            price_minor: Some(1_999),
            currency: Some(*b"EUR"),
            stock: Some(stock),
            opens_at_ms: Some(OPENS_AT),
            closes_at_ms: Some(UnixMillis(1 << 45)),
            cap: Some(4),
            payment: Some(payment),
            hold_ms: Some(if payment == Payment::OnOrder { 0 } else { HOLD_MS }),
            ..ItemPatch::default()
        },
    );
    assert!(matches!(made, Outcome::Done { .. }), "{made:?}");
    engine
}

fn buy(engine: &mut Engine, subject: &[u8], quantity: u64, key: &[u8]) -> OrderView {
    let (buyer, quantity, ticket) = (SECRET.buyer(subject), units(quantity), Ticket::Good);
    let purchase = Purchase { item: item(), buyer, subject, quantity, key, ticket };
    match engine.decide(NOW, &Command::Purchase(purchase)) {
        Outcome::Placed(view) | Outcome::Replayed(view) => view,
        other => panic!("not placed: {other:?}"),
    }
}

fn pay(engine: &mut Engine, now: UnixMillis, order: OrderId, payment_ref: &[u8]) -> Outcome {
    engine.decide(now, &Command::Move { order, movement: Movement::Pay, payment_ref, actor: SHOP })
}

fn pay_again(engine: &mut Engine, now: UnixMillis, order: OrderId, payment_ref: &[u8]) -> Outcome {
    engine.decide(now, &Command::PayAgain { order, payment_ref, actor: SHOP })
}

fn refund(
    engine: &mut Engine,
    order: OrderId,
    payment_ref: &[u8],
    refund_ref: &[u8],
    quantity: Option<u64>,
) -> Outcome {
    let units = quantity.map(units);
    engine.decide(LATE, &Command::Refund { order, payment_ref, refund_ref, units, actor: SHOP })
}

fn cancel(engine: &mut Engine, order: OrderId) -> Outcome {
    let (movement, payment_ref) = (Movement::Cancel, &b""[..]);
    engine.decide(NOW, &Command::Move { order, movement, payment_ref, actor: SHOP })
}

/// What an outcome comes to, in a word.
fn word(outcome: Outcome) -> String {
    match outcome {
        Outcome::Moved(view) => view.state.name().to_owned(),
        Outcome::Refused(refusal) => format!("{refusal:?}"),
        Outcome::Noted(refusal, _) => format!("{refusal:?}, noted"),
        other => panic!("not about an order: {other:?}"),
    }
}

/// An order of two units in that state; what was paid was paid as `pi_1`, and refunded as `re_1`.
fn order_in(state: OrderState) -> (Engine, OrderId) {
    let payment = match state {
        OrderState::Confirmed => Payment::OnOrder,
        OrderState::Pending => Payment::OnPayment,
        _ => Payment::Hold,
    };
    let mut engine = with(payment, 10);
    let order = buy(&mut engine, b"ann", 2, b"k").order;
    match state {
        OrderState::Paid => drop(pay(&mut engine, NOW, order, b"pi_1")),
        OrderState::Refunded => {
            pay(&mut engine, NOW, order, b"pi_1");
            refund(&mut engine, order, b"pi_1", b"re_1", None);
        }
        OrderState::Cancelled => drop(cancel(&mut engine, order)),
        OrderState::Expired => drop(engine.tick(0, LATE, 9)),
        _ => {}
    }
    assert_eq!(engine.shards[0].order(order).expect("placed").order.state, state);
    (engine, order)
}

/// Every state that can be reached without a draw × every call, under the order's own reference and
/// under another one.
#[test]
fn each_cell_of_the_table_is_decided() {
    use OrderState::{Cancelled, Confirmed, Expired, Held, Paid, Pending, Refunded};
    type Call = fn(&mut Engine, OrderId) -> Outcome;
    let calls: [(&str, Call); 9] = [
        ("pay pi_1", |e, o| pay(e, LATE, o, b"pi_1")),
        ("pay pi_2", |e, o| pay(e, LATE, o, b"pi_2")),
        ("again pi_1", |e, o| pay_again(e, LATE, o, b"pi_1")),
        ("again pi_2", |e, o| pay_again(e, LATE, o, b"pi_2")),
        ("refund pi_1", |e, o| refund(e, o, b"pi_1", b"", None)),
        ("refund pi_2", |e, o| refund(e, o, b"pi_2", b"", None)),
        ("refund re_1", |e, o| refund(e, o, b"", b"re_1", None)),
        ("refund re_2", |e, o| refund(e, o, b"", b"re_2", None)),
        ("cancel", |e, o| cancel(e, o)),
    ];
    let table = [
        (
            Confirmed,
            [
                "paid",
                "paid",
                "paid",
                "paid",
                "NotCancellable",
                "NotCancellable",
                "NotCancellable",
                "NotCancellable",
                "cancelled",
            ],
        ),
        (
            Held,
            [
                "HoldExpired, noted",
                "HoldExpired, noted",
                "paid",
                "paid",
                "NotCancellable",
                "NotCancellable",
                "NotCancellable",
                "NotCancellable",
                "cancelled",
            ],
        ),
        (
            Pending,
            [
                "HoldExpired, noted",
                "HoldExpired, noted",
                "paid",
                "paid",
                "NotCancellable",
                "NotCancellable",
                "NotCancellable",
                "NotCancellable",
                "cancelled",
            ],
        ),
        (
            Paid,
            [
                "paid",
                "AlreadyPaid, noted",
                "paid",
                "AlreadyPaid, noted",
                "refunded",
                "OtherPayment",
                "refunded",
                "refunded",
                "NotCancellable",
            ],
        ),
        (
            Cancelled,
            [
                "HoldExpired, noted",
                "HoldExpired, noted",
                "paid",
                "paid",
                "NotCancellable",
                "NotCancellable",
                "NotCancellable",
                "NotCancellable",
                "cancelled",
            ],
        ),
        (
            Expired,
            [
                "HoldExpired, noted",
                "HoldExpired, noted",
                "paid",
                "paid",
                "NotCancellable",
                "NotCancellable",
                "NotCancellable",
                "NotCancellable",
                "NotCancellable",
            ],
        ),
        (
            Refunded,
            [
                "AlreadyRefunded",
                "HoldExpired, noted",
                "AlreadyRefunded",
                "HoldExpired, noted",
                "refunded",
                "OtherPayment",
                "refunded",
                "AlreadyRefunded",
                "NotCancellable",
            ],
        ),
    ];
    for (state, cells) in table {
        for ((name, call), expected) in calls.iter().zip(cells) {
            let (mut engine, order) = order_in(state);
            let first = word(call(&mut engine, order));
            assert_eq!(first, expected, "{name} of an order that is {}", state.name());
            // The same call once more: the same answer, and nothing happens twice.
            let (facts, sold) = (engine.log.facts.len(), engine.shards[0].item(item()).expect("made").sold);
            let again = word(call(&mut engine, order));
            let after = (engine.log.facts.len(), engine.shards[0].item(item()).expect("made").sold);
            assert_eq!((again, after), (first, (facts, sold)), "{name} twice of {}", state.name());
            assert_kept(&engine);
        }
    }
}

/// In time the states that wait for their payment take it.
#[test]
fn what_waits_is_paid_in_time() {
    for state in [OrderState::Confirmed, OrderState::Held, OrderState::Pending] {
        let (mut engine, order) = order_in(state);
        assert_eq!(word(pay(&mut engine, NOW, order, b"pi_1")), "paid");
    }
}

/// Replayed from its facts, and loaded from its rows, the engine knows the same of every order.
fn assert_kept(engine: &Engine) {
    let known = known_of(&engine.shards[0]);
    let mut replayed = empty_shards(1).remove(0);
    for (lsn, fact) in &engine.log.facts {
        replayed.apply(*lsn, fact).expect("a decided fact can follow");
    }
    assert_eq!(known_of(&replayed), known, "by replay");
    let mut loaded = empty_shards(1).remove(0);
    engine.shards[0].rows(&mut |row| loaded.load_row(row).expect("a row that came out goes in"));
    assert_eq!(known_of(&loaded), known, "from a snapshot");
    assert_eq!((loaded.digest(), replayed.digest()), (engine.shards[0].digest(), engine.shards[0].digest()));
}

/// A refund without a reference leaves the one that was told before it: live, by replay and from a snapshot.
#[test]
fn the_last_reference_that_was_given_counts() {
    let mut engine = with(Payment::OnOrder, 10);
    let order = buy(&mut engine, b"ann", 4, b"").order;
    pay(&mut engine, NOW, order, b"pi_1");
    let hashes = |engine: &Engine| {
        let record = engine.shards[0].records(item(), 0, u32::MAX).next().expect("placed");
        (record.payment_ref_hash, record.refund_ref_hash)
    };
    assert_eq!(hashes(&engine), (SECRET.reference(b"pi_1"), 0));
    for (told, counts) in [(&b"re_1"[..], b"re_1"), (b"re_2", b"re_2")] {
        assert_eq!(word(refund(&mut engine, order, b"", told, Some(1))), "paid");
        assert_eq!(hashes(&engine), (SECRET.reference(b"pi_1"), SECRET.reference(counts)));
        assert_kept(&engine);
    }
    assert_eq!(word(refund(&mut engine, order, b"", b"", None)), "refunded");
    assert_eq!(hashes(&engine), (SECRET.reference(b"pi_1"), SECRET.reference(b"re_2")));
    let money = engine.shards[0].money(order);
    assert_eq!(reference_of(money, MoneyKind::Refund), (&b"re_2"[..], SECRET.reference(b"re_2")));
    assert_kept(&engine);
}

/// Everything that can be read of every order (I20).
fn known_of(shard: &stampede_core::shard::Shard) -> Vec<String> {
    let orders = shard.orders_after(None, 0, 100);
    let late = shard.late_payments_after(None, 0, 100);
    let late: Vec<OrderId> = late.iter().map(|owned| owned.order.order).collect();
    let told = |owned: &stampede_core::shard::OwnedOrder<'_>| {
        format!("{owned:?} {:?} late {}", shard.money(owned.order.order), late.contains(&owned.order.order))
    };
    let records = shard.records(item(), 0, u32::MAX).map(|record| format!("{record:?}"));
    orders.iter().map(told).chain(records).collect()
}

#[test]
fn payments_and_refunds_are_kept_apart_and_can_be_read() {
    let mut engine = with(Payment::Hold, 10);
    let order = buy(&mut engine, b"ann", 3, b"key-of-ann").order;
    pay(&mut engine, NOW, order, b"pi_1");
    assert_eq!(word(refund(&mut engine, order, b"pi_1", b"re_1", Some(1))), "paid");
    assert_eq!(word(pay(&mut engine, LATE, order, b"pi_2")), "AlreadyPaid, noted");
    assert_eq!(word(refund(&mut engine, order, b"", b"re_2", None)), "refunded");
    let shard = &engine.shards[0];
    let owned = shard.order(order).expect("placed");
    assert_eq!((owned.key, owned.order.refunded), (&b"key-of-ann"[..], 3));
    assert_eq!(owned.order.price, Price { minor: 1_999, currency: *b"EUR" });
    let told: Vec<_> = shard.money(order).iter().map(|row| (row.kind, row.reference, row.units)).collect();
    let expected = [
        (MoneyKind::Payment, &b"pi_1"[..], 0),
        (MoneyKind::Refund, b"re_1", 1),
        (MoneyKind::LatePayment, b"pi_2", 0),
        (MoneyKind::Refund, b"re_2", 2),
    ];
    assert_eq!(told, expected);
    assert_kept(&engine);
}

#[test]
fn each_reference_refunds_once_and_never_more_than_is_left() {
    let mut engine = with(Payment::OnOrder, 10);
    let order = buy(&mut engine, b"ann", 4, b"").order;
    pay(&mut engine, NOW, order, b"pi_1");
    let left = |engine: &Engine| {
        let view = engine.shards[0].item(item()).expect("made");
        (view.available, view.sold)
    };
    assert_eq!(left(&engine), (6, 4));
    assert!(word(refund(&mut engine, order, b"", b"", Some(1))).contains("refund_ref"));
    assert!(word(refund(&mut engine, order, b"", b"re_0", Some(5))).contains("quantity"));
    assert_eq!(word(refund(&mut engine, order, b"", b"re_1", Some(3))), "paid");
    assert_eq!(word(refund(&mut engine, order, b"", b"re_1", Some(3))), "paid");
    assert_eq!(word(refund(&mut engine, order, b"", b"re_1", Some(1))), "KeyReused");
    assert_eq!(left(&engine), (9, 1));
    // Three of the cap have come back; one is still held.
    assert_eq!(buy(&mut engine, b"ann", 3, b"more").quantity, units(3));
    assert!(word(refund(&mut engine, order, b"", b"re_2", Some(2))).contains("quantity"));
    assert_eq!(word(refund(&mut engine, order, b"", b"re_2", None)), "refunded");
    assert_eq!(left(&engine), (7, 3));
    assert_kept(&engine);
    // Units that were given back and withdrawn do not stand in the way of a snapshot.
    let key = b"";
    engine.decide(LATE, &Command::AdjustStock { item: item(), delta: -7, actor: SHOP, key });
    assert_kept(&engine);
}

#[test]
fn a_late_payment_takes_units_again_within_stock_and_cap() {
    let mut engine = with(Payment::Hold, 4);
    let order = buy(&mut engine, b"ann", 3, b"1").order;
    engine.tick(0, LATE, 9);
    assert_eq!(word(pay(&mut engine, LATE, order, b"pi_1")), "HoldExpired, noted");
    assert_eq!(engine.shards[0].late_payments_after(None, 0, 9).len(), 1);
    // Two of four are gone to the same buyer: the cap of four would be passed.
    let other = buy(&mut engine, b"ann", 2, b"2").order;
    assert!(word(pay_again(&mut engine, LATE, order, b"pi_1")).starts_with("CapReached"));
    engine.decide(
        LATE,
        &Command::Move { order: other, movement: Movement::Cancel, payment_ref: b"", actor: SHOP },
    );
    let taken = buy(&mut engine, b"bob", 2, b"").order;
    assert_eq!(word(pay_again(&mut engine, LATE, order, b"pi_1")), "SoldOut, noted");
    engine.decide(
        LATE,
        &Command::Move { order: taken, movement: Movement::Cancel, payment_ref: b"", actor: SHOP },
    );
    assert_eq!(word(pay_again(&mut engine, LATE, order, b"pi_1")), "paid");
    assert_eq!(engine.shards[0].item(item()).expect("made").sold, 3);
    assert!(engine.shards[0].late_payments_after(None, 0, 9).is_empty(), "it was taken");
    assert_kept(&engine);
}

/// A late payment whose money went back is ticked off: in every state in which one can be noted, once, under
/// its own reference, and whatever comes of it is known after a replay and from a snapshot.
#[test]
fn a_late_payment_that_went_back_is_ticked_off() {
    use OrderState::{Cancelled, Expired, Held, Paid, Pending, Refunded};
    let open = |engine: &Engine| engine.shards[0].late_payments_after(None, 0, 9).len();
    for state in [Held, Pending, Paid, Cancelled, Expired, Refunded] {
        let (mut engine, order) = order_in(state);
        let before = engine.shards[0].item(item()).expect("made");
        let piles = (before.available, before.held, before.sold);
        for late in [&b"pi_8"[..], b"pi_9"] {
            assert!(word(pay(&mut engine, LATE, order, late)).ends_with("noted"), "{}", state.name());
        }
        assert!(word(refund(&mut engine, order, b"pi_8", b"back_8", Some(1))).contains("quantity"));
        assert_eq!(word(refund(&mut engine, order, b"pi_8", b"back_8", None)), state.name());
        assert_eq!(open(&engine), 1, "the other one is open");
        assert_kept(&engine);
        // Again: once. Under another reference: it was given back already; nor can that name the other one.
        let facts = engine.log.facts.len();
        for again in [&b"back_8"[..], b""] {
            assert_eq!(word(refund(&mut engine, order, b"pi_8", again, None)), state.name());
        }
        assert_eq!(word(refund(&mut engine, order, b"pi_8", b"back_7", None)), "AlreadyRefunded");
        assert_eq!(word(refund(&mut engine, order, b"pi_9", b"back_8", None)), "KeyReused");
        // Its money is gone: it pays for nothing, and must not go back once more.
        assert_eq!(word(pay(&mut engine, LATE, order, b"pi_8")), "AlreadyRefunded");
        assert_eq!(word(pay_again(&mut engine, LATE, order, b"pi_8")), "AlreadyRefunded");
        assert_eq!(engine.log.facts.len(), facts, "nothing of it was a fact");
        assert_eq!(word(refund(&mut engine, order, b"pi_9", b"", None)), state.name());
        assert_eq!(open(&engine), 0);
        let told: Vec<_> = engine.shards[0]
            .money(order)
            .iter()
            .rev()
            .take(2)
            .map(|row| (row.kind, row.reference.to_vec()))
            .collect();
        assert_eq!(told, [(MoneyKind::LateReturned, vec![]), (MoneyKind::LateReturned, b"back_8".to_vec())]);
        let after = engine.shards[0].item(item()).expect("made");
        assert_eq!((after.available, after.held, after.sold), piles, "no unit moved");
        assert_kept(&engine);
    }
}

/// A payment that was taken after all is the order's own: it is refunded with the units.
#[test]
fn a_late_payment_that_was_taken_is_refunded_as_the_order_s() {
    let (mut engine, order) = order_in(OrderState::Expired);
    for late in [&b"pi_1"[..], b"pi_2"] {
        pay(&mut engine, LATE, order, late);
    }
    assert_eq!(word(refund(&mut engine, order, b"pi_1", b"", None)), "expired");
    assert_eq!(word(pay_again(&mut engine, LATE, order, b"pi_2")), "paid");
    assert!(engine.shards[0].late_payments_after(None, 0, 9).is_empty(), "one went back, one was taken");
    assert_eq!(word(refund(&mut engine, order, b"pi_1", b"", None)), "paid");
    assert_eq!(word(refund(&mut engine, order, b"pi_2", b"re", None)), "refunded");
    assert_eq!(word(refund(&mut engine, order, b"pi_1", b"re", None)), "AlreadyRefunded");
    assert_kept(&engine);
}

/// When an order was cancelled or expired is known for good, also if it was taken again since.
#[test]
fn the_end_of_an_order_is_known() {
    let ended = |engine: &Engine, order| {
        let money = engine.shards[0].money(order);
        let times = money.iter().filter(|row| row.kind == MoneyKind::Ended).map(|row| row.at_ms);
        times.collect::<Vec<_>>()
    };
    for (state, at_ms) in [(OrderState::Cancelled, NOW), (OrderState::Expired, LATE)] {
        let (mut engine, order) = order_in(state);
        assert_eq!(ended(&engine, order), [at_ms], "{}", state.name());
        assert_kept(&engine);
        cancel(&mut engine, order);
        pay_again(&mut engine, UnixMillis(LATE.0 + 1), order, b"pi_1");
        refund(&mut engine, order, b"pi_1", b"re_1", None);
        assert_eq!(ended(&engine, order), [at_ms], "{}", state.name());
        assert_kept(&engine);
    }
    for state in [OrderState::Held, OrderState::Paid, OrderState::Refunded] {
        let (engine, order) = order_in(state);
        assert_eq!(ended(&engine, order), [], "{}", state.name());
    }
}

#[test]
fn a_later_price_rewrites_nothing() {
    let mut engine = with(Payment::OnOrder, 10);
    let first = buy(&mut engine, b"ann", 1, b"k");
    put(&mut engine, ItemPatch { price_minor: Some(5), currency: Some(*b"USD"), ..ItemPatch::default() });
    let second = buy(&mut engine, b"bob", 1, b"k");
    assert_eq!(first.price, Price { minor: 1_999, currency: *b"EUR" });
    assert_eq!(second.price, Price { minor: 5, currency: *b"USD" });
    assert_eq!(buy(&mut engine, b"ann", 1, b"k"), first, "a retry is answered as before");
    assert_eq!(engine.shards[0].order(first.order).expect("placed").order.price, first.price);
    assert_kept(&engine);
}

/// A fact of November 2026 and before does not say its price: it was the item's of that moment.
#[test]
fn facts_without_a_price_are_read_with_their_item_s() {
    let mut engine = with(Payment::OnOrder, 10);
    let order = buy(&mut engine, b"ann", 1, b"k");
    put(&mut engine, ItemPatch { price_minor: Some(5), ..ItemPatch::default() });
    for (_, fact) in &mut engine.log.facts {
        if let Fact::OrderPlaced { price, .. } = fact {
            *price = Price::UNKNOWN;
        }
    }
    engine.replay(1);
    assert_eq!(engine.shards[0].order(order.order).expect("placed").order.price, order.price);
}

/// Of an order in a snapshot of November 2026 the hashes are known, and no more.
#[test]
fn a_payment_known_only_by_its_hash_still_matches_its_order() {
    let (engine, order) = order_in(OrderState::Paid);
    let mut loaded = Engine::new(1);
    engine.shards[0].rows(&mut |row| {
        let row = match *row {
            StateRow::Order {
                order,
                quantity,
                state,
                created_at_ms,
                pay_by_ms,
                lsn,
                state_lsn,
                key_hash,
                entry,
                drawn,
                subject,
                ..
            } => StateRow::Order {
                order,
                quantity,
                state,
                created_at_ms,
                pay_by_ms,
                lsn,
                state_lsn,
                key_hash,
                entry,
                drawn,
                subject,
                payment_ref_hash: SECRET.reference(b"pi_1"),
                key: b"",
                price: Price::UNKNOWN,
                refunded: 0,
            },
            StateRow::Money(_) => return,
            other => other,
        };
        loaded.shards[0].load_row(&row).expect("an older row");
    });
    loaded.shards[0].finish_rows(Lsn(50), NOW);
    loaded.log.facts.resize(50, (Lsn(0), Fact::ClockMark { at_ms: NOW }));
    assert_eq!(word(pay(&mut loaded, NOW, order, b"pi_1")), "paid");
    assert_eq!(word(refund(&mut loaded, order, b"pi_2", b"", None)), "OtherPayment");
    assert_eq!(word(refund(&mut loaded, order, b"pi_1", b"", None)), "refunded");
    assert_eq!(buy(&mut loaded, b"ann", 2, b"k").order, order);
}

#[test]
fn a_hold_is_extended_within_the_item_s_bound() {
    let mut engine = with(Payment::Hold, 10);
    let placed = buy(&mut engine, b"ann", 1, b"k");
    let order = placed.order;
    let mut extend = |now: u64, to: u64| {
        let pay_by_ms = UnixMillis(to);
        engine.decide(UnixMillis(now), &Command::ExtendHold { order, pay_by_ms, actor: SHOP })
    };
    assert!(word(extend(2_500, 3_501)).contains("pay_by_ms"), "more than a whole hold from now");
    assert!(word(extend(2_500, 2_600)).contains("pay_by_ms"), "never shorter");
    assert_eq!(word(extend(2_500, 3_500)), "held");
    assert_eq!(word(extend(2_500, 3_500)), "held");
    engine.tick(0, UnixMillis(3_000), 9);
    assert_eq!(engine.shards[0].order(order).expect("placed").order.pay_by_ms, UnixMillis(3_500));
    assert_eq!(buy(&mut engine, b"ann", 1, b"k"), placed, "a retry is answered as before");
    assert_kept(&engine);
    engine.tick(0, UnixMillis(3_500), 9);
    assert_eq!(engine.shards[0].order(order).expect("placed").order.state, OrderState::Expired);
    let pay_by_ms = UnixMillis(3_900);
    let late = engine.decide(UnixMillis(3_600), &Command::ExtendHold { order, pay_by_ms, actor: SHOP });
    assert_eq!(word(late), "HoldExpired");
}

/// A call with a key counts once, also after a restart; the same key for something else is refused.
#[test]
fn a_restock_with_a_key_counts_once() {
    let mut engine = with(Payment::OnOrder, 10);
    let add = |engine: &mut Engine, delta: i64, key: &[u8]| {
        let done = engine.decide(NOW, &Command::AdjustStock { item: item(), delta, actor: SHOP, key });
        let granted = engine.shards[0].item(item()).expect("made").granted;
        (granted, matches!(done, Outcome::Done { .. }))
    };
    assert_eq!(add(&mut engine, 5, b"once"), (15, true));
    assert_eq!(add(&mut engine, 5, b"once"), (15, true));
    assert_eq!(add(&mut engine, 6, b"once"), (15, false));
    assert_eq!(add(&mut engine, 5, b"twice"), (20, true));
    assert_eq!(add(&mut engine, 1, b""), (21, true));
    assert_eq!(add(&mut engine, 1, b""), (22, true));
    assert_kept(&engine);
    engine.replay(1);
    assert_eq!(add(&mut engine, 5, b"once"), (22, true));
    // What was paused, and resumed by another call since, stays so when the first call comes again.
    let switch = |engine: &mut Engine, switch: Switch, key: &[u8]| {
        engine.decide(NOW, &Command::SwitchItem { item: item(), switch, actor: SHOP, key });
        engine.shards[0].item(item()).expect("made").flags
    };
    assert_ne!(switch(&mut engine, Switch::Paused, b"p"), 0);
    assert_eq!(switch(&mut engine, Switch::Resumed, b"r"), 0);
    assert_eq!(switch(&mut engine, Switch::Paused, b"p"), 0);
}

//! Orders taken over from Postgres: they keep their numbers, gaps included, and count like
//! any other.

use stampede_core::command::{Command, Outcome, Purchase, Refusal, Ticket};
use stampede_core::fact::Fact;
use stampede_core::item::{ItemSpec, OrderState, Payment};
use stampede_core::sample::{self, Item, Order, item_id};
use stampede_core::shard::{ApplyError, Shard};
use stampede_core::state_row::StateRow;
use stampede_core::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

use crate::engine::{SECRET, empty_shards};
use crate::record::Recorder;

const ITEM: u64 = 3;

fn item() -> ItemId {
    item_id(ITEM)
}

fn shard_with(granted: u64) -> Shard {
    let mut shard = empty_shards(1).remove(0);
    let spec = ItemSpec {
        opens_at_ms: UnixMillis(100),
        closes_at_ms: UnixMillis(10_000),
        cap: 2,
        payment: Payment::Hold,
        hold_ms: 500,
        ..sample::spec("taken over")
    };
    let created = Item { at_ms: UnixMillis(50), spec, actor: "postgres", ..Item::new(item(), granted) };
    shard.apply(Lsn(1), &created.created()).expect("the first fact");
    shard
}

fn imported(seq: u32, state: OrderState, pay_by_ms: u64) -> Fact<'static> {
    let order = Order {
        at_ms: UnixMillis(110),
        state,
        pay_by_ms: UnixMillis(pay_by_ms),
        subject: b"Ann",
        key: b"k",
        ..Order::new(OrderId::new(item(), seq))
    };
    order.imported(UnixMillis(120))
}

fn buy(shard: &mut Shard, key: &[u8]) -> Outcome {
    let mut sink = Recorder::default();
    sink.facts.resize(1_000, (Lsn(0), Fact::ClockMark { at_ms: UnixMillis(0) }));
    let purchase = Purchase {
        item: item(),
        buyer: SECRET.buyer(b"Ann"),
        subject: b"Ann",
        quantity: Quantity::ONE,
        key,
        ticket: Ticket::Good,
    };
    shard.decide(UnixMillis(200), &Command::Purchase(purchase), &mut sink)
}

#[test]
fn an_imported_order_counts_replays_and_expires() {
    let mut shard = shard_with(3);
    shard.apply(Lsn(2), &imported(7, OrderState::Held, 610)).expect("a gap is allowed");
    let view = shard.item(item()).expect("created");
    assert_eq!((view.available, view.held, view.accepted), (2, 1, 7));
    assert!(matches!(buy(&mut shard, b"k"), Outcome::Replayed(order) if order.order.seq() == 7));
    assert!(matches!(buy(&mut shard, b"other"), Outcome::Placed(order) if order.order.seq() == 8));
    assert!(matches!(buy(&mut shard, b"third"), Outcome::Refused(Refusal::CapReached { .. })));
    assert_eq!(shard.next_due(), Some(UnixMillis(610)));
}

#[test]
fn an_import_that_cannot_be_is_refused() {
    let mut shard = shard_with(1);
    shard.apply(Lsn(2), &imported(7, OrderState::Paid, 0)).expect("fits");
    let order = OrderId::new(item(), 7);
    let again = shard.apply(Lsn(3), &imported(7, OrderState::Cancelled, 0));
    assert_eq!(again, Err(ApplyError::SequenceGap { order, expected: 8 }));
    let mut shard = shard_with(0);
    assert_eq!(shard.apply(Lsn(2), &imported(1, OrderState::Held, 610)), Err(ApplyError::Oversold(item())));
}

#[test]
fn a_deadline_that_an_order_cannot_keep_is_refused() {
    for pay_by_ms in [1, 109, 110, 1 << 48] {
        let refused = shard_with(9).apply(Lsn(2), &imported(1, OrderState::Held, pay_by_ms));
        assert_eq!(refused, Err(ApplyError::OutOfRange("pay_by_ms")), "pay_by_ms {pay_by_ms}");
    }
}

/// Numbers come from outside, and a walk over those between two orders would last for minutes:
/// every list, page and copy of an item's orders costs what it holds.
#[test]
fn a_gap_between_two_numbers_is_not_walked() {
    const NUMBERS: [u32; 4] = [5, 1_700_000_000, 1_700_000_001, 4_000_000_000];
    let mut shard = shard_with(9);
    for (lsn, seq) in (2..).zip(NUMBERS) {
        shard.apply(Lsn(lsn), &imported(seq, OrderState::Cancelled, 0)).expect("fits");
    }
    assert!(matches!(buy(&mut shard, b"new"), Outcome::Placed(order) if order.order.seq() == 4_000_000_001));
    let all = [5, 1_700_000_000, 1_700_000_001, 4_000_000_000, 4_000_000_001];
    let (mut after, mut pages) = (0, Vec::new());
    while pages.len() < 9 {
        let page = shard.books_page(item(), after, 2).expect("there is such an item");
        pages.push((page.to, page.digest.orders));
        after = page.to;
        if page.to == page.last_seq {
            break;
        }
    }
    assert_eq!(pages, [(1_700_000_000, 2), (4_000_000_000, 2), (4_000_000_001, 1)]);
    for (place, seq) in all.into_iter().enumerate() {
        for (item, after) in [(Some(item()), seq - 1), (None, seq - 1), (None, seq)] {
            let after = OrderId::new(ItemId::new(ITEM).expect("valid"), after).get();
            let found = shard.orders_after(item, after, 3).into_iter().map(|order| order.order.order.seq());
            let skipped = place + usize::from(after as u32 == seq);
            let expected = all.into_iter().skip(skipped).take(3);
            assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "after {after}");
        }
    }
    let mut again = empty_shards(1).remove(0);
    let mut rows = Vec::new();
    shard.rows(&mut |row| {
        if let StateRow::Order { order, .. } = row {
            rows.push(order.seq());
        }
        again.load_row(row).expect("a row that came out goes in");
    });
    assert_eq!(rows, all);
    assert_eq!(again.digest(), shard.digest());
    assert_eq!(again.orders_after(None, 0, 9).len(), all.len(), "the copy lists the same orders");
}

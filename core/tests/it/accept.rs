//! What was made elsewhere goes into the log by the rule of replay, or not at all.

use proptest::prelude::*;
use stampede_core::fact::{Fact, Switch};
use stampede_core::item::{ItemSpec, OrderState, Payment};
use stampede_core::limits::{STOCK_MAX, UNIX_MILLIS_MAX};
use stampede_core::sample::{self, Item, Order, item_id};
use stampede_core::shard::{Shard, Trial};
use stampede_core::types::{OrderId, Quantity, UnixMillis};

use crate::engine::empty_shards;
use crate::record::{Recorder, keep, keep_row, keep_str};

fn spec(name: &str, closes_at_ms: u64, hold_ms: u64) -> ItemSpec<'static> {
    ItemSpec {
        closes_at_ms: UnixMillis(closes_at_ms),
        opens_at_ms: UnixMillis(100),
        cap: 2,
        payment: Payment::Hold,
        hold_ms,
        ..sample::spec(keep_str(name))
    }
}

fn created_item(id: u64, granted: u64, spec: ItemSpec<'static>) -> Fact<'static> {
    let (item, at_ms) = (item_id(id), UnixMillis(50));
    Item { at_ms, spec, actor: "postgres", ..Item::new(item, granted) }.created()
}

/// Times near each other, and the odd ones.
fn time() -> impl Strategy<Value = UnixMillis> {
    let odd = [0, 1, 100, 101, UNIX_MILLIS_MAX, UNIX_MILLIS_MAX + 1, 1 << 48, u64::MAX];
    prop_oneof![3 => 90..130_u64, 1 => prop::sample::select(odd.to_vec())].prop_map(UnixMillis)
}

fn text(len_max: usize) -> impl Strategy<Value = &'static [u8]> {
    prop::collection::vec(prop::sample::select(b"ab\0\xff\\".to_vec()), 0..len_max)
        .prop_map(|bytes| keep(&bytes))
}

fn state() -> impl Strategy<Value = OrderState> {
    (0..OrderState::COUNT as u8).prop_map(|code| OrderState::from_code(code).expect("a state"))
}

fn imported() -> impl Strategy<Value = Fact<'static>> {
    let order = (1..3_u64, prop_oneof![8 => 1..12_u32, 1 => Just(u32::MAX)]);
    let units = prop_oneof![6 => 1..4_u64, 1 => Just(1_000_000)];
    (order, units, state(), (time(), time()), (text(70), text(70), text(70))).prop_map(
        |((id, seq), units, state, (created_at_ms, pay_by_ms), (subject, key, payment_ref))| {
            let order = Order {
                at_ms: created_at_ms,
                quantity: Quantity::new(units).expect("in range"),
                state,
                pay_by_ms,
                subject,
                key,
                payment_ref,
                ..Order::new(OrderId::new(item_id(id), seq))
            };
            order.imported(UnixMillis(120))
        },
    )
}

fn fact() -> impl Strategy<Value = Fact<'static>> {
    let granted = prop_oneof![4 => 0..20_u64, 1 => Just(STOCK_MAX), 1 => Just(STOCK_MAX + 1)];
    let created = (1..3_u64, granted, prop::sample::select(vec!["phone", "", "a\nb"]), 90..200_u64, 0..2_u64);
    prop_oneof![
        8 => imported(),
        3 => created.prop_map(|(id, granted, name, closes, hold)| {
            created_item(id, granted, spec(name, closes, hold))
        }),
        1 => (1..3_u64, prop::sample::select(vec![0, 1, -3, i64::MAX, i64::MIN])).prop_map(|(id, delta)| {
            Fact::StockAdjusted { at_ms: UnixMillis(60), item: item_id(id), delta, actor: "postgres", key: b"" }
        }),
        1 => (1..3_u64, time()).prop_map(|(id, at_ms)| Fact::ItemSwitched {
            at_ms,
            item: item_id(id),
            switch: Switch::Paused,
            actor: "postgres",
            key: b"",
        }),
        1 => text(70).prop_map(|subject| Fact::BuyerBlocked {
            at_ms: UnixMillis(70),
            subject,
            blocked: true,
            actor: "postgres",
        }),
    ]
}

fn shard() -> Shard {
    empty_shards(1).remove(0)
}

/// The state once more, out of its snapshot.
fn reloaded(shard: &Shard) -> u64 {
    let mut rows = Vec::new();
    shard.rows(&mut |row| rows.push(keep_row(row)));
    let mut copy = self::shard();
    rows.iter().for_each(|row| copy.load_row(row).expect("a row of a shard can be loaded"));
    copy.digest()
}

proptest! {
    /// Every fact that was accepted can be replayed; one that was not has left nothing behind,
    /// neither in the log nor in memory.
    #[test]
    fn accepted_facts_replay_and_refused_ones_leave_no_trace(
        facts in prop::collection::vec(fact(), 1..40),
    ) {
        let (mut shard, mut log) = (shard(), Recorder::default());
        for fact in &facts {
            let before = (shard.digest(), shard.lsn(), log.facts.len());
            match shard.accept(fact, &mut log) {
                Ok(lsn) => prop_assert_eq!(lsn, shard.lsn()),
                Err(_) => prop_assert_eq!(before, (shard.digest(), shard.lsn(), log.facts.len())),
            }
        }
        let mut replayed = self::shard();
        for (lsn, fact) in &log.facts {
            let applied = replayed.apply(*lsn, fact);
            prop_assert_eq!(applied, Ok(()), "{:?}", fact);
        }
        prop_assert_eq!(replayed.digest(), shard.digest());
        prop_assert_eq!(reloaded(&shard), shard.digest());
    }

    /// A trial keeps no orders, and says what the shard says.
    #[test]
    fn a_trial_judges_as_the_shard_does(orders in prop::collection::vec(imported(), 1..30)) {
        let (mut shard, mut log, mut trial) = (shard(), Recorder::default(), Trial::new());
        let item = item_id(1);
        for fact in [created_item(1, 20, spec("phone", 1_000, 5))].iter().chain(&orders) {
            prop_assert_eq!(trial.take(fact), shard.accept(fact, &mut log).map(|_| ()), "{:?}", fact);
            let piles = |item: Option<stampede_core::command::ItemView<'_>>| {
                item.map(|item| (item.available, item.held, item.sold, item.accepted))
            };
            prop_assert_eq!(piles(trial.item(item)), piles(shard.item(item)));
        }
    }
}

/// The order row that once made a directory unopenable.
#[test]
fn an_order_to_be_paid_before_it_was_placed_is_not_appended() {
    let (mut shard, mut log) = (shard(), Recorder::default());
    let created = created_item(1, 5, spec("phone", 1_000, 5));
    shard.accept(&created, &mut log).expect("a good item");
    let order = Order {
        at_ms: UnixMillis(40),
        state: OrderState::Paid,
        pay_by_ms: UnixMillis(40),
        ..Order::new(OrderId::new(item_id(1), 1))
    };
    let refused = shard.accept(&order.imported(UnixMillis(50)), &mut log).expect_err("it cannot be replayed");
    assert_eq!(refused.to_string(), "pay_by_ms is out of range");
    assert_eq!(log.facts.len(), 1, "the item alone");
}

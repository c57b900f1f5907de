//! What an owner does at a time is bounded however large its tables are, and no table's end is
//! silent: what needs one more row is refused, all else goes on.
//!
//! Counted in rows, not in time: `benches/core` measures what they cost.

use std::sync::Arc;

use stampede_core::catalogue::Catalogue;
use stampede_core::command::{Command, ItemPatch, Movement, OrderView, Outcome, Purchase, Refusal, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::fact::Fact;
use stampede_core::item::{OrderState, Payment};
use stampede_core::limits::{Bounds, INDEX_PART_ROWS_MAX, ORDERS_PER_BUYER_AND_ITEM_MAX, TICK_STEPS_MAX};
use stampede_core::sample::Order;
use stampede_core::shard::Shard;
use stampede_core::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

use crate::engine::SECRET;
use crate::record::Recorder;

const NOW: UnixMillis = UnixMillis(1_000);
const HOLD_MS: u64 = 5_000;

/// A shard and its log.
struct Owner {
    shard: Shard,
    log: Recorder,
}

fn item(number: u32) -> ItemId {
    ItemId::new(number.into()).expect("small")
}

impl Owner {
    fn new(bounds: Bounds) -> Self {
        let shard = Shard::with_bounds(0, SECRET, Arc::new(Catalogue::new(1)), bounds);
        Self { shard, log: Recorder::default() }
    }

    fn create(&mut self, number: u32, stock: u64, payment: Payment) -> Outcome {
        self.create_with(number, stock, payment, 1)
    }

    fn create_with(&mut self, number: u32, stock: u64, payment: Payment, cap: u32) -> Outcome {
        let patch = ItemPatch {
            name: Some("one"),
            stock: Some(stock),
            opens_at_ms: Some(UnixMillis(0)),
            closes_at_ms: Some(UnixMillis(1 << 40)),
            payment: Some(payment),
            hold_ms: Some(HOLD_MS),
            cap: Some(cap),
            ..ItemPatch::default()
        };
        self.decide(&Command::PutItem { item: item(number), patch, seed: DrawSeed::NONE, actor: "shop" })
    }

    fn decide(&mut self, command: &Command<'_>) -> Outcome {
        self.shard.decide(NOW, command, &mut self.log)
    }

    fn buy(&mut self, number: u32, subject: &[u8], key: &[u8]) -> Outcome {
        let (item, buyer, quantity) = (item(number), SECRET.buyer(subject), Quantity::ONE);
        let ticket = Ticket::Good;
        self.decide(&Command::Purchase(Purchase { item, buyer, subject, quantity, key, ticket }))
    }

    fn placed(&mut self, number: u32, subject: &[u8]) -> OrderView {
        match self.buy(number, subject, b"") {
            Outcome::Placed(order) => order,
            other => panic!("not placed: {other:?}"),
        }
    }

    fn cancel(&mut self, order: OrderId, subject: &[u8]) {
        let cancelled = self.decide(&Command::CancelOwn { order, buyer: SECRET.buyer(subject) });
        assert!(matches!(cancelled, Outcome::Moved(_)), "{cancelled:?}");
    }
}

fn buyer(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

const OVERLOADED: Outcome = Outcome::Refused(Refusal::Overloaded);
const USED_UP: Outcome = Outcome::Refused(Refusal::OrdersUsedUp);

#[test]
fn no_step_moves_more_rows_than_a_part_has() {
    let mut owner = Owner::new(Bounds::DEFAULT);
    owner.create(1, 1 << 30, Payment::OnOrder);
    for number in 0..40_000 {
        owner.placed(1, &buyer(number));
    }
    // The merchant's large numbers move nothing.
    owner.create(2, 1 << 30, Payment::OnOrder);
    owner.decide(&Command::AdjustStock { item: item(2), delta: 1 << 35, actor: "shop", key: b"" });
    owner.placed(2, &buyer(1));
    (0..1_000).for_each(|_| owner.shard.keep_headroom());
    let moved = owner.shard.rows_moved_max();
    assert!(moved > 0, "nothing ever moved: the test has gone blind");
    assert!(moved <= INDEX_PART_ROWS_MAX, "{moved} rows moved in one step");
}

/// A hold that was paid stays on the list of what falls due until then; a million of them at
/// once must not hold up the owner.
#[test]
fn a_tick_looks_at_few_rows_whether_they_are_due_or_not() {
    let mut owner = Owner::new(Bounds::DEFAULT);
    let holds = 3 * TICK_STEPS_MAX as u32;
    owner.create(1, holds.into(), Payment::Hold);
    for number in 0..holds {
        let order = owner.placed(1, &buyer(number)).order;
        if number % 2 == 0 {
            let (movement, payment_ref) = (Movement::Pay, &b"paid"[..]);
            owner.decide(&Command::Move { order, movement, payment_ref, actor: "shop" });
        }
    }
    let due = UnixMillis(NOW.0 + HOLD_MS);
    let is_due = |shard: &Shard| shard.next_due().is_some_and(|next| next <= due);
    let (mut ticks, mut expired) = (0, 0);
    while is_due(&owner.shard) {
        expired += owner.shard.tick(due, usize::MAX, &mut owner.log);
        ticks += 1;
        assert!(ticks < 10, "nothing goes on");
        assert!(ticks > 2 || is_due(&owner.shard), "more than {TICK_STEPS_MAX} rows in a tick");
    }
    assert_eq!(expired, holds as usize / 2);
}

#[test]
fn a_buyer_cannot_place_orders_of_an_item_without_end() {
    let mut owner = Owner::new(Bounds::DEFAULT);
    owner.create(1, 10, Payment::OnOrder);
    owner.create(2, 10, Payment::OnOrder);
    let Outcome::Placed(first) = owner.buy(1, b"ann", b"key") else { panic!("refused at once") };
    owner.cancel(first.order, b"ann");
    for _ in 1..ORDERS_PER_BUYER_AND_ITEM_MAX {
        let order = owner.placed(1, b"ann").order;
        owner.cancel(order, b"ann");
    }
    assert_eq!(owner.buy(1, b"ann", b""), USED_UP);
    assert_eq!(owner.buy(1, b"ann", b"another"), USED_UP);
    assert!(matches!(owner.buy(1, b"ann", b"key"), Outcome::Replayed(again) if again.order == first.order));
    owner.placed(1, b"bob");
    owner.placed(2, b"ann");
    assert_eq!(owner.shard.counts().1, usize::from(ORDERS_PER_BUYER_AND_ITEM_MAX) + 2);
}

/// Who may have more units than that may place as many orders, one for each unit.
#[test]
fn a_larger_cap_allows_as_many_orders() {
    let cap = u32::from(ORDERS_PER_BUYER_AND_ITEM_MAX) + 40;
    let mut owner = Owner::new(Bounds::DEFAULT);
    owner.create_with(1, 1_000, Payment::OnOrder, cap);
    let first = owner.placed(1, b"ann").order;
    for _ in 1..cap {
        owner.placed(1, b"ann");
    }
    assert!(matches!(owner.buy(1, b"ann", b""), Outcome::Refused(Refusal::CapReached { .. })));
    owner.cancel(first, b"ann");
    assert_eq!(owner.buy(1, b"ann", b""), USED_UP, "a cancelled order counts");
}

/// A log from before that bound may hold any number of them: it opens, nothing is placed on top,
/// and every order is found page by page.
#[test]
fn a_log_with_more_orders_of_a_buyer_still_opens() {
    const ITEMS: u32 = 20;
    const EACH: u32 = 150;
    let mut owner = Owner::new(Bounds::DEFAULT);
    (1..=ITEMS).for_each(|number| {
        owner.create(number, 10_000, Payment::OnOrder);
    });
    let mut lsn = owner.shard.lsn();
    for seq in 1..=EACH {
        for number in 1..=ITEMS {
            lsn = lsn.next();
            let subject: &[u8] = if seq % 2 == 0 || number == 7 { b"ann" } else { b"bob" };
            let (order, key) = (OrderId::new(item(number), seq), seq.to_be_bytes());
            let placed = Order { at_ms: NOW, subject, key: &key, ..Order::new(order) }.placed();
            owner.shard.apply(lsn, &placed).expect("an older engine decided it");
        }
    }
    owner.decide(&Command::PutItem {
        item: item(7),
        patch: ItemPatch { cap: Some(EACH), ..ItemPatch::default() },
        seed: DrawSeed::NONE,
        actor: "shop",
    });
    owner.log.facts.resize(lsn.0 as usize, (Lsn(0), Fact::ClockMark { at_ms: NOW }));
    owner.cancel(OrderId::new(item(7), 1), b"ann");
    assert_eq!(owner.buy(7, b"ann", b""), USED_UP);
    for (subject, only) in
        [(&b"ann"[..], None), (b"bob", None), (b"ann", Some(item(7))), (b"bob", Some(item(3)))]
    {
        let all = owner.shard.orders_after(only, 0, usize::MAX).into_iter();
        let expected: Vec<_> = all.filter(|order| order.subject == subject).map(|o| o.order.order).collect();
        for limit in [1, 7, 200] {
            let (mut found, mut after) = (Vec::new(), 0);
            loop {
                let page = owner.shard.orders_of(SECRET.buyer(subject), only, after, limit);
                assert!(page.len() <= limit);
                let Some(last) = page.last() else { break };
                after = last.order.order.get();
                found.extend(page.iter().map(|order| order.order.order));
            }
            assert_eq!(found, expected, "pages of {limit}, {only:?}");
        }
    }
}

/// More buyers come and go than the first filter was made for, several times over: each is found
/// in one of them, and few others are.
#[test]
fn every_holder_is_found_however_often_the_filter_grows() {
    const BUYERS: u32 = 3_000;
    let mut owner = Owner::new(Bounds::DEFAULT);
    owner.create(1, 5, Payment::OnOrder);
    for number in 0..BUYERS {
        let order = owner.placed(1, &buyer(number)).order;
        owner.cancel(order, &buyer(number));
    }
    let gauge = owner.shard.catalogue().find(item(1)).expect("created");
    let may_hold = |number: u32| gauge.may_hold(SECRET.buyer(&buyer(number)));
    assert!((0..BUYERS).all(may_hold));
    let wrong = (BUYERS..11 * BUYERS).filter(|&number| may_hold(number)).count();
    assert!(wrong < BUYERS as usize, "{wrong} of {} are sent to the owner for nothing", 10 * BUYERS);
}

fn used(shard: &Shard, table: &str) -> (u64, u64, bool) {
    let all = shard.fullness();
    let found = all.iter().find(|fullness| fullness.table == table).expect("there is such a table");
    (found.used, found.max, found.is_alarming())
}

#[test]
fn a_full_table_of_orders_refuses_purchases_and_nothing_else() {
    let mut owner = Owner::new(Bounds { orders: 10, ..Bounds::DEFAULT });
    owner.create(1, 100, Payment::OnOrder);
    let first = owner.placed(1, &buyer(0)).order;
    (1..7).for_each(|number| {
        owner.placed(1, &buyer(number));
    });
    assert_eq!(used(&owner.shard, "orders"), (7, 10, false));
    owner.placed(1, &buyer(7));
    assert_eq!(used(&owner.shard, "orders"), (8, 10, true));
    assert_eq!(used(&owner.shard, "buyers"), (8, 10, true));
    (8..10).for_each(|number| {
        owner.placed(1, &buyer(number));
    });
    let available = |owner: &Owner| owner.shard.item(item(1)).expect("created").available;
    assert_eq!((owner.buy(1, &buyer(10), b""), available(&owner)), (OVERLOADED, 90));
    owner.cancel(first, &buyer(0));
    assert_eq!((owner.buy(1, &buyer(10), b""), available(&owner)), (OVERLOADED, 91));
    assert!(matches!(owner.create(2, 1, Payment::OnOrder), Outcome::Done { changed: true, .. }));
    assert_eq!(owner.shard.orders_after(None, 0, 99).len(), 10);
}

#[test]
fn full_tables_refuse_only_what_needs_another_row() {
    const CHUNK: u64 = 1 << 16;
    let bounds = Bounds { items: 2, subject_bytes: 2 * CHUNK, blocked: 1, ..Bounds::DEFAULT };
    let mut owner = Owner::new(bounds);
    owner.create(1, 1 << 20, Payment::OnOrder);
    owner.create(2, 1, Payment::OnOrder);
    assert_eq!(owner.create(3, 1, Payment::OnOrder), OVERLOADED);
    assert_eq!(used(&owner.shard, "items"), (2, 2, true));
    let block = |subject| Command::BlockBuyer { subject, blocked: true, actor: "shop" };
    assert!(matches!(owner.decide(&block(b"ann")), Outcome::Done { changed: true, .. }));
    assert_eq!(owner.decide(&block(b"bob")), OVERLOADED);
    let name = |number: u32| [number.to_be_bytes(); 16].concat();
    let sold = (0..).take_while(|&number| owner.buy(1, &name(number), b"") != OVERLOADED).count();
    assert!(sold > 1_000, "{sold} names of 64 bytes");
    assert!(used(&owner.shard, "buyer_name_bytes").2);
}

/// Numbers that were taken over go on from there, and 32 bits have an end.
#[test]
fn an_item_whose_order_numbers_run_out_says_so() {
    let mut owner = Owner::new(Bounds::DEFAULT);
    owner.create(1, 9, Payment::OnOrder);
    let imported = Order { at_ms: NOW, ..Order::new(OrderId::new(item(1), u32::MAX - 1)) }.imported(NOW);
    owner.shard.apply(Lsn(2), &imported).expect("fits");
    owner.log.facts.resize(2, (Lsn(0), Fact::ClockMark { at_ms: NOW }));
    assert_eq!(owner.placed(1, b"bob").order.seq(), u32::MAX);
    assert!(used(&owner.shard, "order_numbers").2);
    assert_eq!(owner.buy(1, b"eve", b""), OVERLOADED);
}

/// Whatever a page is filtered by, it looks at so many orders at most, and page by page nothing is missed.
#[test]
fn filtered_pages_end_and_together_show_all() {
    use stampede_core::limits::SCAN_ORDERS_MAX;
    use stampede_core::shard::OrderFilter;
    const ORDERS: u32 = 3 * SCAN_ORDERS_MAX as u32 + 7;
    let mut owner = Owner::new(Bounds::DEFAULT);
    owner.create(1, 100_000, Payment::OnOrder);
    owner.create(2, 100_000, Payment::OnOrder);
    (0..ORDERS).for_each(|number| {
        owner.placed(1 + number % 2, &buyer(number));
    });
    let rare: Vec<OrderId> = [5, 1_000, 3_000].map(|seq| OrderId::new(item(1), seq)).into();
    rare.iter().for_each(|order| owner.cancel(*order, &buyer(2 * (order.seq() - 1))));
    let state = Some(OrderState::Cancelled);
    let (one, newest) = (Some(item(1)), true);
    let mut backwards = rare.clone();
    backwards.reverse();
    let all = OrderFilter { state, ..OrderFilter::default() };
    let table = [
        (all, rare.clone()),
        (OrderFilter { item: one, ..all }, rare.clone()),
        (OrderFilter { item: one, newest, ..all }, backwards),
        (OrderFilter { item: Some(item(2)), newest, ..all }, vec![]),
        (OrderFilter { buyer: Some(SECRET.buyer(&buyer(8))), ..all }, vec![rare[0]]),
        (OrderFilter { item: Some(item(9)), ..all }, vec![]),
        (OrderFilter { from_ms: UnixMillis(NOW.0 + 1), ..all }, vec![]),
        (OrderFilter { to_ms: NOW, ..all }, vec![]),
        (OrderFilter { payment_ref_hash: Some(7), ..all }, vec![]),
    ];
    for (filter, expected) in table {
        for limit in [1, 2, 1_000] {
            let (mut found, mut after, mut pages) = (Vec::new(), 0, 0);
            loop {
                let page = owner.shard.orders_page(&filter, after, limit);
                assert!(page.orders.len() <= limit);
                found.extend(page.orders.iter().map(|owned| owned.order.order));
                pages += 1;
                let Some(last) = page.looked_to else { break };
                after = last.get();
            }
            assert_eq!(found, expected, "{filter:?} in pages of {limit}");
            if filter == all {
                assert!(pages > 3, "a page looks at more than it may");
            }
        }
    }
}

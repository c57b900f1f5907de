//! The longest that an owner is busy with one verb, beside the bound that is promised for all of
//! them ([`VERB_CPU_US_MAX`]), with so many orders in its tables.
//!
//! Time is what the thread had a processor for, so that other programs disturb little. An interrupt
//! counts all the same: of each verb the tenth longest call is shown, too. What is rare on purpose,
//! such as a part of an index that is split, happens far more often than ten times in a run.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use stampede_core::catalogue::Catalogue;
use stampede_core::command::{Command, ItemPatch, Movement, Outcome, Purchase, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::fact::Switch;
use stampede_core::item::Payment;
use stampede_core::limits::VERB_CPU_US_MAX;
use stampede_core::shard::Shard;
use stampede_core::types::{ItemId, OrderId, Quantity, UnixMillis};

use crate::{Forget, NOW, SECRET, item, subject};

const HOLD_MS: u64 = 1_000_000;
/// Items that share the orders; the first is the hot one and has half of them.
const ITEMS: u64 = 64;
/// Facts of a tick, as an owner allows them.
const TICK_FACTS: usize = 128;
/// Calls of a verb that happens once in a while.
const CALLS: u64 = 2_000;

/// The longest calls of a verb.
struct Longest {
    name: &'static str,
    calls: u64,
    top: Vec<Duration>,
}

/// For how long this thread had a processor so far.
fn on_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Longest calls that are kept.
const TOP: usize = 10;

impl Longest {
    fn of(name: &'static str) -> Self {
        Self { name, calls: 0, top: Vec::new() }
    }

    fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let begin = on_cpu();
        let done = black_box(call());
        let took = on_cpu() - begin;
        self.calls += 1;
        if self.top.len() < TOP || took > self.top[TOP - 1] {
            let at = self.top.partition_point(|&longer| longer >= took);
            self.top.insert(at, took);
            self.top.truncate(TOP);
        }
        done
    }

    fn print(&self) {
        let us = |place: usize| self.top.get(place).map_or(0.0, |took| took.as_nanos() as f64 / 1e3);
        let tenth = us(self.top.len().saturating_sub(1));
        let verdict = if us(0) <= VERB_CPU_US_MAX as f64 { "" } else { "  above the bound" };
        println!("  {:<28} {:>9} {:>10.1} {tenth:>10.1}{verdict}", self.name, self.calls, us(0));
    }
}

struct Owner {
    shard: Shard,
    sink: Forget,
    orders: u64,
}

/// The item of an order and who places it, by its number.
fn asked(n: u64) -> (ItemId, [u8; 16]) {
    let number = if n.is_multiple_of(2) { 1 } else { n / 2 % ITEMS + 1 };
    (item(number), subject(n))
}

impl Owner {
    fn create(&mut self, number: u64, stock: u64) -> Outcome {
        let patch = ItemPatch {
            name: Some("an item of a bench"),
            stock: Some(stock),
            opens_at_ms: Some(UnixMillis(0)),
            closes_at_ms: Some(UnixMillis(1 << 40)),
            payment: Some(Payment::Hold),
            hold_ms: Some(HOLD_MS),
            ..ItemPatch::default()
        };
        let (item, seed) = (item(number), DrawSeed::NONE);
        self.shard.decide(NOW, &Command::PutItem { item, patch, seed, actor: "bench" }, &mut self.sink)
    }

    fn buy(&mut self, now: UnixMillis, (item, subject): (ItemId, [u8; 16])) -> Outcome {
        let (buyer, quantity, ticket) = (SECRET.buyer(&subject), Quantity::ONE, Ticket::Good);
        let purchase = Purchase { item, buyer, subject: &subject, quantity, key: &subject, ticket };
        self.shard.decide(now, &Command::Purchase(purchase), &mut self.sink)
    }

    fn move_on(&mut self, order: OrderId, movement: Movement) -> Outcome {
        let (payment_ref, actor) = (&b"paid"[..], "bench");
        self.shard.decide(NOW, &Command::Move { order, movement, payment_ref, actor }, &mut self.sink)
    }
}

/// Fills an owner and measures every verb on it.
pub(crate) fn run(orders: u64) {
    let shard = Shard::new(0, SECRET, Arc::new(Catalogue::new(1)));
    let mut owner = Owner { shard, sink: Forget(0), orders };
    println!("one call at {orders} orders, bound {VERB_CPU_US_MAX} µs     calls    longest      tenth µs");
    fill(&mut owner);
    lists(&owner.shard);
    moves(&mut owner);
    merchant(&mut owner);
    ticks(&mut owner);
    draw(&mut owner);
}

fn fill(owner: &mut Owner) {
    (1..=ITEMS).for_each(|number| {
        owner.create(number, owner.orders);
    });
    let (mut buy, mut headroom) = (Longest::of("buy, while tables grow"), Longest::of("room made ahead"));
    for n in 0..owner.orders {
        let asked = asked(n);
        let outcome = buy.time(|| owner.buy(NOW, asked));
        assert!(matches!(outcome, Outcome::Placed(_)), "{outcome:?}");
        if n % 512 == 0 {
            headroom.time(|| owner.shard.keep_headroom());
        }
    }
    buy.print();
    headroom.print();
}

fn lists(shard: &Shard) {
    let mut page = Longest::of("page of 1,000 orders");
    let mut books = Longest::of("page of an item's books");
    let mut own = Longest::of("page of a buyer's orders");
    for n in 0..CALLS {
        let item = item(n % ITEMS + 1);
        let after = OrderId::new(item, (n * 7_919 % (1 << 20)) as u32).get();
        page.time(|| shard.orders_after(None, after, 1_001).len());
        books.time(|| shard.books_page(item, after as u32, 1_000).map(|page| page.to));
        own.time(|| shard.orders_of(SECRET.buyer(&subject(n)), None, 0, 201).len());
    }
    [page, books, own].iter().for_each(Longest::print);
}

fn moves(owner: &mut Owner) {
    let [mut pay, mut refund, mut cancel, mut replay] =
        ["pay", "refund", "cancel", "buy, a retry"].map(Longest::of);
    for n in 0..CALLS.min(owner.orders / 8) {
        let order = |seq: u64| OrderId::new(item(1), seq as u32);
        assert!(matches!(pay.time(|| owner.move_on(order(4 * n + 1), Movement::Pay)), Outcome::Moved(_)));
        refund.time(|| owner.move_on(order(4 * n + 1), Movement::Refund));
        cancel.time(|| owner.move_on(order(4 * n + 2), Movement::Cancel));
        replay.time(|| owner.buy(NOW, asked(8 * n)));
    }
    [pay, refund, cancel, replay].iter().for_each(Longest::print);
}

fn merchant(owner: &mut Owner) {
    let [mut create, mut restock, mut pause, mut close, mut block] =
        ["create, stock 1 M", "restock by 1 M", "pause", "close", "block"].map(Longest::of);
    for n in 0..CALLS {
        let number = 1_000 + n;
        let id = item(number);
        create.time(|| owner.create(number, 1_000_000));
        let Owner { shard, sink, .. } = owner;
        let actor = "bench";
        restock.time(|| {
            shard.decide(NOW, &Command::AdjustStock { item: id, delta: 1_000_000, actor, key: b"" }, sink)
        });
        let switch = |switch| Command::SwitchItem { item: id, switch, actor, key: b"" };
        pause.time(|| shard.decide(NOW, &switch(Switch::Paused), sink));
        close.time(|| shard.decide(NOW, &switch(Switch::Closed), sink));
        let subject = subject(n);
        block.time(|| {
            let subject = &subject[..];
            shard.decide(NOW, &Command::BlockBuyer { subject, blocked: true, actor }, sink)
        });
    }
    [create, restock, pause, close, block].iter().for_each(Longest::print);
}

/// Everything falls due at one moment; a quarter of it was paid before.
fn ticks(owner: &mut Owner) {
    for seq in 1..=owner.orders / 4 {
        owner.move_on(OrderId::new(item(1), seq as u32), Movement::Pay);
    }
    let mut tick = Longest::of("tick, all holds due at once");
    let due = UnixMillis(NOW.0 + HOLD_MS);
    while owner.shard.next_due().is_some_and(|next| next <= due) {
        tick.time(|| owner.shard.tick(due, TICK_FACTS, &mut owner.sink));
    }
    tick.print();
}

/// A draw among a tenth of the orders, held beside all the others.
fn draw(owner: &mut Owner) {
    let number = 500_000;
    // The clock of the shard has moved on: so does the window.
    let now = UnixMillis(owner.shard.clock().0 + 10);
    let patch = ItemPatch {
        name: Some("a draw"),
        stock: Some(100),
        opens_at_ms: Some(now),
        closes_at_ms: Some(UnixMillis(1 << 40)),
        draw_ms: Some(1_000),
        ..ItemPatch::default()
    };
    let (item, seed) = (item(number), DrawSeed([9; 32]));
    let put = Command::PutItem { item, patch, seed, actor: "bench" };
    owner.shard.decide(UnixMillis(now.0 - 1), &put, &mut owner.sink);
    let mut enter = Longest::of("enter a draw");
    for n in 0..owner.orders / 10 {
        let outcome = enter.time(|| owner.buy(now, (item, subject(n))));
        assert!(matches!(outcome, Outcome::Placed(_)), "{outcome:?}");
        if n % 512 == 0 {
            owner.shard.keep_headroom();
        }
    }
    enter.print();
    let (mut tick, draws) = (Longest::of("tick, a step of a draw"), UnixMillis(now.0 + 1_000));
    while owner.shard.next_due().is_some_and(|next| next <= draws) {
        tick.time(|| owner.shard.tick(draws, TICK_FACTS, &mut owner.sink));
    }
    tick.print();
    let mut page = Longest::of("page of a draw's entries");
    for n in 0..CALLS {
        let after = OrderId::new(item, (n * 50 % (owner.orders / 10)) as u32).get();
        page.time(|| owner.shard.draw_entries(item, after, 1_000).map(|page| page.0.len()));
    }
    page.print();
}

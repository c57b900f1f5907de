//! The replica that reconciliation compares with: it agrees with the engine's state after every
//! fact, and can be brought to any LSN of a log that is being written, snapshot and trimmed.

use std::path::Path;
use std::sync::Arc;

use stampede_core::catalogue::Catalogue;
use stampede_core::command::{Command, ItemPatch, Movement, Purchase, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::fact::Switch;
use stampede_core::item::{OrderState, Payment};
use stampede_core::money::{MoneyKind, reference_of};
use stampede_core::record::RecordDigest;
use stampede_core::sample::{Item, Order, item_id, spec};
use stampede_core::shard::{Accepted, FactSink, Shard};
use stampede_core::types::{HashSecret, ItemId, Lsn, OrderId, Quantity, UnixMillis};
use stampede_persist::log::journal::Step;
use stampede_persist::log::mirror::{Advance, Mirror, MirrorError};
use stampede_persist::log::replica::Replica;

use super::log_sale::{DIR, Sale, append_next, item, small, step_on};
use super::sim_disk::{Rng, SimDisk};

const SECRET: HashSecret = HashSecret([3; 16]);

/// Where a log would be.
struct Follow(Replica, Lsn);

impl FactSink for Follow {
    fn append(&mut self, fact: Accepted<'_>) -> Lsn {
        self.1 = self.1.next();
        self.0.fact(self.1, &fact).expect("a decided fact fits");
        self.1
    }
}

fn assert_agree(shard: &Shard, replica: &Replica, what: &str) {
    for (item, totals) in replica.items() {
        let mut after = 0;
        loop {
            let page = shard.books_page(*item, after, 7).expect("an item");
            assert_eq!(
                page.digest,
                replica.digest(*item, after, page.to),
                "{what}: item {item} after {after}"
            );
            let view = &page.item;
            let piles = (view.granted, view.available, view.held, view.sold, page.last_seq);
            let ours = (totals.granted, totals.available, totals.held, totals.sold, totals.last_seq);
            assert_eq!(piles, ours, "{what}: item {item}");
            after = page.to;
            if page.to == page.last_seq {
                break;
            }
        }
    }
}

/// Items of every kind of payment and one with a draw; the last has no orders of its own.
fn open(shard: &mut Shard, follow: &mut Follow) {
    let kinds = [Payment::OnOrder, Payment::Hold, Payment::OnPayment, Payment::OnOrder];
    for (number, payment) in (1..).zip(kinds) {
        let draw_ms = if number == 4 { 2_000 } else { 0 };
        let patch = ItemPatch {
            name: Some("thing"),
            stock: Some(20),
            cap: Some(3),
            payment: Some(payment),
            hold_ms: Some(if payment == Payment::Hold { 300 } else { 0 }),
            opens_at_ms: Some(UnixMillis(1_000)),
            closes_at_ms: Some(UnixMillis(60_000)),
            draw_ms: Some(draw_ms),
            ..ItemPatch::default()
        };
        let (item, seed) = (ItemId::new(number).unwrap(), DrawSeed([5; 32]));
        shard.decide(UnixMillis(10), &Command::PutItem { item, patch, seed, actor: "shop" }, follow);
    }
}

fn act(rng: &mut Rng, now: UnixMillis, shard: &mut Shard, follow: &mut Follow) {
    let item = ItemId::new(1 + rng.below(4)).unwrap();
    let subject = format!("buyer-{}", rng.below(15));
    let buyer = SECRET.buyer(subject.as_bytes());
    let order = OrderId::new(item, 1 + rng.below(30) as u32);
    let key = format!("k{}", rng.below(4));
    let reference = format!("p{}", rng.below(3));
    let command = match rng.below(12) {
        0 => Command::AdjustStock { item, delta: rng.below(9) as i64 - 4, actor: "shop", key: b"" },
        1 => Command::CancelOwn { order, buyer },
        2..=4 => {
            let movement = [Movement::Pay, Movement::Refund, Movement::Cancel][rng.below(3) as usize];
            Command::Move { order, movement, payment_ref: reference.as_bytes(), actor: "shop" }
        }
        5 => Command::SwitchItem {
            item,
            switch: if rng.coin() { Switch::Paused } else { Switch::Resumed },
            actor: "shop",
            key: b"",
        },
        // A part with a reference, and what is left, with one or without.
        6 => {
            let (payment_ref, units, part) = (&b""[..], Some(Quantity::ONE), reference.as_bytes());
            shard.decide(
                now,
                &Command::Refund { order, payment_ref, refund_ref: part, units, actor: "shop" },
                follow,
            );
            let refund_ref = if rng.coin() { key.as_bytes() } else { b"" };
            Command::Refund { order, payment_ref, refund_ref, units: None, actor: "shop" }
        }
        _ => Command::Purchase(Purchase {
            item,
            buyer,
            subject: subject.as_bytes(),
            quantity: Quantity::new(1 + rng.below(2)).unwrap(),
            key: if rng.coin() { key.as_bytes() } else { b"" },
            ticket: Ticket::Good,
        }),
    };
    shard.decide(now, &command, follow);
    shard.tick(now, 5, follow);
}

#[test]
fn the_replica_agrees_with_the_engine_after_every_fact() {
    let mut states = [0; OrderState::COUNT];
    let mut left_without = 0;
    for seed in 0..20 {
        let mut rng = Rng(seed);
        let mut shard = Shard::new(0, SECRET, Arc::new(Catalogue::new(1)));
        let mut follow = Follow(Replica::new(SECRET), Lsn::ZERO);
        open(&mut shard, &mut follow);
        import(&mut shard, &mut follow);
        for step in 0..400 {
            act(&mut rng, UnixMillis(1_000 + step * 20), &mut shard, &mut follow);
            assert_agree(&shard, &follow.0, &format!("seed {seed}, step {step}"));
        }
        // From the rows of a snapshot it is the same again.
        let mut loaded = Replica::new(SECRET);
        shard.rows(&mut |row| loaded.row(row).expect("a row fits"));
        assert_agree(&shard, &loaded, &format!("seed {seed}, from rows"));
        assert_eq!((loaded.items(), loaded.orders()), (follow.0.items(), follow.0.orders()));
        let mut after = 0;
        while let Some(record) = follow.0.next_order(after) {
            assert_eq!(loaded.order(record.order), Some(record), "seed {seed}");
            states[usize::from(record.state.code())] += 1;
            let money = shard.money(record.order);
            let (reference, hash) = reference_of(money.iter().copied(), MoneyKind::Refund);
            assert_eq!((record.refund_ref_hash != 0, record.refund_ref_hash), (!reference.is_empty(), hash));
            let last = money.iter().rfind(|row| row.kind == MoneyKind::Refund);
            left_without += u32::from(hash != 0 && last.is_some_and(|row| row.reference.is_empty()));
            after = record.order.get();
        }
    }
    assert!(states.iter().all(|orders| *orders > 0), "every state was there: {states:?}");
    assert!(left_without > 0, "no refund without a reference came after one that had one");
}

/// An item that came from a database, with gaps between its orders' numbers.
fn import(shard: &mut Shard, follow: &mut Follow) {
    let item = item_id(9);
    let old = Item { at_ms: UnixMillis(20), spec: spec("old"), actor: "postgres", ..Item::new(item, 9) };
    let mut facts = vec![old.created()];
    let states =
        [(2, OrderState::Paid), (5, OrderState::Held), (7, OrderState::Entered), (60, OrderState::Lost)];
    for (seq, state) in states {
        let order = Order {
            at_ms: UnixMillis(5),
            state,
            pay_by_ms: UnixMillis(if state == OrderState::Held { 900_000 } else { 0 }),
            subject: b"al\\ice\xff",
            key: b"key",
            payment_ref: b"ref",
            ..Order::new(OrderId::new(item, seq))
        };
        facts.push(order.imported(UnixMillis(20)));
    }
    for fact in &facts {
        let lsn = follow.append(Accepted::forged(fact));
        shard.apply(lsn, fact).expect("an import fits");
    }
    let digest = follow.0.digest(item, 2, 59);
    assert_eq!(digest.orders, 2, "two orders lie between the others");
    assert_ne!(digest, RecordDigest::default());
}

/// The digest of the first orders of the small sale.
fn expected(upto: Lsn) -> (u64, u64) {
    (upto.0.saturating_sub(1), upto.0)
}

fn check(mirror: &Mirror<'_>, at: Lsn) {
    assert_eq!(mirror.lsn(), at);
    let orders = mirror.replica().orders();
    assert_eq!((orders, mirror.replica().items().len() as u64 + orders), expected(at), "at {at}");
    if orders > 0 {
        let last = mirror.replica().order(OrderId::new(item(), orders as u32)).expect("the last order");
        assert_eq!(last.state_lsn, at);
        assert_eq!(mirror.replica().digest(item(), 0, u32::MAX).orders, orders);
    }
}

fn go(mirror: &mut Mirror<'_>, to: Lsn) -> Result<Advance, MirrorError> {
    loop {
        match mirror.advance(to)? {
            Advance::More => {}
            done => return Ok(done),
        }
    }
}

#[test]
fn it_stands_at_any_lsn_of_a_log_that_is_being_written() {
    let mut rng = Rng(31);
    let disk = SimDisk::new(31);
    let (_, mut log) = step_on(&disk, &small()).unwrap();
    let mut mirror = Mirror::open_on(&disk, Path::new(DIR)).unwrap();
    let mut next = 1;
    for _ in 0..150 {
        (0..rng.below(30)).filter(|_| log.queue.has_room()).for_each(|_| append_next(&log.queue, &mut next));
        while log.journal.step() == Step::NeedsSegment {
            log.maintenance.prepare_spare().unwrap();
        }
        let durable = log.status.durable_lsn();
        let ahead = durable.0 - mirror.lsn().0;
        let to = Lsn(mirror.lsn().0 + rng.below(ahead + 1));
        assert_eq!(go(&mut mirror, to).unwrap(), Advance::There);
        check(&mirror, to);
    }
    let durable = log.status.durable_lsn();
    assert!(durable > Lsn(1_000), "several segments: {durable}");
    assert_eq!(go(&mut mirror, durable.next()).unwrap(), Advance::End);
    check(&mirror, durable);
    mirror.judge_end().expect("the end of a log that is well");
}

#[test]
fn it_begins_with_a_snapshot_and_notices_a_trim_and_damage() {
    let disk = SimDisk::new(32);
    let (_, mut log) = step_on(&disk, &small()).unwrap();
    let mut early = Mirror::open_on(&disk, Path::new(DIR)).unwrap();
    let mut next = 1;
    for round in 0..60 {
        (0..30).for_each(|_| append_next(&log.queue, &mut next));
        while log.journal.step() == Step::NeedsSegment {
            log.maintenance.prepare_spare().unwrap();
        }
        while log.maintenance.prepare_spare().unwrap() {}
        if round == 30 || round == 50 {
            log.maintenance.snapshot(&mut Sale::default()).unwrap();
        }
    }
    assert!(log.maintenance.trim().unwrap() > 0);
    let durable = log.status.durable_lsn();
    let mut late = Mirror::open_on(&disk, Path::new(DIR)).unwrap();
    assert_eq!(late.lsn(), Lsn(31 * 30), "the older snapshot");
    check(&late, Lsn(31 * 30));
    assert_eq!(go(&mut late, Lsn(1_000)).unwrap(), Advance::There);
    check(&late, Lsn(1_000));
    assert_eq!(go(&mut late, durable).unwrap(), Advance::There);
    check(&late, durable);
    assert!(matches!(go(&mut early, durable), Err(MirrorError::Trimmed)), "what it wants is gone");
    // A byte of a record, somewhere in the middle.
    let mut mirror = Mirror::open_on(&disk, Path::new(DIR)).unwrap();
    let path =
        stampede_persist::log::layout::segment_file(Path::new(DIR), mirror.control().first_segment + 1);
    disk.edit(&path, |bytes| bytes[200] ^= 1);
    assert_eq!(go(&mut mirror, durable).unwrap(), Advance::End);
    match mirror.judge_end() {
        Err(MirrorError::Wrong(wrong)) => assert_eq!((wrong.file, wrong.offset), (path, 0)),
        other => panic!("expected damage, got {other:?}"),
    }
}

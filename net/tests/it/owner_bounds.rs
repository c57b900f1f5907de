//! An owner whose tables fill up: it says so long before, once. When they are full it refuses
//! what needs more room, and nothing else.

use stampede_core::command::{Command, ItemPatch, Outcome, Refusal, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::limits::Bounds;
use stampede_core::shard::Shard;
use stampede_core::types::{ItemId, OrderId, Quantity, Subject, UnixMillis};
use stampede_net::engine::ask::{Ask, Key, PurchaseAsk, Reply};
use stampede_net::engine::owner::Owner;
use stampede_net::engine::tables;

use crate::rig::Base;

const NOW: UnixMillis = UnixMillis(1_000);
const ORDERS_MAX: u64 = 10;
const STOCK: u64 = 1_000;

fn item() -> ItemId {
    ItemId::new(1).unwrap()
}

fn put_on_sale(base: &Base) -> Shard {
    let bounds = Bounds { orders: ORDERS_MAX as usize, ..Bounds::DEFAULT };
    let shared = &base.shared;
    let mut shard = Shard::with_bounds(0, shared.secret, shared.catalogue.clone(), bounds);
    let patch = ItemPatch {
        name: Some("phone"),
        stock: Some(STOCK),
        opens_at_ms: Some(UnixMillis(0)),
        closes_at_ms: Some(UnixMillis(1 << 40)),
        ..ItemPatch::default()
    };
    let put = Command::PutItem { item: item(), patch, seed: DrawSeed::NONE, actor: "shop" };
    shard.decide(NOW, &put, &mut shared.queue.producer());
    shard
}

fn buy(owner: &mut Owner, base: &Base, buyer: u64) -> Outcome {
    let subject = Subject::new(&buyer.to_be_bytes()).unwrap();
    let buyer = base.shared.secret.buyer(subject.as_bytes());
    let (item, quantity, key, ticket) = (item(), Quantity::ONE, Key::new(b""), Ticket::Good);
    match owner.answer(NOW, &Ask::Purchase(PurchaseAsk { item, buyer, subject, quantity, key, ticket })) {
        Reply::Outcome(outcome) => outcome,
        _ => panic!("no outcome"),
    }
}

#[test]
fn a_table_that_fills_raises_an_alarm_and_then_refuses() {
    let base = Base::new(1, 0);
    let shared = &base.shared;
    let mut owner = Owner::new(put_on_sale(&base), shared.queue.producer(), shared.clone());
    for buyer in 0..7 {
        assert!(matches!(buy(&mut owner, &base, buyer), Outcome::Placed(_)));
    }
    owner.tick(NOW);
    assert_eq!((shared.alarms().len(), tables::filling(shared).len()), (0, 0));
    assert!(matches!(buy(&mut owner, &base, 7), Outcome::Placed(_)));
    (0..3).for_each(|_| assert_eq!(owner.tick(NOW), 0));
    let alarms = shared.alarms();
    assert_eq!(alarms.len(), 2, "one for orders and one for buyers, once: {alarms:?}");
    assert!(alarms[0].contains("core 0: the table orders holds 8 of at most 10 rows"), "{alarms:?}");
    assert_eq!(tables::filling(shared), ["core 0: orders 8 of 10", "core 0: buyers 8 of 10"]);
    for buyer in 8..ORDERS_MAX {
        assert!(matches!(buy(&mut owner, &base, buyer), Outcome::Placed(_)));
    }
    let full = Outcome::Refused(Refusal::Overloaded);
    assert_eq!(buy(&mut owner, &base, ORDERS_MAX), full);
    let cancel = Ask::CancelOwn(OrderId::new(item(), 1), shared.secret.buyer(&0_u64.to_be_bytes()));
    assert!(matches!(owner.answer(NOW, &cancel), Reply::Outcome(Outcome::Moved(_))));
    assert_eq!(buy(&mut owner, &base, ORDERS_MAX), full);
    let view = owner.shard().item(item()).unwrap();
    assert_eq!((view.granted, view.available, view.sold), (STOCK, STOCK - 9, 9));
    owner.tick(NOW);
    assert_eq!(shared.alarms().len(), 2, "the alarm was raised before");
}

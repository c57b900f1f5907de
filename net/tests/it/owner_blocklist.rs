//! The blocklist: owner 0 decides, and the other owners follow in the order of its decisions.

use stampede_core::command::Outcome;
use stampede_core::shard::Shard;
use stampede_core::types::{Subject, UnixMillis};
use stampede_net::engine::ask::{Ask, RareAsk, Reply};
use stampede_net::engine::owner::Owner;

use crate::rig::Base;

const NOW: UnixMillis = UnixMillis(1_000);

/// The owner with this number, which nobody else asks.
fn owner(base: &Base, index: usize) -> Owner {
    let shared = &base.shared;
    Owner::new(
        Shard::new(index, shared.secret, shared.catalogue.clone()),
        shared.queue.producer(),
        shared.clone(),
    )
}

fn ask(owner: &mut Owner, ask: RareAsk) -> Reply {
    owner.answer(NOW, &Ask::Rare(Box::new(ask)))
}

/// While an owner has much to do, its own core's questions wait their turn; its own decisions do not.
#[test]
fn owner_0_keeps_its_later_decision_over_an_earlier_one() {
    let base = Base::new(1, 0);
    let mut owner = owner(&base, 0);
    let him = Subject::new(b"him").unwrap();
    let buyer = base.shared.secret.buyer(him.as_bytes());
    for blocked in [true, false] {
        let decided = ask(&mut owner, RareAsk::Block(him.clone(), !blocked));
        assert!(matches!(decided, Reply::Outcome(Outcome::Done { .. })));
        let decided = ask(&mut owner, RareAsk::Block(him.clone(), blocked));
        assert!(matches!(decided, Reply::Outcome(Outcome::Done { .. })));
        // The updates arrive after both.
        for follows in [!blocked, blocked] {
            ask(&mut owner, RareAsk::FollowBlock(him.clone(), follows));
            assert_eq!(owner.shard().is_blocked(buyer), blocked, "after the one that follows {follows}");
        }
    }
}

#[test]
fn other_owners_follow() {
    let base = Base::new(2, 0);
    let mut owner = owner(&base, 1);
    let him = Subject::new(b"him").unwrap();
    let buyer = base.shared.secret.buyer(him.as_bytes());
    for blocked in [true, false] {
        ask(&mut owner, RareAsk::FollowBlock(him.clone(), blocked));
        assert_eq!(owner.shard().is_blocked(buyer), blocked);
    }
}

//! The home core's early refusal against the owner's word.
//!
//! Whatever `admit` refuses for the sale's sake, the owner refuses with the same words, and
//! it never stands between a buyer and the answer to a retry. The owner can be asked
//! right away: if both refuse, nothing has changed.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::any;
use stampede_core::admit::{Buyer, admit};
use stampede_core::command::{Outcome, Refusal};
use stampede_core::types::{ItemId, UnixMillis};

use crate::trace::{BUYERS, ITEMS, check, history};
use crate::world::{World, buyer_hash, item_id};

#[derive(Clone, Copy, Debug)]
struct Asker {
    item: ItemId,
    buyer: u8,
    level: u8,
    key: &'static [u8],
}

type Seen = RefCell<BTreeMap<&'static str, u64>>;

fn count(seen: &Seen, what: &'static str) {
    *seen.borrow_mut().entry(what).or_default() += 1;
}

/// The sale clock of a home core is never behind that of the owner's facts (I14).
fn sale_clock(world: &World, item: ItemId) -> UnixMillis {
    world.now.max(world.engine.owner(item).clock())
}

fn verdict(world: &World, asker: &Asker) -> Option<Result<(), Refusal>> {
    let gauge = world.engine.owner(asker.item).catalogue().find(asker.item)?;
    let hash = buyer_hash(asker.buyer);
    let blocked = world.engine.owner(asker.item).is_blocked(hash);
    let buyer = Buyer { hash, level: asker.level, since_s: None, blocked };
    Some(admit(sale_clock(world, asker.item), gauge, &buyer))
}

fn ask(world: &mut World, asker: &Asker, seen: &Seen) {
    let Some(verdict) = verdict(world, asker) else { return };
    let (level_min, sold_out) = {
        let item = &world.model.items[&asker.item];
        (item.spec.min_level, world.model.available(asker.item) == 0)
    };
    let blocked = world.model.blocked.iter().any(|subject| **subject == [b'A' + asker.buyer]);
    let eligible = !blocked && asker.level >= level_min;
    assert_eq!(verdict == Err(Refusal::NotEligible), !eligible, "{asker:?}");
    if !eligible {
        return count(seen, "not eligible");
    }
    world.now = sale_clock(world, asker.item);
    let outcome = world.buy(asker.item, asker.buyer, 1, asker.key);
    match verdict {
        Err(refusal) => {
            assert_eq!(outcome, Outcome::Refused(refusal), "home and owner differ for {asker:?}");
            count(seen, name_of(refusal));
        }
        Ok(()) if sold_out && matches!(outcome, Outcome::Replayed(_)) => count(seen, "retry after sold out"),
        Ok(()) => {}
    }
}

fn name_of(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotOpen { .. } => "not open",
        Refusal::Ended => "ended",
        Refusal::Paused => "paused",
        Refusal::SoldOut => "sold out",
        _ => panic!("not one that a home core may give: {refusal:?}"),
    }
}

#[test]
fn a_refusal_at_home_is_the_owners_refusal() {
    let seen = Seen::default();
    let strategy = (history(300), any::<u64>());
    let full = check(200, &strategy, |(history, mut dice)| {
        let mut world = World::new(history.cores);
        for step in &history.steps {
            world.take(step);
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let roll = dice >> 33;
            let asker = Asker {
                item: item_id(roll % ITEMS + 1),
                buyer: (roll / 8 % u64::from(BUYERS)) as u8,
                level: (roll / 128 % 5) as u8,
                key: [&b"k1"[..], b"k2", b""][roll as usize / 1024 % 3],
            };
            ask(&mut world, &asker, &seen);
        }
        world.check_all();
    });
    println!("{:?}", seen.borrow());
    let kinds = ["ended", "not eligible", "not open", "paused", "retry after sold out", "sold out"];
    if full {
        assert!(kinds.iter().all(|kind| seen.borrow().contains_key(kind)), "{:?}", seen.borrow());
    }
}

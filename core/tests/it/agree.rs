//! The main property: engine and model agree on every command, view and list, through
//! restarts from facts and from snapshots with other numbers of cores.

use std::cell::RefCell;
use std::collections::BTreeMap;

use stampede_core::command::{Outcome, Refusal};

use crate::trace::{History, Step, check, history};
use crate::world::World;

/// Every outcome that a history must come to somewhere.
const OUTCOMES: [&str; 17] = [
    "AlreadyPaid",
    "BadQuantity",
    "CapReached",
    "Done",
    "Ended",
    "HoldExpired",
    "Invalid",
    "KeyReused",
    "Moved",
    "NotCancellable",
    "NotFound",
    "NotOpen",
    "Paused",
    "Placed",
    "Replayed",
    "SoldOut",
    "StockInUse",
];

fn name_of(outcome: &Outcome) -> String {
    let text = match outcome {
        Outcome::Refused(refusal) => format!("{refusal:?}"),
        outcome => format!("{outcome:?}"),
    };
    text.split(|c: char| !c.is_alphanumeric()).next().expect("split yields one").to_owned()
}

#[test]
fn engine_and_model_agree() {
    let seen = RefCell::new(BTreeMap::<String, u64>::new());
    let full = check(400, &history(1_200), |History { cores, steps }| {
        let mut world = World::new(cores);
        for step in &steps {
            if let Some(outcome) = world.take(step) {
                *seen.borrow_mut().entry(name_of(&outcome)).or_default() += 1;
            }
            world.check_items();
        }
        world.take(&Step::Tick { budget: usize::MAX });
        world.check_all();
        world.take(&Step::Restart { cores: cores % 4 + 1, from_rows: false });
        world.take(&Step::Restart { cores: cores % 3 + 1, from_rows: true });
    });
    println!("{:?}", seen.borrow());
    if full {
        let missing: Vec<_> = OUTCOMES.iter().filter(|name| !seen.borrow().contains_key(**name)).collect();
        assert!(missing.is_empty(), "no history came to {missing:?}: the test has gone blind");
    }
}

#[test]
fn every_refusal_has_its_name_here() {
    let refusal = Outcome::Refused(Refusal::NotOpen { opens_in_ms: 5 });
    assert_eq!(name_of(&refusal), "NotOpen");
}

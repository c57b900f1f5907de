//! The main property: engine and model agree on every command, view and list, through
//! restarts from facts and from snapshots with other numbers of cores.

use std::cell::RefCell;
use std::collections::BTreeMap;

use stampede_core::command::{Outcome, Refusal};
use stampede_core::fact::Fact;
use stampede_core::item::OrderState;

use crate::trace::{History, Step, check, history};
use crate::world::World;

/// Everything that a history must come to somewhere.
const OUTCOMES: [&str; 24] = [
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
    "NotDrawn",
    "NotFound",
    "NotOpen",
    "OrdersUsedUp",
    "Overloaded",
    "Paused",
    "Placed",
    "Replayed",
    "SoldOut",
    "StockInUse",
    "draw with nothing to win",
    "entry lost",
    "entry won",
    "restart amid a draw",
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
        let count = |what: &str, times: u64| *seen.borrow_mut().entry(what.to_owned()).or_default() += times;
        for step in &steps {
            if matches!(step, Step::Restart { .. }) {
                count("restart amid a draw", world.model.drawing().min(1) as u64);
            }
            if let Some(outcome) = world.take(step) {
                count(&name_of(&outcome), 1);
            }
            world.check_items();
        }
        world.take(&Step::Tick { budget: usize::MAX });
        world.check_all();
        world.engine.log.facts.iter().for_each(|(_, fact)| match *fact {
            Fact::EntryDrawn { to: OrderState::Lost, .. } => count("entry lost", 1),
            Fact::EntryDrawn { .. } => count("entry won", 1),
            Fact::DrawHeld { entries: 1.., units: 0, .. } => count("draw with nothing to win", 1),
            _ => {}
        });
        world.take(&Step::Restart { cores: cores % 4 + 1, from_rows: false });
        world.take(&Step::Restart { cores: cores % 3 + 1, from_rows: true });
    });
    println!("{:?}", seen.borrow());
    if full {
        let came_to = |name: &str| seen.borrow().get(name).is_some_and(|&times| times > 0);
        let missing: Vec<_> = OUTCOMES.iter().filter(|name| !came_to(name)).collect();
        assert!(missing.is_empty(), "no history came to {missing:?}: the test has gone blind");
    }
}

#[test]
fn every_refusal_has_its_name_here() {
    let refusal = Outcome::Refused(Refusal::NotOpen { opens_in_ms: 5 });
    assert_eq!(name_of(&refusal), "NotOpen");
}

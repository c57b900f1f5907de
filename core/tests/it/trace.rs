//! Random histories: what happens, in terms that do not depend on how it turns out.
//!
//! Id spaces are small so that things collide; times and order numbers are relative to
//! the moment when the step is taken, so that they mean something after shrinking too.

use std::fmt;

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use stampede_core::command::{Movement, Ticket};
use stampede_core::fact::Switch;
use stampede_core::item::{ChallengeRule, Payment, TicketRule};
use stampede_core::limits::{HOLD_MS_MAX, PRICE_MINOR_MAX};

pub(crate) const ITEMS: u64 = 7;
pub(crate) const BUYERS: u8 = 10;
const KEYS: u8 = 9;
const REFERENCES: u8 = 3;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Buy {
        item: u64,
        buyer: u8,
        quantity: u64,
        key: u8,
        ticket: Ticket,
    },
    /// `back` counts from the item's newest order; `own` = by the buyer whose it is.
    CancelOwn {
        item: u64,
        back: u32,
        own: bool,
        buyer: u8,
    },
    Move {
        item: u64,
        back: u32,
        movement: Movement,
        reference: u8,
    },
    Put {
        item: u64,
        patch: Patch,
    },
    Adjust {
        item: u64,
        delta: i64,
    },
    Switch {
        item: u64,
        switch: Switch,
        by_postgres: bool,
    },
    Block {
        buyer: u8,
        blocked: bool,
    },
    Tick {
        budget: usize,
    },
    Forward(u64),
    Back(u64),
    /// To an exact moment of an item, or one beside it.
    At {
        item: u64,
        edge: Edge,
        offset: i64,
    },
    /// Start again with that many cores, from facts or from a snapshot.
    Restart {
        cores: usize,
        from_rows: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Edge {
    Opens,
    Closes,
    Draws,
    PayBy,
}

/// An item's settings; times are relative to now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patch {
    pub(crate) name: Option<String>,
    pub(crate) price_minor: Option<u64>,
    pub(crate) currency: Option<[u8; 3]>,
    pub(crate) stock: Option<u64>,
    pub(crate) opens_in_ms: Option<i64>,
    pub(crate) closes_in_ms: Option<i64>,
    pub(crate) cap: Option<u32>,
    pub(crate) payment: Option<Payment>,
    pub(crate) hold_ms: Option<u64>,
    pub(crate) ticket: Option<TicketRule>,
    pub(crate) challenge: Option<ChallengeRule>,
    pub(crate) min_level: Option<u8>,
    pub(crate) admit_per_s: Option<u32>,
    pub(crate) draw_ms: Option<u32>,
}

/// A number of cores to begin with, and what happens.
pub(crate) struct History {
    pub(crate) cores: usize,
    pub(crate) steps: Vec<Step>,
}

/// One step a line, so that a failure can be read.
impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores", self.cores)?;
        self.steps.iter().try_for_each(|step| write!(f, "\n  {step:?}"))
    }
}

pub(crate) fn history(steps_max: usize) -> impl Strategy<Value = History> {
    // Most items stand from the beginning; the last ones only if a step makes them.
    let items = vec(new_item(), ITEMS as usize - 2).prop_map(|items| {
        let put = |(item, patch)| Step::Put { item, patch };
        (1..).zip(items).map(put).collect::<Vec<_>>()
    });
    (1..5usize, items, vec(step(), 1..steps_max)).prop_map(|(cores, mut steps, rest)| {
        steps.extend(rest);
        History { cores, steps }
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        45 => buy(),
        6 => (1..=ITEMS, 0..8u32, any::<bool>(), 0..BUYERS)
            .prop_map(|(item, back, own, buyer)| Step::CancelOwn { item, back, own, buyer }),
        14 => (1..=ITEMS, 0..8u32, movement(), 0..REFERENCES)
            .prop_map(|(item, back, movement, reference)| Step::Move { item, back, movement, reference }),
        6 => (1..=ITEMS, prop_oneof![new_item(), changes()]).prop_map(|(item, patch)| Step::Put { item, patch }),
        4 => (1..=ITEMS, delta()).prop_map(|(item, delta)| Step::Adjust { item, delta }),
        5 => (1..=ITEMS, switch(), weighted(0.1, Just(()))).prop_map(|(item, switch, postgres)| {
            Step::Switch { item, switch, by_postgres: postgres.is_some() }
        }),
        2 => (0..BUYERS, any::<bool>()).prop_map(|(buyer, blocked)| Step::Block { buyer, blocked }),
        6 => prop_oneof![Just(1), 0..4usize, Just(1000)].prop_map(|budget| Step::Tick { budget }),
        18 => time(),
        1 => (1..5usize, any::<bool>())
            .prop_map(|(cores, from_rows)| Step::Restart { cores, from_rows }),
    ]
}

fn buy() -> impl Strategy<Value = Step> {
    let quantity = prop_oneof![6 => Just(1), 2 => Just(2), 1 => 3..6u64];
    let key = prop_oneof![1 => Just(0), 2 => 0..KEYS];
    let ticket = prop_oneof![8 => Just(Ticket::Good), 1 => select(vec![Ticket::Missing, Ticket::Invalid])];
    (1..=ITEMS, 0..BUYERS, quantity, key, ticket).prop_map(|(item, buyer, quantity, key, ticket)| Step::Buy {
        item,
        buyer,
        quantity,
        key,
        ticket,
    })
}

fn time() -> impl Strategy<Value = Step> {
    let edge = select(vec![Edge::Opens, Edge::Closes, Edge::Draws, Edge::Draws, Edge::PayBy, Edge::PayBy]);
    prop_oneof![
        5 => (0..20u64).prop_map(Step::Forward),
        1 => (0..200u64).prop_map(Step::Forward),
        1 => (0..500u64).prop_map(Step::Back),
        4 => (1..=ITEMS, edge, -1..2i64).prop_map(|(item, edge, offset)| Step::At { item, edge, offset }),
    ]
}

fn movement() -> impl Strategy<Value = Movement> {
    select(vec![Movement::Pay, Movement::Pay, Movement::Pay, Movement::Refund, Movement::Cancel])
}

fn switch() -> impl Strategy<Value = Switch> {
    prop_oneof![8 => Just(Switch::Paused), 12 => Just(Switch::Resumed), 1 => Just(Switch::Closed)]
}

fn delta() -> impl Strategy<Value = i64> {
    prop_oneof![8 => -6..9i64, 1 => select(vec![i64::MIN, i64::MAX, 1 << 40, -(1 << 40)])]
}

fn payment() -> impl Strategy<Value = Payment> {
    select(vec![Payment::OnOrder, Payment::Hold, Payment::OnPayment])
}

/// A new item, one in three with a draw.
fn new_item() -> impl Strategy<Value = Patch> {
    let draw = (1..30i64, 1_000..2_500u32, 1..20_000i64);
    (plain_item(), weighted(0.35, draw)).prop_map(|(patch, draw)| match draw {
        None => patch,
        Some((opens, draw_ms, rest)) => Patch {
            opens_in_ms: Some(opens),
            closes_in_ms: Some(opens + i64::from(draw_ms) + rest),
            draw_ms: Some(draw_ms),
            ..patch
        },
    })
}

fn plain_item() -> impl Strategy<Value = Patch> {
    let window = (prop_oneof![2 => Just(0), 1 => -9..200i64], 1..20_000i64);
    (0..12u64, window, 1..5u32, payment(), prop_oneof![20..400u64, Just(0)], 0..4u8).prop_map(
        |(stock, (opens, length), cap, payment, hold_ms, min_level)| Patch {
            name: Some("item".into()),
            stock: Some(stock),
            opens_in_ms: Some(opens),
            closes_in_ms: Some(opens + length),
            cap: Some(cap),
            payment: Some(payment),
            hold_ms: Some(if payment == Payment::Hold { hold_ms.max(1) } else { hold_ms }),
            min_level: Some(min_level),
            ..Patch::default()
        },
    )
}

fn changes() -> impl Strategy<Value = Patch> {
    let names = select(vec!["item", "另一个", "", "two\nlines"]).prop_map(String::from);
    let name = prop_oneof![8 => names, 1 => Just("x".repeat(201))];
    let closes = prop_oneof![8 => -20..20_000i64, 1 => Just(i64::MAX / 2)];
    let hold_ms = prop_oneof![4 => 20..400u64, 1 => Just(0), 1 => Just(HOLD_MS_MAX + 1)];
    let rules = (
        weighted(0.1, select(vec![TicketRule::Never, TicketRule::Required])),
        weighted(0.1, select(vec![ChallengeRule::Never, ChallengeRule::Suspicious, ChallengeRule::Always])),
        weighted(0.1, 0..3u8),
        weighted(0.1, any::<u32>()),
        weighted(0.1, select(vec![0, 0, 1_000, 1_500, 999, 604_800_001])),
    );
    let money = (
        weighted(0.1, prop_oneof![5 => 0..9u64, 1 => Just(PRICE_MINOR_MAX + 1)]),
        weighted(0.1, select(vec![*b"EUR", *b"JPY", *b"eur"])),
    );
    let window = (weighted(0.2, -100..100i64), weighted(0.5, closes));
    let sale = (
        weighted(0.1, 0..20u64),
        weighted(0.3, prop_oneof![9 => 1..6u32, 1 => select(vec![0, 1_000_001])]),
        weighted(0.1, payment()),
        weighted(0.2, hold_ms),
    );
    (weighted(0.2, name), money, window, sale, rules).prop_map(|(name, money, window, sale, rules)| Patch {
        name,
        price_minor: money.0,
        currency: money.1,
        stock: sale.0,
        opens_in_ms: window.0,
        closes_in_ms: window.1,
        cap: sale.1,
        payment: sale.2,
        hold_ms: sale.3,
        ticket: rules.0,
        challenge: rules.1,
        min_level: rules.2,
        admit_per_s: rules.3,
        draw_ms: rules.4,
    })
}

/// Runs a property over random histories, `cases` of them unless `PROPTEST_CASES` says
/// otherwise, and prints the seed (`STAMPEDE_SEED` repeats it) and the smallest failure.
///
/// Says whether the full number of cases ran, so that the caller may ask what they covered.
pub(crate) fn check<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value)) -> bool {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config {
        cases: asked.unwrap_or(cases),
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let run = config.cases;
    let seed = std::env::var("STAMPEDE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(random_seed);
    println!("seed: STAMPEDE_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let outcome = TestRunner::new_with_rng(config, rng).run(strategy, |value| {
        test(value);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, least)) => panic!("STAMPEDE_SEED={seed}: {reason}\n{least:?}"),
        Err(TestError::Abort(reason)) => panic!("STAMPEDE_SEED={seed}: {reason}"),
    }
    run >= cases
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

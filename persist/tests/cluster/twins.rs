//! The store in memory is held against a real etcd: the same calls, drawn at random, have the same answers. What is proved
//! in memory counts for etcd only as far as this goes.

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use stampede_core::types::Lsn;
use stampede_persist::cluster::{
    Block, ClusterError, Epoch, LeaderRecord, NodeName, Position, Registry as _, Swap,
};

use crate::bed::{Bed as _, EtcdBed, MemoryBed, Store, candidate, next_block, present, record};

/// A call; numbers choose among what there has been so far.
#[derive(Clone, Debug)]
enum Call {
    Swap { old: usize, name: u8, nonce: u8 },
    Append { leader: usize, at: usize, facts: u64 },
    AppendAgain { leader: usize, block: usize },
    Read { at: usize, most: usize, is_wrong: bool },
    Trim { leader: usize, at: usize, is_wrong: bool },
    Seal { leader: usize },
    Bounds,
    RaiseLevel { leader: usize, from: u32 },
    Announce { name: u8, nonce: u8 },
    Depart { name: u8, nonce: u8 },
    Nodes,
}

fn call() -> impl Strategy<Value = Call> {
    // Mostly the newest leader and the end of the chain.
    let newest = || prop_oneof![4 => Just(0_usize), 1 => 0..4_usize];
    let seldom = || prop::bool::weighted(0.15);
    prop_oneof![
        2 => (newest(), 0..3_u8, 0..3_u8).prop_map(|(old, name, nonce)| Call::Swap { old, name, nonce }),
        8 => (newest(), newest(), 1..4_u64).prop_map(|(leader, at, facts)| Call::Append { leader, at, facts }),
        2 => (newest(), 0..4_usize).prop_map(|(leader, block)| Call::AppendAgain { leader, block }),
        4 => (0..12_usize, 1..5_usize, seldom())
            .prop_map(|(at, most, is_wrong)| Call::Read { at, most, is_wrong }),
        1 => (newest(), 0..8_usize, seldom())
            .prop_map(|(leader, at, is_wrong)| Call::Trim { leader, at, is_wrong }),
        1 => newest().prop_map(|leader| Call::Seal { leader }),
        1 => Just(Call::Bounds),
        1 => (newest(), 1..4_u32).prop_map(|(leader, from)| Call::RaiseLevel { leader, from }),
        1 => (0..2_u8, 0..2_u8).prop_map(|(name, nonce)| Call::Announce { name, nonce }),
        1 => (0..2_u8, 0..2_u8).prop_map(|(name, nonce)| Call::Depart { name, nonce }),
        1 => Just(Call::Nodes),
    ]
}

/// What both have been told so far, the newest last.
struct Seen {
    leaders: Vec<LeaderRecord>,
    places: Vec<Position>,
    blocks: Vec<Block>,
}

fn nth_last<T: Clone>(all: &[T], back: usize) -> T {
    all[all.len() - 1 - back.min(all.len() - 1)].clone()
}

fn place(seen: &Seen, back: usize, is_wrong: bool) -> Position {
    let at = nth_last(&seen.places, back);
    if is_wrong { Position { hash: [0xEE; 32], ..at } } else { at }
}

/// An answer as text; what a damaged value looks like is each store's own.
fn text<T: Debug>(answer: Result<T, ClusterError>) -> String {
    match answer {
        Err(ClusterError::Corrupt { .. }) => "corrupt".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Makes the call; gives the answer, and what was learnt by it.
fn make(store: &mut impl Store, call: &Call, seen: &Seen) -> (String, Option<LeaderRecord>, Option<Block>) {
    let leader = |back: usize| nth_last(&seen.leaders, back);
    let node = |name: u8, nonce: u8| present(&format!("n{name}"), nonce);
    match *call {
        Call::Swap { old, name, nonce } => {
            let answer = store.swap(&leader(old), &candidate(&format!("n{name}"), nonce));
            let won = match &answer {
                Ok(Swap::Won(leader)) => Some(leader.clone()),
                _ => None,
            };
            (text(answer), won, None)
        }
        Call::Append { leader: back, at, facts } => {
            let leader = leader(back);
            if leader.epoch == Epoch::NONE {
                return (String::new(), None, None);
            }
            let block = next_block(&leader, nth_last(&seen.places, at), facts, 20 + facts as usize);
            let answer = store.append(&leader, &block);
            let added = answer.is_ok().then_some(block);
            (text(answer), None, added)
        }
        Call::AppendAgain { leader: back, block } => {
            let Some(block) = seen.blocks.len().checked_sub(1 + block).map(|at| &seen.blocks[at]) else {
                return (String::new(), None, None);
            };
            let leader = leader(back);
            if leader.epoch != block.epoch() {
                return (String::new(), None, None);
            }
            (text(store.append(&leader, block)), None, None)
        }
        Call::Read { at, most, is_wrong } => (text(store.read(place(seen, at, is_wrong), most)), None, None),
        Call::Trim { leader: back, at, is_wrong } => {
            (text(store.trim(&leader(back), place(seen, at, is_wrong))), None, None)
        }
        Call::Seal { leader: back } => (text(store.seal(&leader(back))), None, None),
        Call::Bounds => (text(store.bounds()), None, None),
        Call::RaiseLevel { leader: back, from } => {
            let raised = store.raise_level(&leader(back), from, from + 1);
            (text(raised) + &text(store.cluster()), None, None)
        }
        Call::Announce { name, nonce } => (text(store.announce(&node(name, nonce), 60)), None, None),
        Call::Depart { name, nonce } => (text(store.depart(&node(name, nonce))), None, None),
        Call::Nodes => {
            let one = store.node(&NodeName::new("n1").expect("a name"));
            (text(store.nodes()) + &text(one), None, None)
        }
    }
}

#[test]
fn memory_answers_as_etcd_does() {
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let strategy = prop::collection::vec(call(), 1..60);
    let judged = runner.run(&strategy, |calls| {
        let (memory, etcd) = (MemoryBed::default(), EtcdBed::new());
        let (mut memory, mut etcd) = (memory.handle(None), etcd.handle(None));
        assert_eq!(memory.found(&record(1)), etcd.found(&record(1)));
        let start = Position::start_of(record(1).log_id);
        let mut seen = Seen { leaders: vec![LeaderRecord::nobody()], places: vec![start], blocks: vec![] };
        for (n, call) in calls.iter().enumerate() {
            let (told, leader, block) = make(&mut memory, call, &seen);
            let (expected, ..) = make(&mut etcd, call, &seen);
            prop_assert_eq!(told, expected, "call {}: {:?}", n, call);
            seen.leaders.extend(leader);
            if let Some(block) = block.filter(|block| block.last_lsn() > nth_last(&seen.places, 0).lsn) {
                seen.places.push(block.after());
                seen.blocks.push(block);
            }
        }
        prop_assert!(nth_last(&seen.places, 0).lsn >= Lsn::ZERO);
        Ok(())
    });
    if let Err(error) = judged {
        panic!("{error}");
    }
}

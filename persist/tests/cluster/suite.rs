//! The conformance suite: what every ledger and registry has to do. Each test runs against memory and against etcd.

use std::thread;
use std::time::Duration;

use stampede_core::types::Lsn;
use stampede_persist::cluster::limits::{LEDGER_BLOCK_BYTES_MAX, READ_BLOCKS_MAX};
use stampede_persist::cluster::{
    Block, ClusterError, ClusterRecord, Epoch, Founded, LeaderRecord, Ledger, NodeName, Position, Registry,
    Swap,
};

use crate::bed::{
    Bed, EtcdBed, MemoryBed, Store, append_some, candidate, chain, lead, led, next_block, present, record,
    wait_until,
};

macro_rules! conforms {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $name() { super::$name(&super::MemoryBed::default()); })*
        }
        mod etcd {
            $(#[test] fn $name() { super::$name(&super::EtcdBed::new()); })*
        }
    };
}

conforms![
    a_cluster_is_made_once,
    one_of_several_swaps_wins,
    a_swap_that_is_repeated_is_the_same_swap,
    blocks_come_back_in_order,
    a_block_has_one_place,
    an_old_leader_can_do_nothing,
    an_append_that_arrives_late_is_refused,
    an_append_that_arrived_in_time_is_in_the_history,
    an_append_without_an_answer_is_added_once,
    what_was_trimmed_is_not_given,
    blocks_of_the_largest_size_fit,
    another_clusters_keys_are_not_touched,
    nodes_come_and_go,
    whoever_waits_sees_each_change,
    a_level_rises_once,
];

/// Whether it is this refusal: the current leader, and what became of the block.
#[track_caller]
fn assert_fenced<T: std::fmt::Debug>(
    answer: Result<T, ClusterError>,
    by: &LeaderRecord,
    became: Option<bool>,
) {
    match answer {
        Err(ClusterError::Fenced { epoch, leader, kept }) => {
            assert_eq!((epoch, leader.as_str(), kept), (by.epoch, by.name(), became));
        }
        other => panic!("{other:?} although {by:?} leads"),
    }
}

fn a_cluster_is_made_once(bed: &impl Bed) {
    let mut store = bed.handle(None);
    assert!(matches!(store.cluster(), Err(ClusterError::NotFounded(_))));
    assert!(matches!(store.leader(), Err(ClusterError::NotFounded(_))));
    assert_eq!(store.found(&record(1)), Ok(Founded::Now));
    assert_eq!(store.found(&record(1)), Ok(Founded::Now), "the same call again");
    assert_eq!(bed.handle(None).found(&record(2)), Ok(Founded::Already(record(1))));
    assert_eq!(store.cluster(), Ok(record(1)));
    let start = Position::start_of(record(1).log_id);
    assert_eq!(store.bounds(), Ok((start, start)));
    let (leader, _) = store.leader().expect("told");
    assert_eq!(leader, LeaderRecord::nobody());
}

fn one_of_several_swaps_wins(bed: &impl Bed) {
    let mut store = bed.handle(None);
    store.found(&record(3)).expect("made");
    for round in 1..=3 {
        let (old, _) = store.leader().expect("told");
        let swaps: Vec<Swap> = thread::scope(|scope| {
            let old = &old;
            let try_it = |n| {
                let mut handle = bed.handle(None);
                scope.spawn(move || handle.swap(old, &candidate(&format!("n{n}"), n)).expect("swapped"))
            };
            let tries: Vec<_> = (1..=6).map(try_it).collect();
            tries.into_iter().map(|one| one.join().expect("no panic")).collect()
        });
        let (now, _) = store.leader().expect("told");
        assert_eq!(now.epoch, Epoch(round));
        assert_eq!(swaps.iter().filter(|swap| **swap == Swap::Won(now.clone())).count(), 1);
        assert_eq!(swaps.iter().filter(|swap| **swap == Swap::Lost(now.clone())).count(), 5);
    }
}

fn a_swap_that_is_repeated_is_the_same_swap(bed: &impl Bed) {
    let mut store = bed.handle(None);
    store.found(&record(4)).expect("made");
    let nobody = LeaderRecord::nobody();
    let first = store.swap(&nobody, &candidate("a", 1)).expect("swapped");
    assert!(matches!(first, Swap::Won(_)));
    assert_eq!(store.swap(&nobody, &candidate("a", 1)), Ok(first.clone()));
    // The same node, started again, has drawn another nonce: it does not lead yet.
    let Swap::Won(leader) = first else { unreachable!() };
    assert_eq!(store.swap(&nobody, &candidate("a", 2)), Ok(Swap::Lost(leader)));
}

fn blocks_come_back_in_order(bed: &impl Bed) {
    let mut store = bed.handle(None);
    let (leader, start) = led(&mut store, 5);
    assert_eq!(store.read(start, 8), Ok(Vec::new()));
    let blocks = append_some(&mut store, &leader, start, 20);
    assert_eq!(chain(&mut bed.handle(None)), blocks);
    assert_eq!(store.read(start, 7), Ok(blocks[..7].to_vec()));
    assert_eq!(store.read(blocks[6].after(), 100), Ok(blocks[7..].to_vec()));
    assert_eq!(store.read(start, usize::MAX).expect("read").len(), READ_BLOCKS_MAX);
    let end = blocks[19].after();
    assert_eq!((store.read(end, 8), store.seal(&leader)), (Ok(Vec::new()), Ok(end)));
    // Places that this chain does not have.
    let beyond = Position { lsn: Lsn(end.lsn.0 + 1), ..end };
    let wrong = ClusterError::WentBack { found: end.lsn, expected: beyond.lsn };
    assert_eq!(store.read(beyond, 8), Err(wrong));
    let inside = blocks.iter().find(|block| block.last_lsn() > block.first_lsn()).expect("two facts");
    for (lsn, hash) in [(end.lsn, [1; 32]), (blocks[3].after().lsn, [1; 32]), (inside.first_lsn(), [1; 32])] {
        let told = store.read(Position { lsn, hash }, 8);
        assert!(matches!(told, Err(ClusterError::Corrupt { .. })), "{lsn}: {told:?}");
    }
}

fn a_block_has_one_place(bed: &impl Bed) {
    let mut store = bed.handle(None);
    let (leader, start) = led(&mut store, 6);
    let blocks = append_some(&mut store, &leader, start, 3);
    let end = blocks[2].after();
    // There already, whichever it is.
    for block in &blocks {
        assert_eq!(store.append(&leader, block), Ok(()));
    }
    let went_back = |expected| Err(ClusterError::WentBack { found: end.lsn, expected });
    // Another block at a place that is taken, one behind a gap, and one of another chain at the end.
    let other = Block::new(leader.epoch, blocks[0].after(), Lsn(9), vec![1]).expect("a block");
    assert_eq!(store.append(&leader, &other), went_back(other.before().lsn));
    let gap = next_block(&leader, Position { lsn: Lsn(end.lsn.0 + 2), hash: end.hash }, 1, 10);
    assert_eq!(store.append(&leader, &gap), went_back(gap.before().lsn));
    let foreign = next_block(&leader, Position { hash: [7; 32], ..end }, 1, 10);
    assert_eq!(store.append(&leader, &foreign), went_back(end.lsn));
    assert_eq!(chain(&mut store), blocks);
}

fn an_old_leader_can_do_nothing(bed: &impl Bed) {
    let (mut store, mut other) = (bed.handle(None), bed.handle(None));
    let (old, start) = led(&mut store, 7);
    let blocks = append_some(&mut store, &old, start, 4);
    let end = blocks[3].after();
    let (new, tail) = lead(&mut other, "second", 70);
    assert_eq!((new.epoch, tail), (Epoch(2), end));
    assert_fenced(store.append(&old, &next_block(&old, end, 1, 10)), &new, Some(false));
    // What it had appended is in the history, and still it has to know that it does not lead.
    assert_fenced(store.append(&old, &blocks[3]), &new, Some(true));
    assert_fenced(store.seal(&old), &new, None);
    assert_fenced(store.trim(&old, blocks[0].after()), &new, None);
    assert_fenced(store.raise_level(&old, 1, 2), &new, None);
    assert_eq!(store.swap(&LeaderRecord::nobody(), &candidate("first", 7)), Ok(Swap::Lost(new.clone())));
    let more = append_some(&mut other, &new, tail, 2);
    assert_eq!(chain(&mut store), [blocks.as_slice(), &more].concat());
    // The new leader's block stands where the old one would have put its own.
    assert_fenced(store.append(&old, &next_block(&old, end, 1, 10)), &new, Some(false));
    other.trim(&new, more[0].after()).expect("trimmed");
    assert_fenced(store.append(&old, &blocks[3]), &new, None);
}

fn an_append_that_arrives_late_is_refused(bed: &impl Bed) {
    let (mut store, mut other) = (bed.handle(None), bed.handle(None));
    let (old, start) = led(&mut store, 8);
    let before = append_some(&mut store, &old, start, 2);
    let late = next_block(&old, before[1].after(), 1, 4000);
    let mut new = None;
    let answer = bed.append_late(&old, &late, &mut || new = Some(lead(&mut other, "second", 80)));
    let (new, tail) = new.expect("it has run");
    assert_eq!(tail, before[1].after());
    // Its sender may have given up; who did not is told.
    if !matches!(answer, Err(ClusterError::Unavailable(_))) {
        assert_fenced(answer, &new, Some(false));
    }
    assert_eq!(other.seal(&new), Ok(tail), "the chain is where it was sealed");
    let after = append_some(&mut other, &new, tail, 1);
    assert_eq!(chain(&mut other), [before.as_slice(), &after].concat());
}

fn an_append_that_arrived_in_time_is_in_the_history(bed: &impl Bed) {
    let (mut store, mut other) = (bed.handle(None), bed.handle(None));
    let (old, start) = led(&mut store, 9);
    let block = next_block(&old, start, 2, 100);
    let unheard = bed.append_unheard(&old, &block);
    assert!(matches!(unheard, Err(ClusterError::Unavailable(_))), "{unheard:?}");
    let (new, tail) = lead(&mut other, "second", 90);
    assert_eq!(tail, block.after(), "the new leader has it");
    assert_fenced(store.append(&old, &block), &new, Some(true));
    append_some(&mut other, &new, tail, 1);
    assert_fenced(store.append(&old, &block), &new, Some(true));
}

fn an_append_without_an_answer_is_added_once(bed: &impl Bed) {
    let mut store = bed.handle(None);
    let (leader, start) = led(&mut store, 10);
    let block = next_block(&leader, start, 2, 100);
    let unheard = bed.append_unheard(&leader, &block);
    assert!(matches!(unheard, Err(ClusterError::Unavailable(_))), "{unheard:?}");
    assert_eq!(store.append(&leader, &block), Ok(()), "it is ours");
    let more = append_some(&mut store, &leader, block.after(), 2);
    assert_eq!(chain(&mut store), [&[block], more.as_slice()].concat());
}

fn what_was_trimmed_is_not_given(bed: &impl Bed) {
    let mut store = bed.handle(None);
    let (leader, start) = led(&mut store, 11);
    let blocks = append_some(&mut store, &leader, start, 10);
    let (cut, end) = (blocks[5].after(), blocks[9].after());
    for wrong in [Position { hash: [1; 32], ..cut }, Position { lsn: Lsn(cut.lsn.0 + 1), ..cut }] {
        assert!(matches!(store.trim(&leader, wrong), Err(ClusterError::Corrupt { .. })));
    }
    assert_eq!(chain(&mut store), blocks, "nothing was trimmed");
    for _ in 0..2 {
        assert_eq!(store.trim(&leader, cut), Ok(()));
        assert_eq!(store.bounds(), Ok((cut, end)));
    }
    assert_eq!(store.trim(&leader, blocks[1].after()), Ok(()), "trimmed already");
    let compacted = Err(ClusterError::Compacted { first: cut.lsn.next() });
    assert_eq!(store.read(start, 8), compacted);
    assert_eq!(store.read(blocks[4].after(), 8), compacted);
    assert_eq!(store.read(cut, 8), Ok(blocks[6..].to_vec()));
    // All of it, and on from there. The last block is still known as added.
    assert_eq!(store.trim(&leader, end), Ok(()));
    assert_eq!(store.append(&leader, &blocks[9]), Ok(()));
    assert_eq!((store.bounds(), store.read(end, 8)), (Ok((end, end)), Ok(Vec::new())));
    assert_eq!(store.read(cut, 8), Err(ClusterError::Compacted { first: end.lsn.next() }));
    let more = append_some(&mut store, &leader, end, 2);
    assert_eq!(chain(&mut bed.handle(None)), more);
}

fn blocks_of_the_largest_size_fit(bed: &impl Bed) {
    let mut store = bed.handle(None);
    let (leader, mut at) = led(&mut store, 12);
    let mut blocks = Vec::new();
    for len in [LEDGER_BLOCK_BYTES_MAX, 1, LEDGER_BLOCK_BYTES_MAX] {
        let block = next_block(&leader, at, 1000, len);
        store.append(&leader, &block).expect("appended");
        at = block.after();
        blocks.push(block);
    }
    assert!(chain(&mut store) == blocks, "they come back whole");
    // etcd counts what it has written to its file, which it does up to 100 ms after its answer.
    wait_until("both blocks counted", || {
        store.room().expect("told").used_bytes > 2 * LEDGER_BLOCK_BYTES_MAX as u64
    });
}

fn another_clusters_keys_are_not_touched(bed: &impl Bed) {
    let mut store = bed.handle(None);
    let (leader, start) = led(&mut store, 13);
    let blocks = append_some(&mut store, &leader, start, 2);
    let (expected, found) = (record(14).id, record(13).id);
    let other = || ClusterError::OtherCluster { found, expected };
    let mut stranger = bed.handle(Some(expected));
    assert_eq!(stranger.cluster().map(drop), Err(other()));
    assert_eq!(stranger.leader().map(drop), Err(other()));
    assert_eq!(stranger.read(start, 8).map(drop), Err(other()));
    assert_eq!(stranger.bounds().map(drop), Err(other()));
    assert_eq!(stranger.seal(&leader).map(drop), Err(other()));
    assert_eq!(stranger.append(&leader, &next_block(&leader, blocks[1].after(), 1, 10)), Err(other()));
    assert_eq!(stranger.trim(&leader, blocks[0].after()), Err(other()));
    assert_eq!(stranger.swap(&leader, &candidate("x", 1)).map(drop), Err(other()));
    assert_eq!(chain(&mut store), blocks);
    assert_eq!(bed.handle(Some(found)).leader().expect("ours").0, leader);
}

fn nodes_come_and_go(bed: &impl Bed) {
    let (mut store, mut other) = (bed.handle(None), bed.handle(None));
    store.found(&record(15)).expect("made");
    let (a, b, twin) = (present("a", 1), present("b", 2), present("a", 3));
    assert_eq!(store.nodes(), Ok(Vec::new()));
    assert_eq!((store.announce(&a, 60), other.announce(&b, 60)), (Ok(()), Ok(())));
    assert_eq!(store.announce(&a, 60), Ok(()), "once more");
    assert_eq!(other.nodes(), Ok(vec![a.clone(), b.clone()]));
    let taken = ClusterError::NameTaken { node: a.node.clone(), address: a.address.clone() };
    assert_eq!(other.announce(&twin, 60), Err(taken));
    assert_eq!(other.depart(&twin), Ok(()), "it never was there");
    assert_eq!(store.node(&a.node), Ok(Some(a.clone())));
    // A node that says something new about itself.
    let newer = present("a", 1);
    let newer = stampede_persist::cluster::NodeRecord { version: "0.2.0".into(), ..newer };
    assert_eq!(store.announce(&newer, 60), Ok(()));
    assert_eq!(other.node(&a.node), Ok(Some(newer.clone())));
    assert_eq!((store.depart(&newer), other.node(&a.node)), (Ok(()), Ok(None)));
    assert_eq!(other.announce(&twin, 60), Ok(()), "the name is free");
    let nobody = NodeName::new("c").expect("a name");
    assert_eq!((other.nodes(), other.node(&nobody)), (Ok(vec![twin, b]), Ok(None)));
}

fn whoever_waits_sees_each_change(bed: &impl Bed) {
    let (mut store, mut waits) = (bed.handle(None), bed.handle(None));
    let (leader, start) = led(&mut store, 16);
    let (_, mut seen) = waits.leader().expect("told");
    let short = Duration::from_millis(20);
    assert_eq!(waits.wait(seen, short), Ok(seen), "nothing has changed");
    let mut at = start;
    type Change<'c, H> = &'c mut dyn FnMut(&mut H);
    let mut append = |store: &mut _| at = append_one(store, &leader, at);
    let mut announce = |store: &mut _| Registry::announce(store, &present("a", 1), 60).expect("announced");
    let mut depart = |store: &mut _| Registry::depart(store, &present("a", 1)).expect("departed");
    let mut swap = |store: &mut _| drop(lead(store, "second", 160));
    let changes: [Change<'_, _>; 4] = [&mut append, &mut announce, &mut depart, &mut swap];
    for change in changes {
        change(&mut store);
        let mut now = seen;
        wait_until("the change is seen", || {
            now = waits.wait(seen, short).expect("told");
            now > seen
        });
        seen = now;
        // Whatever came besides that one.
        wait_until("it is quiet", || {
            let now = waits.wait(seen, short).expect("told");
            std::mem::replace(&mut seen, now) == now
        });
    }
}

fn append_one(store: &mut impl Store, leader: &LeaderRecord, at: Position) -> Position {
    append_some(store, leader, at, 1)[0].after()
}

fn a_level_rises_once(bed: &impl Bed) {
    let mut store = bed.handle(None);
    let (leader, _) = led(&mut store, 17);
    assert_eq!(store.raise_level(&leader, 1, 2), Ok(true));
    assert_eq!(store.raise_level(&leader, 1, 2), Ok(true), "the same call again");
    assert_eq!(store.raise_level(&leader, 1, 3), Ok(false), "it is 2 now");
    assert_eq!(store.cluster(), Ok(ClusterRecord { level: 2, ..record(17) }));
}

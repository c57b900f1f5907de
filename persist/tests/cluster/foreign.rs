//! Values under our keys that nobody of ours has written: each is refused by name, and nothing is written over it.

use std::time::Duration;

use stampede_persist::cluster::{
    ClusterError, EtcdStore, LeaderRecord, Ledger as _, Position, Registry as _,
};

use crate::bed::{Bed as _, EtcdBed, append_some, chain, lead, led, next_block, present};

/// A cluster with blocks and a node, as a test finds it.
struct Shop {
    bed: EtcdBed,
    node: EtcdStore,
    leader: LeaderRecord,
    start: Position,
    blocks: Vec<stampede_persist::cluster::Block>,
}

fn shop(number: u8) -> Shop {
    let bed = EtcdBed::new();
    let mut node = bed.handle(None);
    let (leader, start) = led(&mut node, number);
    let blocks = append_some(&mut node, &leader, start, 4);
    node.announce(&present("a", 1), 600).expect("announced");
    Shop { bed, node, leader, start, blocks }
}

impl Shop {
    fn block_key(&self, at: usize) -> String {
        format!("block/0/{:016x}", self.blocks[at].first_lsn().0)
    }

    /// What becomes of a key's readers: the refusals, without the calls that do not look at it.
    fn refusals(&mut self, key: &str) -> Vec<Result<(), ClusterError>> {
        let Self { node, bed, leader, start, blocks } = self;
        let next = next_block(leader, blocks[3].after(), 1, 10);
        match key {
            "cluster" => vec![bed.handle(None).cluster().map(drop), bed.handle(None).leader().map(drop)],
            "leader/0" => vec![
                node.leader().map(drop),
                node.seal(leader).map(drop),
                node.append(leader, &next),
                node.trim(leader, blocks[0].after()),
                node.swap(leader, leader).map(drop),
            ],
            "tail/0" => vec![
                node.seal(leader).map(drop),
                node.bounds().map(drop),
                node.read(*start, 8).map(drop),
                node.append(leader, &next),
                node.trim(leader, blocks[0].after()),
            ],
            "node/a" => vec![
                node.nodes().map(drop),
                node.node(&present("a", 1).node).map(drop),
                node.announce(&present("a", 2), 60),
            ],
            _ => vec![node.read(*start, 8).map(drop)],
        }
    }
}

#[test]
fn a_value_that_is_not_ours_is_refused_by_name() {
    let (mut shop, other) = (shop(20), shop(21));
    let keys = ["cluster".to_owned(), "leader/0".into(), "tail/0".into(), "node/a".into(), shop.block_key(1)];
    for (at, key) in keys.iter().enumerate() {
        let good = shop.bed.get(key);
        let mut flipped = good.clone();
        flipped[20] ^= 0x10;
        let of_another_kind = shop.bed.get(&keys[(at + 1) % keys.len()]);
        let hostile = [
            Vec::new(),
            vec![0; 4],
            vec![0xFF; 300],
            good[..good.len() - 1].to_vec(),
            flipped,
            of_another_kind,
        ];
        for (n, value) in hostile.iter().enumerate() {
            shop.bed.put(key, value);
            for (which, told) in shop.refusals(key).into_iter().enumerate() {
                let is_named =
                    matches!(&told, Err(ClusterError::Corrupt { key: named, .. }) if named.ends_with(key));
                assert!(is_named, "{key}, value {n}, call {which}: {told:?}");
            }
            assert_eq!(shop.bed.get(key), *value, "nothing is written over it");
        }
        // Another cluster's, put into the place of ours: known by its identity where there is one to compare.
        if key != "cluster" {
            let other_key = if at == 4 { other.block_key(1) } else { key.clone() };
            shop.bed.put(key, &other.bed.get(&other_key));
            for told in shop.refusals(key) {
                assert!(matches!(told, Err(ClusterError::OtherCluster { .. })), "{key}: {told:?}");
            }
        }
        shop.bed.put(key, &good);
        assert_eq!(chain(&mut shop.node), shop.blocks, "{key}: as before");
    }
}

#[test]
fn keys_that_are_gone_are_not_made_again() {
    for key in ["leader/0", "tail/0"] {
        let mut shop = shop(22);
        shop.bed.delete(key);
        for told in shop.refusals(key) {
            assert!(matches!(told, Err(ClusterError::Corrupt { .. })), "{key}: {told:?}");
        }
        let again = shop.node.found(&crate::bed::record(22));
        assert!(!matches!(again, Ok(stampede_persist::cluster::Founded::Already(_))), "{key}: {again:?}");
        let told = shop.node.bounds().and_then(|_| shop.node.leader());
        assert!(told.is_err(), "{key}: {told:?}");
    }
}

#[test]
fn a_chain_with_a_gap_is_not_read_over() {
    let corrupt = |told: Result<_, ClusterError>| matches!(told, Err(ClusterError::Corrupt { .. }));
    let mut shop = shop(23);
    // A block is gone in the middle: seen from before it and from its very place.
    let (key, good) = (shop.block_key(2), shop.bed.get(&shop.block_key(2)));
    shop.bed.delete(&key);
    assert!(corrupt(shop.node.read(shop.start, 8)));
    assert!(corrupt(shop.node.read(shop.blocks[1].after(), 8)));
    assert!(corrupt(shop.node.trim(&shop.leader, shop.blocks[1].after()).map(|()| Vec::new())));
    // One that fits its hash and not its place.
    shop.bed.put(&key, &shop.bed.get(&shop.block_key(1)));
    assert!(corrupt(shop.node.read(shop.start, 8)));
    shop.bed.put(&key, &good);
    // The last one is gone; the end says more than there is.
    let (key, good) = (shop.block_key(3), shop.bed.get(&shop.block_key(3)));
    shop.bed.delete(&key);
    assert!(corrupt(shop.node.read(shop.start, 8)));
    shop.bed.put(&key, &good);
    // The end is an old one, as in an old backup: less than there is.
    let tail = shop.bed.get("tail/0");
    let block = next_block(&shop.leader, shop.blocks[3].after(), 1, 10);
    shop.node.append(&shop.leader, &block).expect("appended");
    shop.bed.put("tail/0", &tail);
    assert!(corrupt(shop.node.read(shop.start, 8)));
    let next = next_block(&shop.leader, block.after(), 1, 10);
    let told = shop.node.append(&shop.leader, &next);
    assert!(matches!(told, Err(ClusterError::WentBack { .. })), "{told:?}");
}

#[test]
fn an_epoch_handed_out_twice_has_one_leader() {
    // An old backup of the leader's key: the epoch after it is handed out a second time.
    let shop = shop(24);
    let backup = shop.bed.get("leader/0");
    let mut second = shop.bed.handle(None);
    let (was, at) = lead(&mut second, "second", 1);
    shop.bed.put("leader/0", &backup);
    let mut third = shop.bed.handle(None);
    let (now, _) = lead(&mut third, "second", 2);
    assert_eq!(now.epoch, was.epoch);
    let told = second.append(&was, &next_block(&was, at, 1, 10));
    assert!(matches!(told, Err(ClusterError::Fenced { .. })), "{told:?}");
    assert!(second.wait(stampede_persist::cluster::Seen(0), Duration::from_millis(10)).is_ok());
}

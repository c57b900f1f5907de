//! What one append to the ledger on etcd takes: one in flight, three sizes.
//!
//! `cargo bench -p stampede-persist --bench cluster_append -- [APPENDS] [URL...]`; 200 appends of each size, on three
//! members of its own, by default. Prints p50, p90 and p99 in milliseconds for each size. What is trimmed meanwhile is
//! not counted.

use std::time::Instant;

use stampede_core::types::Lsn;
use stampede_persist::cluster::{
    Block, ClusterId, ClusterName, ClusterRecord, Epoch, EtcdOptions, EtcdStore, Founded, LeaderRecord,
    Ledger as _, NodeName, Nonce, Registry as _, Swap,
};
use stampede_persist::log::identity::LogId;
use stampede_testkit::{EtcdCluster, EtcdClusterOptions};

fn percentile(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let appends: usize = args.next().map_or(200, |arg| arg.parse().expect("a number of appends"));
    let mut urls: Vec<String> = args.collect();
    let own = urls.is_empty().then(|| EtcdCluster::new(&EtcdClusterOptions::default()).expect("etcd"));
    if let Some(own) = &own {
        urls = own.endpoints();
    }
    let name = format!("bench-{}", std::process::id());
    let options = EtcdOptions::new(ClusterName::new(&name).expect("a name"), urls);
    let mut store = EtcdStore::new(&options).expect("options");
    let cluster = ClusterRecord { id: ClusterId([1; 16]), log_id: LogId([2; 16]), secret: [3; 32], level: 1 };
    assert_eq!(store.found(&cluster).expect("made"), Founded::Now);
    let node = Some(NodeName::new("bench").expect("a name"));
    let candidate = LeaderRecord { epoch: Epoch::NONE, node, address: String::new(), nonce: Nonce([4; 16]) };
    let Swap::Won(leader) = store.swap(&LeaderRecord::nobody(), &candidate).expect("swapped") else {
        panic!("it is new");
    };
    let mut at = store.seal(&leader).expect("sealed");
    for len in [4 << 10, 64 << 10, 256 << 10] {
        let mut took = Vec::with_capacity(appends);
        for n in 0..appends {
            // Bytes that nothing between here and the disk makes smaller.
            let mut draws = (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut byte = || {
                draws ^= draws << 13;
                draws ^= draws >> 7;
                draws ^= draws << 17;
                draws as u8
            };
            let bytes = (0..len).map(|_| byte()).collect();
            let block = Block::new(leader.epoch, at, Lsn(at.lsn.0 + 1), bytes).expect("a block");
            let begun = Instant::now();
            store.append(&leader, &block).expect("appended");
            took.push(begun.elapsed().as_secs_f64() * 1e3);
            at = block.after();
            if n % 50 == 49 {
                store.trim(&leader, at).expect("trimmed");
            }
        }
        took.sort_by(f64::total_cmp);
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|part| percentile(&took, part));
        println!("{:>4} KiB  p50 {p50:6.2} ms  p90 {p90:6.2}  p99 {p99:6.2}  ({appends} appends)", len >> 10);
    }
}

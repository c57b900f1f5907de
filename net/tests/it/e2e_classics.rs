//! The engine next to its rivals: as the last row of the comparison, and killed in mid-sale.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stampede_classic::Contender;
use stampede_classic::bench::{BenchConfig, bench};
use stampede_classic::kill::{Fault, KillConfig, kill};
use stampede_testkit::{Missing, Need, skip};

const STOCK: u64 = 300;
const REFUSALS: u64 = 600;

#[test]
fn e2e_the_engine_is_a_row_of_the_comparison() {
    let config = BenchConfig {
        program: Path::new("/nowhere").to_owned(),
        designs: Vec::new(),
        engine: Some(env!("CARGO_BIN_EXE_stampede").into()),
        stock: STOCK,
        refusals: REFUSALS,
        connections: 16,
        time_max: Duration::from_secs(60),
        pairs: 1,
        pool: 4,
        limit_per_s: 1,
        postgres: None,
        redis: None,
        redis_settings: Vec::new(),
        seed: 5,
        stop: Arc::default(),
    };
    let bench = bench(&config, &mut |words| eprintln!("{words}")).expect("a comparison");
    assert!(bench.troubles.is_empty(), "{:?}", bench.troubles);
    let [row] = &bench.rows[..] else { panic!("{:?}", bench.rows) };
    assert_eq!((row.orders, row.acked, row.oversold, row.undersold), (STOCK, STOCK, 0, 0), "{row:?}");
    assert_eq!((row.count, row.ended, &row.wrong), (0, true, &None), "{row:?}");
    assert!(row.winners_per_s.is_some() && row.cpu_s_per_1000_winners.is_some_and(|cpu_s| cpu_s > 0.0));
}

/// Like `stampede-classic kill` for all stores. A power cut needs root and a loop device; what this
/// machine cannot do is reported and never counted as passed.
#[test]
fn e2e_the_engine_killed_in_mid_sale_loses_nothing() {
    let config = KillConfig {
        program: Path::new("/nowhere").to_owned(),
        contenders: vec![Contender::Engine],
        faults: Fault::ALL.to_vec(),
        engine: Some(env!("CARGO_BIN_EXE_stampede").into()),
        stock: STOCK,
        per_s: 500.0,
        connections: 16,
        rounds: 1,
        pool: 1,
        redis_settings: Vec::new(),
        seed: 6,
        stop: Arc::default(),
    };
    let kills = kill(&config, &mut |words| eprintln!("{words}")).expect("a database");
    for trouble in &kills.troubles {
        assert!(trouble.contains("power cut"), "{trouble}");
        skip(&Missing::new(Need::FileSystems, trouble));
    }
    assert!(kills.hurts.iter().any(|hurt| hurt.fault == Fault::Kill));
    for hurt in &kills.hurts {
        let counted = &hurt.counted;
        assert_eq!((counted.acked, counted.orders, counted.left), (STOCK, STOCK, 0), "{hurt:?}");
        assert_eq!((counted.lost, counted.oversold, counted.undersold), (0, 0, 0), "{hurt:?}");
        assert_eq!((counted.over_cap, counted.changed, counted.unknown), (0, 0, 0), "{hurt:?}");
    }
}

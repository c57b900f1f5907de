//! The engine as the last row of the load generator's comparison with the classic designs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stampede_classic::bench::{BenchConfig, bench};

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

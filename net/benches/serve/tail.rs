//! Row 4: p99 in the open loop at 70 % of the own peak, sold-out answer beside the limit.

use crate::cost::Pair;
use crate::server::{Flags, ServerProcess};
use crate::table::{Table, median, number};
use crate::{Bench, SOLD_OUT, ratios};

const SHARE_OF_PEAK: f64 = 0.7;

/// Adds the row. The peak of each is what it answers in the closed loop; where the generator is the
/// slower side, that is the peak of the two together, which the row then says.
pub(crate) fn p99_of_own_peak(bench: &Bench, table: &mut Table) {
    let server = ServerProcess::start(bench, &Flags::default());
    let pair = Pair::new(bench, &server, SOLD_OUT, true);
    let peaks = bench
        .rounds(["server/s", "bare/s"], || [pair.ours(|leg| leg).1.per_s(), pair.limit(|leg| leg).1.per_s()]);
    let rate = |side: usize| SHARE_OF_PEAK * median(peaks.iter().map(|round| round[side]));
    let (ours_rate, limit_rate) = (rate(0), rate(1));
    println!("open loop: server {}/s, bare {}/s", number(ours_rate), number(limit_rate));
    let columns = ["server p99 µs", "bare p99 µs", "generator late", "late with bare"];
    let rounds = bench.rounds(columns, || {
        let ours = pair.ours(|leg| leg.at_rate(ours_rate)).1;
        let limit = pair.limit(|leg| leg.at_rate(limit_rate)).1;
        [ours.latency_us(0.99), limit.latency_us(0.99), ours.lag_us(), limit.lag_us()]
    });
    let p99s: Vec<[f64; 2]> = rounds.iter().map(|round| [round[0], round[1]]).collect();
    let late = median(rounds.iter().map(|round| round[2].max(round[3])));
    table.add("4", ratios(&p99s));
    table.note(format!(
        "Row 4: at {} and {} a second; the generator's own p99 of lateness was {} µs.",
        number(ours_rate),
        number(limit_rate),
        number(late)
    ));
}

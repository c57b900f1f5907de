//! Row 7: system calls per request, all threads of the server, at 256 connections.

use crate::cost::Pair;
use crate::load::Serving;
use crate::perf::SystemCalls;
use crate::server::{Flags, ServerProcess};
use crate::table::Table;
use crate::{Bench, PLENTY, SOLD_OUT};

const CONNECTIONS: u32 = 256;

/// Adds the row, and beside it what the limit makes.
pub(crate) fn per_request(bench: &Bench, table: &mut Table) {
    let server = ServerProcess::start(bench, &Flags::default());
    let figures = [("7.refused", SOLD_OUT), ("7.sold", PLENTY)];
    for (key, item) in figures {
        let pair = Pair::new(bench, &server, item, true);
        let counters =
            SystemCalls::of(server.pid()).and_then(|ours| Ok((ours, SystemCalls::of(pair.bare.pid())?)));
        let (mut ours, mut limit) = match counters {
            Ok(counters) => counters,
            Err(why) => {
                table.add_not_measured(key, &why);
                continue;
            }
        };
        let rounds = bench.rounds(["server", "bare"], || {
            let before = [ours.so_far(), limit.so_far()];
            let ran = [pair.ours(|leg| leg.over(CONNECTIONS)).1, pair.limit(|leg| leg.over(CONNECTIONS)).1];
            let after = [ours.so_far(), limit.so_far()];
            std::array::from_fn(|side| (after[side] - before[side]) as f64 / ran[side].answers() as f64)
        });
        table.add(key, rounds.iter().map(|round| round[0]).collect());
    }
}

//! Every figure that a bench measures: its key, its words, its unit, its target.
//!
//! Benches and docs take the words from here, so that they cannot differ. A target is a ratio of two things that
//! ran side by side, or a count per request: a rate alone says more about the machine than about the program.

/// What a figure has to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
    /// Nothing per request: fewer than one in [`NOTHING_PER`] requests, which is what comes with tables that grow in
    /// chunks and with the clock.
    Nothing,
    /// For information.
    None,
}

/// See [`Goal::Nothing`].
const NOTHING_PER: f64 = 1_000.0;

impl Goal {
    /// The target in words.
    #[must_use]
    pub fn words(self) -> String {
        let limit = |limit: f64| (limit * 100.0).round() / 100.0;
        match self {
            Self::AtMost(most) => format!("≤ {}", limit(most)),
            Self::AtLeast(least) => format!("≥ {}", limit(least)),
            Self::Nothing => "0".to_owned(),
            Self::None => "-".to_owned(),
        }
    }

    /// Whether a figure reaches it, in words; empty if there is no target.
    #[must_use]
    pub fn verdict(self, measured: f64) -> &'static str {
        let met = match self {
            Self::AtMost(most) => measured <= most,
            Self::AtLeast(least) => measured >= least,
            Self::Nothing => measured < 1.0 / NOTHING_PER,
            Self::None => return "",
        };
        if met { "met" } else { "**missed**" }
    }
}

/// A figure of a bench.
#[derive(Debug, PartialEq)]
pub struct Figure {
    /// What it is found by, within its bench. What stands before the first dot is its row.
    pub key: &'static str,
    /// What it says.
    pub name: &'static str,
    /// The unit of its values.
    pub unit: &'static str,
    /// What it has to reach.
    pub goal: Goal,
}

impl Figure {
    /// The row that it belongs to: `10` of `10.won.json`.
    #[must_use]
    pub fn row(&self) -> &'static str {
        self.key.split('.').next().unwrap_or(self.key)
    }
}

const fn at_most(key: &'static str, most: f64, name: &'static str) -> Figure {
    Figure { key, name, unit: RATIO, goal: Goal::AtMost(most) }
}
const fn at_least(key: &'static str, least: f64, name: &'static str) -> Figure {
    Figure { key, name, unit: RATIO, goal: Goal::AtLeast(least) }
}
const fn nothing(key: &'static str, name: &'static str) -> Figure {
    Figure { key, name, unit: "per request", goal: Goal::Nothing }
}
const fn plain(key: &'static str, unit: &'static str, name: &'static str) -> Figure {
    Figure { key, name, unit, goal: Goal::None }
}

/// The unit of a figure that is divided by another.
pub const RATIO: &str = "ratio";

/// `cargo bench -p stampede-net --bench serve`: the engine beside the limit.
pub const SERVE: &[Figure] = &[
    at_most("1", 1.1, "sold-out answer ÷ bare, CPU, keep-alive"),
    plain("1.cpu", "µs", "CPU of a sold-out answer"),
    plain("1.bare.cpu", "µs", "CPU of bare's answer"),
    plain("1.rate", "1/s", "sold-out answers, one core"),
    plain("1.bare.rate", "1/s", "bare's answers, one core"),
    at_most("2", 1.4, "the same, 16 requests pipelined"),
    plain("2.cpu", "µs", "CPU of a sold-out answer, 16 requests pipelined"),
    plain("2.rate", "1/s", "sold-out answers, one core, 16 requests pipelined"),
    at_most("3", 1.6, "durable purchase ÷ bare, CPU, closed loop"),
    plain("3.cpu", "µs", "CPU of a durable purchase, closed loop"),
    plain("3.rate", "1/s", "durable purchases, one core"),
    plain("3.open", RATIO, "durable purchase ÷ bare, CPU, open loop at half of the closed loop's rate"),
    plain("3.open.cpu", "µs", "CPU of a durable purchase, open loop"),
    at_most("4", 1.3, "p99 at 70 % of the own peak ÷ bare's"),
    at_least("5", 0.9, "durable purchases ÷ memory-acked, a second, 64 connections"),
    plain("5.256", RATIO, "the same over 256 connections"),
    at_most("6", 1.5, "p50 added by durability ÷ one raw synced append"),
    at_most("6.p99", 3.0, "p99 added by durability ÷ one raw synced append"),
    Figure {
        unit: "per request",
        ..at_most("7.refused", 0.3, "system calls per sold-out answer, 256 connections")
    },
    Figure {
        unit: "per request",
        ..at_most("7.sold", 0.3, "system calls per durable purchase, 256 connections")
    },
    nothing("8.refused", "heap allocations per sold-out answer"),
    nothing("8.sold", "heap allocations per durable purchase"),
    at_least("9", 0.95, "one hot item ÷ uniform over 100,000 items, purchases a second"),
    at_least(
        "10.won",
        6.0,
        "durable winners a second in batches of 8,192, binary ÷ bare's requests a second",
    ),
    plain("10.won.rate", "1/s", "durable winners in batches of 8,192, binary"),
    at_least("10.won.json", 0.5, "JSON lines ÷ binary: winners"),
    at_least("10.refused", 25.0, "answers a second when nearly all are sold out ÷ bare's requests a second"),
    plain("10.refused.rate", "1/s", "answers in batches when nearly all are sold out, binary"),
    at_least("10.refused.json", 0.5, "JSON lines ÷ binary: sold out"),
    at_least("10.held", 2.5, "hold-and-pay pairs a second ÷ bare's requests a second"),
    plain("10.held.rate", "1/s", "hold-and-pay pairs in batches, binary"),
    at_least("10.held.json", 0.5, "JSON lines ÷ binary: hold and pay"),
    Figure {
        unit: "bytes",
        ..at_most("11", 512.0, "user memory per idle connection that was served once, bytes")
    },
    at_most(
        "11.p99",
        1.0,
        "growth of p99 from 64 to 15,000 connections ÷ (1 + that of bare), 30,000 a second",
    ),
    at_most("12", 1.15, "short connections ÷ bare, CPU, 64 at a time, sold out"),
    at_least("13", 0.85, "drain to Postgres ÷ raw binary COPY into the same table, rows a second"),
    plain("13.rate", "1/s", "rows drained to Postgres"),
    plain("13.copy", "1/s", "rows by raw binary COPY"),
    at_least("F4", 0.3, "drain while 5,000 a second are sold ÷ raw COPY"),
    at_least("F5", 6.0, "orders a second replayed into the shards of two cores ÷ bare's requests a second"),
    plain("F5.rate", "1/s", "orders replayed into the shards of two cores"),
    at_most("F7.not-open", 1.2, "not open ÷ sold out, CPU"),
    at_most("F7.ended", 1.2, "ended ÷ sold out, CPU"),
    at_most("F7.paused", 1.2, "paused ÷ sold out, CPU"),
    at_most("F7.not-eligible", 1.2, "not eligible ÷ sold out, CPU"),
    at_most("F7.item-rate", 1.2, "rate of the item ÷ sold out, CPU"),
    at_most("F7.buyer-rate", 1.2, "rate of a buyer ÷ sold out, CPU"),
    at_most("F7.address-rate", 1.2, "rate of an address ÷ sold out, CPU"),
    at_most("F7.no-ticket", 1.2, "no ticket ÷ sold out, CPU"),
    at_most("F7.forged-ticket", 1.2, "forged ticket ÷ sold out, CPU"),
    at_most("F7.good-ticket", 1.2, "sold out with a good ticket ÷ sold out, CPU"),
    at_most("F8", 1.1, "sold out: a token seen before ÷ header, CPU"),
    at_most("F8.proxy", 1.15, "the same, 8 buyers over one connection"),
];

/// `cargo bench -p stampede-core`: the verbs of the core, alone.
pub const CORE: &[Figure] = &[
    plain("decide.hot", "ns", "`decide` of a purchase, one hot item"),
    plain("decide.hot.ahead", "ns", "the same, looked ahead in batches of 64"),
    plain("decide.many", "ns", "`decide` of a purchase over 100,000 items"),
    plain("decide.many.ahead", "ns", "the same, looked ahead in batches of 64"),
    plain("admit.hot", "ns", "`admit`: sold out, one hot item"),
    plain("admit.many", "ns", "`admit`: sold out, over 100,000 items"),
    plain("apply.hot", "ns", "replay of an order, one hot item"),
    plain("apply.many", "ns", "replay of an order, over 100,000 items"),
    plain("draw", "ns", "a draw, per entry"),
    plain("draw.tick", "ns", "the longest tick of a draw"),
];

/// `cargo bench -p stampede-persist --bench primitives`: the parts of the log and of a hop, alone.
pub const PRIMITIVES: &[Figure] = &[
    plain("append", "ns", "append to the journal's queue, fact encoded"),
    plain("block.4096", "ns", "journal: one fact into a full block, CRC and chain"),
    plain("block.16", "ns", "the same, 16 facts in the block"),
    plain("block.1", "ns", "the same, alone in its block"),
    plain("bytes", "bytes", "bytes per order in the log, in a full block"),
    plain("crc", "GB/s", "CRC-32C"),
    plain("sha", "GB/s", "SHA-256, the chain"),
    plain("line", "ns", "a cache line to the other core and back"),
    plain("hop", "ns", "a question and its reply over two rings, both cores awake, in batches of 64"),
    plain("hop.1", "ns", "the same one by one"),
    plain("sync.4", "µs", "synced write of 4 KiB into a zero-filled file"),
    plain("sync.16", "µs", "the same, 16 KiB"),
    plain("sync.64", "µs", "the same, 64 KiB"),
    plain("sync.256", "µs", "the same, 256 KiB"),
    plain("sync.1024", "µs", "the same, 1 MiB"),
    plain("sync.4096", "µs", "the same, 4 MiB"),
];

/// `cargo bench -p stampede-persist --bench log_speed`.
pub const LOG_SPEED: &[Figure] = &[
    plain("write", "1/s", "the log alone, one producer: orders queued to synced"),
    plain("tail", "1/s", "orders read by a tail"),
    plain("recover", "1/s", "orders recovered"),
];

/// `cargo bench -p stampede-persist --bench export_drain`.
pub const EXPORT_DRAIN: &[Figure] = &[
    at_least("drain", 0.6, "exporter alone ÷ raw COPY, rows a second"),
    plain("drain.rate", "1/s", "rows by the exporter alone"),
    plain("copy.rate", "1/s", "rows by raw COPY"),
];

/// `cargo bench -p stampede-loadgen --bench generator`: the load generator beside the field's.
pub const GENERATOR: &[Figure] = &[
    at_least("G1", 1.2, "requests per CPU second ÷ wrk's, 64 connections, closed loop"),
    at_most("G2", 0.1, "a server with a known delay: largest error of p50 to p99, share of the truth"),
    at_most("G3", 0.1, "the same with a stall in each second"),
];

macro_rules! designs {
    ($make:ident) => {
        $make!(
            "naive",
            "pessimistic",
            "optimistic",
            "limited",
            "limited-local",
            "cached-delete",
            "cached-update",
            "row-lock",
            "redis-lua",
            "redis-lua-always",
            "nginx-lua",
            "stampede"
        )
    };
}
macro_rules! sales {
    ($($design:literal),*) => { &[$(
        plain(concat!($design, ".winners"), "1/s", "sales"),
        plain(concat!($design, ".refusals"), "1/s", "refusals after the sale"),
        plain(concat!($design, ".p50"), "ms", "p50 of all responses of the sale"),
        plain(concat!($design, ".p99"), "ms", "p99 of all responses of the sale"),
        plain(concat!($design, ".p999"), "ms", "p99.9 of all responses of the sale"),
        plain(concat!($design, ".won.p50"), "ms", "p50 of the winners"),
        plain(concat!($design, ".won.p99"), "ms", "p99 of the winners"),
        plain(concat!($design, ".oversold"), "orders", "sold beyond the stock"),
        plain(concat!($design, ".undersold"), "units", "left although buyers were told that it is sold out"),
        plain(concat!($design, ".statements"), "per order", "statements to Postgres"),
        plain(concat!($design, ".commits"), "per order", "transactions of Postgres"),
        plain(concat!($design, ".cpu"), "ms", "CPU of the whole service per order"),
        plain(concat!($design, ".refused.cpu"), "ms", "CPU of the whole service per refusal"),
        plain(concat!($design, ".purchases"), "requests", "purchases until the item was sold out"),
        plain(concat!($design, ".won"), "orders", "orders until the item was sold out"),
        plain(concat!($design, ".conflicts"), "requests", "purchases that met a newer version"),
        plain(concat!($design, ".limited"), "requests", "purchases that the rate limiter refused"),
        plain(concat!($design, ".hits"), "lookups", "lookups that the cache answered"),
        plain(concat!($design, ".misses"), "lookups", "lookups that went to the database"),
        plain(concat!($design, ".stale"), "lookups", "hits whose version the database no longer had"),
    )*] };
}
macro_rules! losses {
    ($($design:literal),*) => { &[$(
        plain(concat!($design, ".kill.acked"), "orders", "orders that buyers were told of"),
        plain(concat!($design, ".kill.lost"), "orders", "acknowledged orders that a kill -9 of the store lost"),
        plain(concat!($design, ".kill.oversold"), "orders", "units sold beyond the stock after a kill -9 of the store"),
        plain(concat!($design, ".kill.undersold"), "units", "units gone without an order after a kill -9 of the store"),
        plain(concat!($design, ".kill.over-cap"), "buyers", "buyers with more than one unit after a kill -9 of the store"),
        plain(concat!($design, ".kill.two-orders"), "keys", "keys that named two orders after a kill -9 of the store"),
        plain(concat!($design, ".kill.unknown"), "requests", "purchases that nobody could decide"),
        plain(concat!($design, ".kill.away"), "s", "time until the store was ready after a kill -9 of the store"),
        plain(concat!($design, ".power-cut.acked"), "orders", "orders that buyers were told of"),
        plain(concat!($design, ".power-cut.lost"), "orders", "acknowledged orders that a power cut lost"),
        plain(concat!($design, ".power-cut.oversold"), "orders", "units sold beyond the stock after a power cut"),
        plain(concat!($design, ".power-cut.undersold"), "units", "units gone without an order after a power cut"),
        plain(concat!($design, ".power-cut.over-cap"), "buyers", "buyers with more than one unit after a power cut"),
        plain(concat!($design, ".power-cut.two-orders"), "keys", "keys that named two orders after a power cut"),
        plain(concat!($design, ".power-cut.unknown"), "requests", "purchases that nobody could decide"),
        plain(concat!($design, ".power-cut.away"), "s", "time until the store was ready after a power cut"),
    )*] };
}

/// `stampede-classic`: the designs of the field beside the engine.
pub const CLASSIC: &[Figure] = designs!(sales);

/// `stampede-classic kill`: what each of them loses.
pub const KILL: &[Figure] = designs!(losses);

/// All figures of a bench; none if the bench is not known.
#[must_use]
pub fn of(bench: &str) -> &'static [Figure] {
    match bench {
        "serve" => SERVE,
        "core" => CORE,
        "primitives" => PRIMITIVES,
        "log_speed" => LOG_SPEED,
        "export_drain" => EXPORT_DRAIN,
        "generator" => GENERATOR,
        "classic" => CLASSIC,
        "kill" => KILL,
        _ => &[],
    }
}

/// A figure by its key.
#[must_use]
pub fn find(bench: &str, key: &str) -> Option<&'static Figure> {
    of(bench).iter().find(|figure| figure.key == key)
}

/// A figure that there is.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn figure(bench: &str, key: &str) -> &'static Figure {
    find(bench, key).unwrap_or_else(|| panic!("the bench {bench} has no figure {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 8] =
        ["serve", "core", "primitives", "log_speed", "export_drain", "generator", "classic", "kill"];

    #[test]
    fn no_key_stands_twice() {
        for bench in ALL {
            let mut keys: Vec<_> = of(bench).iter().map(|figure| figure.key).collect();
            assert!(!keys.is_empty(), "{bench}");
            keys.sort_unstable();
            keys.windows(2).for_each(|pair| assert_ne!(pair[0], pair[1], "{bench}"));
        }
    }

    /// A rate, a time or a throughput alone is the machine's.
    #[test]
    fn targets_are_ratios_or_counts() {
        for figure in ALL.iter().flat_map(|bench| of(bench)).filter(|figure| figure.goal != Goal::None) {
            let allowed = [RATIO, "per request", "bytes"];
            assert!(allowed.contains(&figure.unit), "{} has a target in {}", figure.key, figure.unit);
        }
    }

    #[test]
    fn a_verdict_is_on_the_right_side() {
        assert_eq!(Goal::AtMost(1.1).verdict(1.1), "met");
        assert_eq!(Goal::AtMost(1.1).verdict(1.11), "**missed**");
        assert_eq!(Goal::AtLeast(0.9).verdict(0.9), "met");
        assert_eq!(Goal::AtLeast(0.9).verdict(0.89), "**missed**");
        assert_eq!((Goal::Nothing.verdict(0.000_9), Goal::Nothing.verdict(0.001)), ("met", "**missed**"));
        assert_eq!(Goal::None.verdict(1.0), "");
    }
}

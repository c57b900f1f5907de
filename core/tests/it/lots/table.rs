//! What lots cost and what they would buy, in numbers: printed by
//! `cargo test -p stampede-core lots_cost -- --nocapture`, and held to bounds.
//!
//! A sale without a merchant: every core gets its demand in batches, all messages of a round
//! arrive in the next one. The figures are counts, not times, so they are the same on every machine.

use super::facts::Fact;
use super::holder::Purchase;
use super::system::{Counts, Keeping, System};

/// Purchases that may wait at one core.
const PARKED_MAX: usize = 128;
/// Purchases that one core gets in a round, at most.
const BATCH: u64 = 64;

/// How demand is spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Demand {
    /// Buyers are hashed to cores: every core gets the same.
    Spread,
    /// One core gets everything.
    OneCore,
    /// One core after the other gets a burst of many batches: what was leased to the last one
    /// has to be called in.
    Tour,
}

/// What a sale came to.
struct Cost {
    sold: u64,
    counts: Counts,
    rounds: u64,
}

/// Sells everything to units of one, then some more.
fn sell_out(cores: usize, stock: u64, demand: Demand, keeping: Keeping) -> Cost {
    let mut system = System::new(cores, stock, PARKED_MAX, keeping, None);
    let (mut id, mut rounds) = (0, 0);
    while !system.bus.board.is_sold_out() {
        rounds += 1;
        for core in 0..cores {
            let tour = (rounds / 20) as usize % cores;
            let served = match demand {
                Demand::Spread => true,
                Demand::OneCore => core == cores - 1,
                Demand::Tour => core == tour,
            };
            for _ in 0..if served { BATCH } else { 0 } {
                id += 1;
                system.buy(core, Purchase { id, units: 1 });
            }
        }
        system.deliver_round();
        system.bus.answers.clear();
    }
    while system.letters() > 0 {
        system.deliver_round();
    }
    let sold = system.bus.log.iter().filter(|fact| matches!(fact, Fact::Sold { .. })).count() as u64;
    assert_eq!((sold, system.units(), system.is_at_rest()), (stock, 0, true), "everything is sold");
    Cost { sold, counts: system.bus.counts, rounds }
}

/// The most messages that a sale without a merchant may take, see docs/CAPACITY.md: while the
/// pool is large a grant is 1/2n of it; a collect finds at most 5/8 of what the one before left,
/// and costs two messages per core; the last 2n units may be asked for one by one.
fn messages_max(cores: usize, stock: u64) -> f64 {
    let (n, stock) = (cores as f64, stock as f64);
    let halvings = (stock / (2.0 * n)).max(1.0).ln();
    let collects = halvings / 1.6_f64.ln() + 3.0;
    let asks_per_collect = 2.0 * n * (halvings + 1.0) + 2.0 * n;
    2.0 * (collects * (asks_per_collect + n) + 2.0 * n)
}

/// The table of messages; asserts the bounds.
pub(crate) fn print_costs(keepings: &[Keeping]) {
    println!(
        "{:>8} {:>5} {:>10} {:>9} {:>8} {:>10} {:>8} {:>12} {:>12}",
        "stock", "cores", "demand", "messages", "of max", "/1000 sold", "collects", "lease facts", "rounds"
    );
    for stock in [1_000, 100_000, 1_000_000] {
        for cores in [1, 2, 7, 16, 64] {
            for demand in [Demand::Spread, Demand::OneCore, Demand::Tour] {
                let [cost, logged] = [keepings[0], keepings[1]].map(|k| sell_out(cores, stock, demand, k));
                let (counts, max) = (cost.counts, messages_max(cores, stock));
                let of_max = counts.messages as f64 / max;
                println!(
                    "{stock:>8} {cores:>5} {:>10} {:>9} {of_max:>8.2} {:>10.2} {:>8} {:>12} {:>12}",
                    format!("{demand:?}"),
                    counts.messages,
                    1_000.0 * counts.messages as f64 / cost.sold as f64,
                    counts.collects,
                    logged.counts.leases_logged,
                    cost.rounds,
                );
                assert!(of_max <= 1.0, "{} messages, at most {max} were promised", counts.messages);
            }
        }
    }
}

/// Prices of docs/CAPACITY.md ("The prices"), in nanoseconds: of the owner, of its end of a
/// hop, of the journal's thread; and purchases per second that homes can put in, per core.
struct Prices {
    decide: f64,
    hop: f64,
    journal: f64,
    home_per_s: f64,
}

const PRICES: Prices = Prices { decide: 500.0, hop: 80.0, journal: 90.0, home_per_s: 40_000.0 };
const NS_PER_S: f64 = 1e9;

/// What one hot item gives, by the model of docs/CAPACITY.md: the least of what homes can ask,
/// owners decide and the journal write. The messages of lots are those counted above.
pub(crate) fn print_throughput() {
    const STOCK: u64 = 1_000_000;
    println!("one hot item, millions of purchases/s by the model; * is what limits");
    println!("{:>5} {:>8} {:>10} {:>10} {:>9}", "cores", "homes", "one owner", "in lots", "journal");
    for cores in [1, 2, 7, 16, 64] {
        let cost = sell_out(cores, STOCK, Demand::Spread, Keeping::Volatile);
        let (n, journal) = (cores as f64, NS_PER_S / PRICES.journal);
        let homes = n * PRICES.home_per_s;
        let per_sale = cost.counts.messages as f64 / cost.sold as f64;
        let owner = NS_PER_S / (PRICES.decide + PRICES.hop);
        let lots = n * NS_PER_S / (PRICES.decide + PRICES.hop * (1.0 + per_sale));
        let least = homes.min(lots).min(journal);
        let mark = |rate: f64| format!("{:.2}{}", rate / 1e6, if rate <= least { "*" } else { "" });
        println!("{cores:>5} {:>8} {:>10} {:>10} {:>9}", mark(homes), mark(owner), mark(lots), mark(journal));
        assert!(lots >= 0.99 * n * owner, "messages are no part of what lots cost: {per_sale} a sale");
    }
}

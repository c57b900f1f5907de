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

/// Prices out of the tables of docs/CAPACITY.md, in nanoseconds.
struct Prices {
    /// What the owner pays for a purchase: decision, append, its end of the hop.
    owner: f64,
    /// What the home pays for it: the way in and out of the kernel, parsing, the answer.
    home: f64,
    /// What the journal's thread pays for a fact in the largest group, its share of the sync included.
    journal: f64,
    /// One message of lots, on either side.
    message: f64,
}

const PRICES: Prices = Prices { owner: 270.0, home: 7_800.0, journal: 110.0, message: 70.0 };
const NS_PER_S: f64 = 1e9;

/// What one hot item gives by the model of docs/CAPACITY.md, with an owner that serves its share
/// of the connections, with one that serves none, and in lots. The messages of lots are counted.
pub(crate) fn print_throughput() {
    const STOCK: u64 = 1_000_000;
    let Prices { owner, home, journal, message } = PRICES;
    println!("one hot item, thousands of purchases/s by the model; a home pays {home} ns for one");
    println!(
        "{:>5} {:>9} {:>14} {:>8} {:>7} {:>9}",
        "cores", "one owner", "owner alone", "in lots", "gain", "messages"
    );
    for cores in [1, 2, 7, 16, 64] {
        let cost = sell_out(cores, STOCK, Demand::Spread, Keeping::Volatile);
        let (n, most) = (cores as f64, NS_PER_S / journal);
        let per_sale = cost.counts.messages as f64 / cost.sold as f64;
        let one = (NS_PER_S / (owner + home / n)).min(most);
        // An owner that serves no connection of its own leaves them to the others.
        let alone = (NS_PER_S / owner).min((n - 1.0) * NS_PER_S / home).min(most);
        let lots = (n * NS_PER_S / (owner + home + per_sale * message)).min(most);
        let [one_k, alone_k, lots_k] = [one, alone, lots].map(|rate| rate / 1e3);
        println!(
            "{cores:>5} {one_k:>9.0} {alone_k:>14.0} {lots_k:>8.0} {:>7.2} {per_sale:>9.4}",
            lots / one.max(alone)
        );
        assert!(
            per_sale * message < 0.01 * owner,
            "messages are no part of what lots cost: {per_sale} a sale"
        );
    }
}

//! docs/CAPACITY.md: prices as they were measured, and what they make of a machine, by the formulas of that page.
//!
//! Every sum takes the medians of all runs. Nothing here is measured on more than two cores.

use std::fmt::Write as _;

use super::{count, rounded, short, table};
use crate::series::{Records, Spread};

/// Facts that may wait for the journal: `JOURNAL_SLOTS` less the owners' reserve.
const QUEUE_FACTS: f64 = 24_576.0;
/// Questions that an owner takes from a ring in one turn.
const OWNER_BATCH: f64 = 128.0;
/// The least that the log writes for a group, and its budget on the disk.
const GROUP_BYTES_MIN: f64 = 4_096.0;
const LOG_BYTES: f64 = (8_u64 << 30) as f64;
/// Bytes of the wire's payload: a purchase, a sold-out answer, an order, a token; packets' own bytes; payload of a packet.
const PURCHASE: f64 = 191.0;
const SOLD_OUT: f64 = 174.0;
const ORDER: f64 = 272.0;
const TOKEN: f64 = 180.0;
const PACKET: f64 = 90.0;
const SEGMENT: f64 = 1_448.0;

/// A price that no run has measured.
struct Missing(String);

type Rendered = Result<String, Missing>;

/// Prices by the names of the page.
struct Prices<'a>(&'a Records);

impl Prices<'_> {
    fn spread(&self, bench: &str, key: &str) -> Result<Spread, Missing> {
        self.0.spread(bench, key).ok_or_else(|| Missing(format!("{bench} {key}")))
    }
    fn of(&self, bench: &str, key: &str) -> Result<f64, Missing> {
        self.spread(bench, key).map(|spread| spread.median)
    }
    /// Seconds of CPU of a sold-out answer.
    fn refusal(&self) -> Result<f64, Missing> {
        Ok(self.of("serve", "1.cpu")? / 1e6)
    }
    /// Seconds of CPU of a durable purchase.
    fn purchase(&self) -> Result<f64, Missing> {
        Ok(self.of("serve", "3.cpu")? / 1e6)
    }
    /// Seconds that an owner spends on one purchase of a hot item.
    fn owner(&self) -> Result<f64, Missing> {
        let ns = self.of("core", "decide.hot")?
            + self.of("primitives", "append")?
            + self.of("primitives", "hop")?;
        Ok(ns / 1e9)
    }
    /// Purchases of one hot item by so many cores, whose owner serves connections, too.
    fn hot(&self, cores: f64) -> Result<f64, Missing> {
        Ok(1.0 / (self.owner()? + self.purchase()? / cores))
    }
    /// The same with an owner that serves none.
    fn hot_alone(&self, cores: f64) -> Result<f64, Missing> {
        Ok((1.0 / self.owner()?).min((cores - 1.0) / self.purchase()?))
    }
    /// Seconds that the journal needs to put one fact into a full block.
    fn block(&self) -> Result<f64, Missing> {
        Ok(self.of("primitives", "block.4096")? / 1e9)
    }
    /// Seconds of a synced write: straight lines between the sizes that were measured.
    fn sync(&self, bytes: f64) -> Result<f64, Missing> {
        let mut points = Vec::new();
        for kib in [4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0] {
            points.push((kib * 1_024.0, self.of("primitives", &format!("sync.{kib}"))? / 1e6));
        }
        let above = points.iter().position(|&(size, _)| bytes <= size).unwrap_or(points.len() - 1).max(1);
        let ((from, least), (to, most)) = (points[above - 1], points[above]);
        Ok(least + (most - least) * ((bytes - from) / (to - from)).max(0.0))
    }
    /// Facts of a group at this rate, and how long it takes, once both have settled.
    fn group(&self, per_s: f64) -> Result<(f64, f64), Missing> {
        let (block, bytes) = (self.block()?, self.of("primitives", "bytes")?);
        let (mut facts, mut took) = (1.0_f64, 0.0);
        for _ in 0..1_000 {
            took = facts * block + self.sync(facts * bytes)?;
            facts = (per_s * took).clamp(1.0, QUEUE_FACTS);
        }
        Ok((facts, took))
    }
    /// Facts a second when the queue is written as one group.
    fn journal_end(&self) -> Result<f64, Missing> {
        let bytes = self.of("primitives", "bytes")?;
        Ok(QUEUE_FACTS / (QUEUE_FACTS * self.block()? + self.sync(QUEUE_FACTS * bytes)?))
    }
    /// Rows a second into Postgres: the least and the most.
    fn postgres(&self) -> Result<[f64; 2], Missing> {
        let (share, copy) = (self.of("serve", "13")?, self.spread("serve", "13.copy")?);
        Ok([share * copy.low, share * copy.high])
    }
}

/// A block of the page by its name; a price that is missing is said in its place.
pub(crate) fn block(records: &Records, name: &str) -> Option<String> {
    let prices = Prices(records);
    let rendered = match name {
        "transport" => transport(&prices),
        "prices" => price_list(&prices),
        "cores" => cores(&prices),
        "hot-item" => hot_item(&prices),
        "journal" => journal(&prices),
        "postgres" => postgres(&prices),
        "network" => Ok(network()),
        "first" => first(&prices),
        _ => return None,
    };
    Some(rendered.unwrap_or_else(|Missing(what)| format!("Not computed: no run has measured {what}.\n")))
}

/// `9.1 million`, in italics: it was computed.
fn sum(value: f64) -> String {
    format!("*{}*", rounded(value))
}

fn transport(prices: &Prices<'_>) -> Rendered {
    let bold = |bench: &str, key: &str| -> Rendered {
        let spread = prices.spread(bench, key)?;
        let range = if spread.low == spread.high {
            String::new()
        } else {
            format!(" ({}–{})", short(spread.low), short(spread.high))
        };
        Ok(format!("**{}**{range}", short(spread.median)))
    };
    let rows = [
        ["`R`", "sold-out answer, keep-alive, µs of CPU", &bold("serve", "1.cpu")?, "row 1"],
        [
            "`P`",
            "durable purchase, journal's thread included, closed loop, µs of CPU",
            &bold("serve", "3.cpu")?,
            "row 3",
        ],
        ["", "the same in the open loop", &bold("serve", "3.open.cpu")?, "row 3"],
        [
            "`B`",
            "bare epoll server, constant answer: the limit, µs of CPU",
            &bold("serve", "1.bare.cpu")?,
            "row 1",
        ],
        [
            "`E`",
            "system calls per sold-out answer, 256 connections, the server's every thread",
            &bold("serve", "7.refused")?,
            "row 7",
        ],
        ["", "the same per durable purchase", &bold("serve", "7.sold")?, "row 7"],
        ["`R16`", "sold-out answer, 16 requests pipelined, µs of CPU", &bold("serve", "2.cpu")?, "row 2"],
    ];
    Ok(table(["name", "what", "measured", "from"], rows.map(|row| row.map(str::to_owned))))
}

/// Name on the page, bench, figure, unit.
const PRICES: [(&str, &str, &str); 24] = [
    ("`D`", "core", "decide.hot"),
    ("", "core", "decide.hot.ahead"),
    ("`Du`", "core", "decide.many"),
    ("", "core", "decide.many.ahead"),
    ("`G`", "core", "admit.hot"),
    ("", "core", "admit.many"),
    ("`A`", "primitives", "append"),
    ("`J`", "primitives", "block.4096"),
    ("", "primitives", "block.16"),
    ("", "primitives", "block.1"),
    ("`b`", "primitives", "bytes"),
    ("", "primitives", "crc"),
    ("", "primitives", "sha"),
    ("`L`", "primitives", "line"),
    ("`H`", "primitives", "hop"),
    ("", "primitives", "hop.1"),
    ("`S`", "primitives", "sync.4"),
    ("", "primitives", "sync.16"),
    ("", "primitives", "sync.64"),
    ("", "primitives", "sync.256"),
    ("", "primitives", "sync.1024"),
    ("", "primitives", "sync.4096"),
    ("", "log_speed", "write"),
    ("`X`", "serve", "13"),
];

fn price_list(prices: &Prices<'_>) -> Rendered {
    let mut rows = Vec::new();
    for (name, bench, key) in PRICES {
        let (spread, figure) = (prices.spread(bench, key)?, crate::figure(bench, key));
        let measured = if figure.unit == "1/s" { rounded(spread.median) } else { short(spread.median) };
        let range = match spread.low == spread.high {
            true => String::new(),
            false if figure.unit == "1/s" => {
                format!(" ({} to {})", rounded(spread.low), rounded(spread.high))
            }
            false => format!(" ({}–{})", short(spread.low), short(spread.high)),
        };
        rows.push([
            name.to_owned(),
            figure.name.to_owned(),
            format!("**{measured}**{range}"),
            figure.unit.to_owned(),
        ]);
    }
    Ok(table(["name", "what", "measured", "unit"], rows))
}

fn cores(prices: &Prices<'_>) -> Rendered {
    let (refusal, purchase) = (prices.refusal()?, prices.purchase()?);
    let measured = |key: &str| -> Rendered {
        let Spread { low, high, .. } = prices.spread("serve", key)?;
        Ok(format!(" (measured: {} to {})", rounded(low), rounded(high)))
    };
    let mut rows = Vec::new();
    for cores in [1.0, 2.0, 64.0] {
        let one = cores == 1.0;
        let beside = |key: &str| if one { measured(key) } else { Ok(String::new()) };
        rows.push([
            format!("{cores}"),
            sum(cores / refusal) + &beside("1.rate")?,
            sum(cores / purchase) + &beside("3.rate")?,
            sum(prices.hot(cores)?),
        ]);
    }
    Ok(table(["cores", "refusals/s", "purchases/s, many items", "one hot item, purchases/s"], rows))
}

fn hot_item(prices: &Prices<'_>) -> Rendered {
    let (owner, purchase) = (prices.owner()?, prices.purchase()?);
    let share = |cores: f64| -> Rendered { Ok(format!("*{:.2}*", prices.hot(cores)? * purchase / cores)) };
    let sells = |rate: f64| format!("*{:.0} ms*", 100_000.0 / rate * 1e3);
    let rows = [
        ["what an owner pays per purchase, `o`", "`D` + `A` + `H`", &format!("*{:.0} ns*", owner * 1e9)],
        ["the most that one owner decides", "1 ÷ `o`", &format!("*{} a second*", rounded(1.0 / owner))],
        [
            "half of what many items give is reached at",
            "`P` ÷ `o`",
            &format!("*{:.0} cores*", purchase / owner),
        ],
        ["its share of what many items give, 1 core", "rate(1) × `P`", &share(1.0)?],
        ["2 cores", "rate(2) × `P` ÷ 2", &share(2.0)?],
        ["16 cores", "rate(16) × `P` ÷ 16", &share(16.0)?],
        ["64 cores", "rate(64)", &format!("*{} a second*", rounded(prices.hot(64.0)?))],
        [
            "64 cores, an owner that serves no connections",
            "min(1 ÷ `o`, 63 ÷ `P`)",
            &format!("*{} a second*", rounded(prices.hot_alone(64.0)?)),
        ],
        [
            "how long a question waits at most for its owner's turn",
            "128 × `o`",
            &format!("*{:.0} µs*", OWNER_BATCH * owner * 1e6),
        ],
        ["a stock of 100,000 is sold by 64 cores in", "100,000 ÷ rate(64)", &sells(prices.hot(64.0)?)],
        ["with an owner that serves no connections", "", &sells(prices.hot_alone(64.0)?)],
        ["as 100,000 units of many items", "100,000 × `P` ÷ 64", &sells(64.0 / purchase)],
    ];
    Ok(table(["what", "formula", "value"], rows.map(|row| row.map(str::to_owned))))
}

fn journal(prices: &Prices<'_>) -> Rendered {
    let (bytes, block) = (prices.of("primitives", "bytes")?, prices.block()?);
    let mut rows = Vec::new();
    for per_s in [10e3, 40e3, 100e3, 1e6, 2e6, 5e6, 8e6] {
        let (facts, took) = prices.group(per_s)?;
        rows.push([
            rounded(per_s),
            format!("*{}*", count(facts)),
            format!("*{:.0} µs*", took * 1e6),
            format!("*{:.0}*", (facts * bytes).max(GROUP_BYTES_MIN) / took / 1e6),
            format!("*{:.2}*", per_s * block),
        ]);
    }
    let mut text = table(
        ["purchases/s", "facts a group", "a group takes", "MB/s", "thread busy, without waiting"],
        rows,
    );
    let (end, sha) = (prices.journal_end()?, prices.of("primitives", "sha")?);
    let _ = write!(
        text,
        "\nIts end is a full queue written as one group: 24,576 ÷ (24,576 × `J` + `S`({:.1} MB)) = {} a second, *{:.0} MB/s*. \
         SHA-256 is {:.0} % of `J` (`b` ÷ {} GB/s = *{:.0} ns*). A stalled disk is tolerated for 24,576 ÷ rate: \
         *{:.1} s* at 40,000 a second, *{:.0} ms* at a million.\n",
        QUEUE_FACTS * bytes / 1e6,
        sum(end),
        end * bytes / 1e6,
        bytes / sha / (block * 1e9) * 100.0,
        short(sha),
        bytes / sha,
        QUEUE_FACTS / 40e3,
        QUEUE_FACTS / 1e6 * 1e3,
    );
    Ok(text)
}

fn postgres(prices: &Prices<'_>) -> Rendered {
    let [least, most] = prices.postgres()?;
    let bytes = prices.of("primitives", "bytes")?;
    let (orders, all) = (LOG_BYTES / bytes, 64.0 / prices.purchase()?);
    Ok(format!(
        "Postgres takes *`X` × the rate of raw COPY = {} to {} rows a second*. What is sold above that rate gathers in the log: *8 GiB ÷ `b` = {} \
         orders* before selling stops (`log.bytes_max`). At the {} a second of 64 cores that is *{:.0} seconds of selling*, and \
         *{:.1} to {:.1} minutes* to catch up. No answer waits for it.\n",
        rounded(least),
        rounded(most),
        rounded(orders),
        rounded(all),
        orders / all,
        orders / most / 60.0,
        orders / least / 60.0,
    ))
}

/// Requests a second that a link of so many gigabits carries, by the bytes of the busier direction.
fn link(gigabits: f64, bytes: f64) -> f64 {
    gigabits * 1e9 / 8.0 / bytes
}

/// Bytes of a request that is pipelined with 15 others.
fn pipelined() -> f64 {
    let packets = (16.0 * PURCHASE / SEGMENT).ceil();
    PURCHASE + packets * PACKET / 16.0
}

fn network() -> String {
    let rows = [
        ("sold out", PURCHASE.max(SOLD_OUT) + PACKET),
        ("purchases", PURCHASE.max(ORDER) + PACKET),
        ("either, with a JWT", (PURCHASE + TOKEN).max(ORDER) + PACKET),
        ("sold out, 16 requests pipelined", pipelined()),
    ];
    let rows = rows.map(|(what, bytes)| {
        let [ten, more, most] = [10.0, 25.0, 100.0].map(|gigabits| sum(link(gigabits, bytes)));
        [what.to_owned(), ten, more, most]
    });
    table(["a second", "10 GbE", "25 GbE", "100 GbE"], rows)
}

fn first(prices: &Prices<'_>) -> Rendered {
    let (refusal, purchase) = (prices.refusal()?, prices.purchase()?);
    let [_, drained] = prices.postgres()?;
    let verdict = |cores: f64, wire: f64, what: &str| {
        if cores < wire { format!("{what}: {}", sum(cores)) } else { format!("the wire: {}", sum(wire)) }
    };
    let mut rows = Vec::new();
    for (cores, gigabits, on) in [
        (2.0, 10.0, "2 cores, 10 GbE"),
        (16.0, 10.0, "16 cores, 10 GbE"),
        (64.0, 10.0, "64 cores, 10 GbE"),
        (64.0, 100.0, "64 cores, 100 GbE"),
    ] {
        let (wire_out, wire_in) = (link(gigabits, PURCHASE + PACKET), link(gigabits, ORDER + PACKET));
        let sold = (cores / purchase).min(wire_in);
        let behind = if sold > drained {
            format!("; Postgres falls behind by {}", sum(sold - drained))
        } else {
            String::new()
        };
        let alone = prices.hot_alone(cores)?.min(wire_in);
        rows.push([
            on.to_owned(),
            verdict(cores / refusal, wire_out, "cores"),
            verdict(cores / purchase, wire_in, "cores") + &behind,
            format!("{}; an owner alone: {}", sum(prices.hot(cores)?.min(wire_in)), sum(alone)),
        ]);
    }
    Ok(table(["on", "refusals/s", "purchases/s, many items", "one hot item, purchases/s"], rows))
}

//! The rivals beside the engine, for the README: from the newest run of `stampede-classic` that measured them, since
//! rows of one table have to come from one run.

use super::{count, rounded, short, table};
use crate::series::Records;

/// The languages of the README.
#[derive(Clone, Copy)]
pub(crate) enum Language {
    English,
    Chinese,
}

/// A design: its key, and what it is called.
const DESIGNS: [(&str, [&str; 2]); 6] = [
    (
        "redis-lua",
        ["Redis + Lua, worker to Postgres, AOF `everysec`", "Redis + Lua，异步写 Postgres，AOF `everysec`"],
    ),
    ("redis-lua-always", ["the same, AOF `always`", "同上，AOF `always`"]),
    ("nginx-lua", ["nginx + Lua + Redis", "nginx + Lua + Redis"]),
    ("row-lock", ["Postgres, one function per purchase", "Postgres，每单一次函数调用"]),
    ("pessimistic", ["Postgres, `SELECT … FOR UPDATE`", "Postgres，`SELECT … FOR UPDATE`"]),
    ("stampede", ["**Stampede**", "**Stampede**"]),
];
const HEAD: [[&str; 6]; 2] = [
    ["", "sales/s", "p99", "CPU per order", "`kill -9`: lost / oversold", "power cut: lost / oversold"],
    ["", "每秒成交", "p99", "每单 CPU", "`kill -9`：丢单 / 超卖", "断电：丢单 / 超卖"],
];

/// One row per design that the run measured, and a line that says which run it is. What a fault lost is the
/// worst of its rounds, from the newest run of `stampede-classic kill`.
pub(crate) fn designs(records: &Records, language: Language) -> String {
    let language = language as usize;
    let (sale, kills) = (records.newest_with("classic", "redis-lua.winners"), records.runs("kill", ""));
    let Some(sale) = sale else { return String::new() };
    let rows = DESIGNS.iter().filter_map(|(design, names)| {
        let figure = |name: &str| Some(sale.value(&format!("{design}.{name}"))?.spread()?[0]);
        let worst = |figure: String| Some(count(kills.last()?.value(&figure)?.spread()?[2]));
        let harm = |fault: &str| {
            let [lost, oversold] = ["lost", "oversold"].map(|harm| worst(format!("{design}.{fault}.{harm}")));
            lost.zip(oversold)
                .map_or_else(|| "-".to_owned(), |(lost, oversold)| format!("{lost} / {oversold}"))
        };
        let winners = figure("winners")?;
        let or_dash =
            |value: Option<f64>, words: fn(f64) -> String| value.map_or_else(|| "-".to_owned(), words);
        Some([
            names[language].to_owned(),
            rounded(winners),
            or_dash(figure("p99"), |ms| format!("{} ms", short(ms))),
            or_dash(figure("cpu"), |ms| format!("{:.0} µs", ms * 1e3)),
            harm("kill"),
            harm("power-cut"),
        ])
    });
    let table = table(HEAD[language], rows);
    let (date, cores) = (&sale.date, &sale.machine.processors);
    match language {
        0 => format!(
            "{table}\nMeasured {date} on {cores}, everything on one machine. Lost: orders that a buyer was told of and \
             that are gone; oversold: units that do not exist. Both are the worst of the rounds; a dash: not measured yet. Details: \
             [docs/CLASSICS.md](docs/CLASSICS.md).\n"
        ),
        _ => format!(
            "{table}\n测于 {date}，{cores}，全部进程在同一台机器上。丢单：买家已收到确认却不复存在的订单；超卖：并不存在的库存；均取各轮最差；\
             “-”表示尚未测量。详见 [CLASSICS.md](CLASSICS.md)。\n"
        ),
    }
}

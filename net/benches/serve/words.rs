//! What the bench was asked for, and the machine and source that it ran on.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use stampede_records::machine::{self, Machine};

/// How long, how often, how many.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Length of one leg.
    pub(crate) leg: Duration,
    /// Pairs of legs that count; one more warms up.
    pub(crate) pairs: u64,
    /// Orders that are drained and replayed.
    pub(crate) orders: u64,
    /// Connections that stand idle.
    pub(crate) idle_connections: u32,
}

impl Size {
    const SMALL: Self =
        Self { leg: Duration::from_millis(1_000), pairs: 5, orders: 200_000, idle_connections: 15_000 };
    const FULL: Self = Self { leg: Duration::from_millis(3_000), pairs: 9, orders: 2_000_000, ..Self::SMALL };
}

/// The words of the command line.
pub(crate) struct Words {
    pub(crate) size: Size,
    /// What is handed to `stampede serve --transport`.
    pub(crate) transport: Option<String>,
    /// Whether the server's other threads may leave the server's processor.
    pub(crate) spread: bool,
    full: bool,
    rows: Vec<String>,
}

impl Words {
    /// Reads them, or says which one it does not know. `known` are the rows that there are.
    pub(crate) fn parse(words: impl Iterator<Item = String>, known: &[&str]) -> Result<Self, String> {
        let mut all =
            Self { size: Size::SMALL, transport: None, spread: false, full: false, rows: Vec::new() };
        let mut words = words;
        while let Some(word) = words.next() {
            match word.as_str() {
                "--full" => (all.full, all.size) = (true, Size::FULL),
                "--spread" => all.spread = true,
                "--transport" => all.transport = Some(words.next().ok_or("--transport which?")?),
                // Cargo says so.
                "--bench" => {}
                row if known.contains(&row) => all.rows.push(word),
                _ => {
                    return Err(format!(
                        "`{word}` is none of {} --full --spread --transport X",
                        known.join(" ")
                    ));
                }
            }
        }
        Ok(all)
    }

    /// The sizes in words, for the record.
    pub(crate) fn setting(&self) -> String {
        let Size { leg, pairs, orders, .. } = self.size;
        format!("legs of {leg:?}, {pairs} pairs after one that warms up, {orders} orders")
    }

    /// What is not as the bench comes, for the record: such runs are no part of its tables.
    pub(crate) fn variant(&self) -> String {
        let transport = self.transport.clone().filter(|transport| transport != "auto" && transport != "ring");
        let spread = self.spread.then(|| "spread".to_owned());
        transport.into_iter().chain(spread).collect::<Vec<_>>().join("-")
    }

    /// Whether a figure is to run that takes long: all of them in the full mode.
    pub(crate) fn wants_more(&self, row: &str) -> bool {
        if self.rows.is_empty() { self.full } else { self.wants(row) }
    }

    /// Whether a row is to run: all of them unless some were named.
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|word| word == row)
    }
}

/// The heading over the table: when, where, what, how.
pub(crate) struct Heading<'a>(pub(crate) &'a Words);

impl fmt::Display for Heading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Words { size, transport, spread, .. } = self.0;
        let machine = Machine::this();
        let transport = transport.as_deref().unwrap_or("the server's own choice");
        let threads = if *spread { "goes where there is room" } else { "stays on its one processor" };
        let load = machine::load().map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"));
        let Machine { processors, kernel, .. } = machine;
        writeln!(f, "{}; {processors}, Linux {kernel}; load before it {load}", machine::today())?;
        writeln!(
            f,
            "commit {}; buyers' seeds count from 1; legs of {:?}, {} pairs after one that warms up; \
             transport: {transport}; the whole server {threads}",
            machine::commit(Path::new(env!("CARGO_MANIFEST_DIR"))),
            size.leg,
            size.pairs
        )
    }
}

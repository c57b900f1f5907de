//! The table at the end: rounds per fault, orders checked, and faults that could not be made.

use std::collections::BTreeMap;
use std::fmt;

use stampede_testkit::Missing;

use crate::fault::FAULTS;
use crate::round::{Reached, Report};

#[derive(Default)]
struct Row {
    rounds: u32,
    reached: u32,
    outages: u32,
    noticed: u32,
    orders: u64,
    acked: u64,
    skipped: Option<Missing>,
}

/// Rows by the fault's name.
#[derive(Default)]
pub(crate) struct Table {
    rows: BTreeMap<&'static str, Row>,
}

impl Table {
    pub(crate) fn add(&mut self, fault: &'static str, report: &Report, skipped: Option<Missing>) {
        let row = self.rows.entry(fault).or_default();
        row.rounds += 1;
        row.reached += u32::from(report.reached == Reached::Yes);
        row.outages += report.outages;
        row.noticed += u32::from(report.noticed);
        row.orders += report.orders;
        row.acked += report.acked;
        row.skipped = skipped.or(row.skipped.take());
    }

    fn sum(&self, of: impl Fn(&Row) -> u64) -> u64 {
        self.rows.values().map(of).sum()
    }

    /// Whether the faults of a long enough run had an effect: if buyers never lose a connection,
    /// the faults missed them.
    pub(crate) fn was_felt(&self) -> bool {
        let outages = self.sum(|row| u64::from(row.outages));
        outages < 10 || self.sum(|row| u64::from(row.noticed)) >= outages / 4
    }

    pub(crate) fn summary(&self) -> String {
        let rounds = self.sum(|row| u64::from(row.rounds));
        let skipped = self.rows.values().filter(|row| row.skipped.is_some()).count();
        let kinds = self.rows.len() - skipped;
        let missed = self.rows.values().filter(|row| row.reached == 0 && row.skipped.is_none()).count();
        let (orders, acked) = (self.sum(|row| row.orders), self.sum(|row| row.acked));
        format!(
            "{rounds} rounds of {kinds} kinds of fault ({skipped} skipped, {missed} never reached), \
             {acked} orders acked, {orders} orders checked: nothing lost, nothing oversold"
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:44} {:>7} {:>8} {:>8} {:>8} {:>9} {:>9}",
            "fault", "rounds", "reached", "outages", "noticed", "acked", "checked"
        )?;
        for fault in FAULTS {
            let Some(row) = self.rows.get(fault.name) else { continue };
            let Row { rounds, reached, outages, noticed, acked, orders, skipped } = row;
            write!(
                f,
                "{:44} {rounds:7} {reached:8} {outages:8} {noticed:8} {acked:9} {orders:9}",
                fault.name
            )?;
            match skipped {
                Some(why) => writeln!(f, "  SKIPPED: {why}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

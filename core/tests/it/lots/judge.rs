//! Who looks on: knows nothing of leases, only the log and what people were told.

use std::collections::{BTreeMap, HashMap};

use super::facts::Fact;
use super::history::CORES_MAX;
use super::system::{Answer, ClaimAnswer, System};

/// A question that has not been answered.
#[derive(Clone, Copy, Debug)]
struct Open {
    core: usize,
    units: u64,
    /// The fewest units that were available in the whole system since it was put.
    least: u64,
}

/// Answers by kind.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) sold: u64,
    pub(crate) sold_out: u64,
    pub(crate) busy: u64,
    pub(crate) paused: u64,
    pub(crate) stock_in_use: u64,
}

/// The judge's own book.
#[derive(Default, Debug)]
pub(crate) struct Judge {
    /// Facts of the log that were read.
    read: usize,
    /// Granted less sold, by the facts read.
    available: u64,
    paused: bool,
    /// Orders that hold units.
    live: BTreeMap<u64, u64>,
    open: HashMap<u64, Open>,
    claims: HashMap<u64, Open>,
    /// The last purchase that each core sold to, by its place in the order of arrival.
    last_sold: Vec<u64>,
    pub(crate) told: Told,
}

impl Judge {
    pub(crate) fn new() -> Self {
        Self { last_sold: vec![0; CORES_MAX], ..Self::default() }
    }

    /// Units available, by the log alone.
    pub(crate) fn available(&self) -> u64 {
        self.available
    }

    /// Orders that hold units.
    pub(crate) fn live(&self) -> &BTreeMap<u64, u64> {
        &self.live
    }

    /// A purchase is about to arrive.
    pub(crate) fn buys(&mut self, id: u64, core: usize, units: u64) {
        self.open.insert(id, Open { core, units, least: self.available });
    }

    /// The merchant is about to ask for something that takes units (none for a pause).
    pub(crate) fn claims(&mut self, id: u64, units: u64) {
        self.claims.insert(id, Open { core: 0, units, least: self.available });
    }

    /// Looks at what a step has done.
    ///
    /// # Errors
    /// When a promise is broken; which one, in words.
    pub(crate) fn look(&mut self, system: &mut System) -> Result<(), String> {
        for at in self.read..system.bus.log.len() {
            self.read_fact(&system.bus.log[at])?;
        }
        self.read = system.bus.log.len();
        if system.units() != self.available {
            let (units, available) = (system.units(), self.available);
            return Err(format!("conservation: {units} units in the system, {available} by the log"));
        }
        for (id, answer) in std::mem::take(&mut system.bus.answers) {
            self.read_answer(id, answer)?;
        }
        for (claim, answer) in std::mem::take(&mut system.bus.claim_answers) {
            let open = self.claims.remove(&claim).ok_or("a claim was answered twice")?;
            if let ClaimAnswer::StockInUse { available } = answer {
                self.told.stock_in_use += 1;
                if !(open.least..open.units).contains(&available) {
                    let Open { units, least, .. } = open;
                    return Err(format!("in use: {units} asked for, {least} at least, {available} told"));
                }
            }
        }
        Ok(())
    }

    fn read_fact(&mut self, fact: &Fact) -> Result<(), String> {
        match *fact {
            Fact::Granted { units } => self.available += units,
            Fact::Withdrawn { units } => self.take(units)?,
            Fact::Sold { core, order, units } => {
                if self.paused {
                    return Err(format!("sold while paused: {fact:?}"));
                }
                self.take(units)?;
                if self.last_sold[core] >= order || self.live.insert(order, units).is_some() {
                    return Err(format!("out of turn: {fact:?} after order {}", self.last_sold[core]));
                }
                self.last_sold[core] = order;
            }
            Fact::Returned { order, units, .. } => {
                if self.live.remove(&order) != Some(units) {
                    return Err(format!("came back and was not out: {fact:?}"));
                }
                self.available += units;
            }
            Fact::Leased { .. } | Fact::Yielded { .. } => {}
            Fact::Paused => self.paused = true,
            Fact::Resumed => self.paused = false,
        }
        Ok(())
    }

    /// Units go; everybody who waits has seen that few.
    fn take(&mut self, units: u64) -> Result<(), String> {
        self.available = self.available.checked_sub(units).ok_or("oversell")?;
        for open in self.open.values_mut().chain(self.claims.values_mut()) {
            open.least = open.least.min(self.available);
        }
        Ok(())
    }

    fn read_answer(&mut self, id: u64, answer: Answer) -> Result<(), String> {
        let open = self.open.remove(&id).ok_or("a purchase was answered twice")?;
        match answer {
            Answer::Sold if self.live.contains_key(&id) => self.told.sold += 1,
            Answer::Sold => return Err(format!("purchase {id} was told sold and is not in the log")),
            Answer::SoldOut if open.least < open.units => self.told.sold_out += 1,
            Answer::SoldOut => {
                let Open { core, units, least } = open;
                return Err(format!(
                    "sold out at core {core} to a buyer of {units}, and never fewer than {least} available"
                ));
            }
            Answer::Busy => self.told.busy += 1,
            Answer::Paused => self.told.paused += 1,
        }
        Ok(())
    }

    /// The process died and came back with what was durable: begins with the log anew. Whoever
    /// waited has no answer.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub(crate) fn crashed(&mut self, system: &mut System) -> Result<(), String> {
        *self = Self { told: self.told, ..Self::new() };
        system.bus.answers.clear();
        system.bus.claim_answers.clear();
        self.look(system)
    }

    /// Nothing is under way any more: nobody may be waiting.
    ///
    /// # Errors
    /// When somebody is.
    pub(crate) fn rests(&self, system: &System) -> Result<(), String> {
        if !system.is_at_rest() || !self.open.is_empty() || !self.claims.is_empty() {
            return Err(format!("somebody waits and nothing is under way: {:?} {system:?}", self.open));
        }
        Ok(())
    }
}

//! The verdict: what is broken, what stayed open, and what that makes of a run.
//!
//! Whoever reads only [`Verdict::ruling`] must not be misled: a run that shows nothing is not fine.
//! Next: [`super::check`], which fills it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::violation::{Broken, Violation};

/// Most violations that are kept in words; the rest is counted.
pub const VIOLATIONS_MAX: usize = 100;

/// What a verdict comes down to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// Every promise that was looked at was kept.
    Fine,
    /// Nothing is broken, but something could not be decided: see [`Verdict::undecided`].
    Inconclusive,
    /// Nothing is broken, and nothing was tried: the server refused every request before it came to the sale.
    NothingLetIn,
    /// A promise is broken.
    Broken,
}

/// What the evidence shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// The first [`VIOLATIONS_MAX`] broken promises.
    pub violations: Vec<Violation>,
    /// How many there are in all.
    pub violations_total: u64,
    /// Orders of the merchant's list that were looked at.
    pub orders: u64,
    /// Acks that were compared with them, or with each other where there is no list.
    pub acks: u64,
    /// Rows of Postgres that were compared.
    pub postgres_orders: Option<u64>,
    /// Whether the merchant's totals and orders were looked at; without them it is what clients can see.
    pub has_orders: bool,
    /// Acked orders that were requested again as their buyers.
    pub recalled: u64,
    /// What was not looked at, and why or how it could be, each a few words.
    pub not_asked: Vec<String>,
    /// What was looked at and could not be decided, each with its reason.
    pub undecided: Vec<String>,
    /// If not one request got as far as the sale: what the server said instead.
    pub nothing_let_in: Option<String>,
}

impl Verdict {
    /// What it comes down to.
    pub const fn ruling(&self) -> Ruling {
        if self.violations_total > 0 {
            Ruling::Broken
        } else if self.nothing_let_in.is_some() {
            Ruling::NothingLetIn
        } else if self.undecided.is_empty() {
            Ruling::Fine
        } else {
            Ruling::Inconclusive
        }
    }
    /// Whether every promise that was looked at was kept, and none stayed open.
    pub const fn is_fine(&self) -> bool {
        matches!(self.ruling(), Ruling::Fine)
    }
    /// Adds the verdict about one of several items, and names that item in what it found.
    pub fn absorb(&mut self, item: u32, other: Self) {
        let room = VIOLATIONS_MAX - self.violations.len().min(VIOLATIONS_MAX);
        let named = other.violations.into_iter().map(|found| Violation { item: Some(item), ..found });
        self.violations.extend(named.take(room));
        self.violations_total += other.violations_total;
        self.orders += other.orders;
        self.acks += other.acks;
        self.recalled += other.recalled;
        self.has_orders |= other.has_orders;
        if let Some(rows) = other.postgres_orders {
            *self.postgres_orders.get_or_insert(0) += rows;
        }
        let news = other.not_asked.into_iter().filter(|words| !self.not_asked.contains(words));
        let news: Vec<_> = news.collect();
        self.not_asked.extend(news);
        self.undecided.extend(other.undecided.into_iter().map(|words| format!("item {item}: {words}")));
    }
    pub(super) fn add(&mut self, broken: Broken) {
        self.violations_total += 1;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { item: None, broken });
        }
    }
    /// Notes something that could not be verified: the promise, then why.
    pub(super) fn open(&mut self, words: String) {
        self.undecided.push(words);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { orders, acks, recalled, .. } = self;
        match (self.ruling(), self.violations.first(), &self.nothing_let_in) {
            (_, Some(first), _) => write!(f, "VIOLATION ({} in all) {first}", self.violations_total)?,
            (_, None, Some(said)) => {
                write!(
                    f,
                    "NOTHING LET IN: no request got as far as the sale ({said}), so nothing was tried"
                )?;
            }
            (Ruling::Inconclusive, ..) => write!(f, "inconclusive, ")?,
            (_, None, None) => {}
        }
        match self.ruling() {
            Ruling::Broken | Ruling::NothingLetIn => {}
            _ if self.has_orders => write!(f, "fine: {orders} orders, {acks} acks compared with them")?,
            _ => write!(
                f,
                "fine as far as clients can see: {acks} acks compared with each other, \
                 {recalled} orders requested again"
            )?,
        }
        self.postgres_orders.map_or(Ok(()), |rows| write!(f, "; {rows} rows of Postgres compared"))?;
        if !self.undecided.is_empty() {
            write!(f, "; could not be verified: {}", self.undecided.join("; "))?;
        }
        if self.not_asked.is_empty() {
            Ok(())
        } else {
            write!(f, "; not checked: {}", self.not_asked.join(", "))
        }
    }
}

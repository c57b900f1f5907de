//! Tickets: a signed permission to buy that nobody can have before the sale.
//!
//! A ticket is a sealed note for one buyer, one item, one epoch of that item, and a few minutes.
//! It is issued only inside the sale window, and may be used any number of times: the cap limits
//! what a buyer gets. Two keys can be in use, so that keys can be changed during a sale: the first
//! seals, both open. Next: [`super::seal`] for its bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use stampede_core::command::Ticket;
use stampede_core::gauge::Gauge;
use stampede_core::item::TicketRule;
use stampede_core::types::UnixMillis;

use super::seal::{self, Claim, Note, Purpose, SealKey};

/// Most keys in use at a time.
pub const KEYS_MAX: usize = 2;
/// How far the clocks of machines that share their keys may differ, in milliseconds: a ticket is valid
/// from this long before it was made, but not before the opening.
const SKEW_MS: u64 = 2_000;

/// Seals and opens tickets. Shared by all cores.
#[derive(Debug)]
pub struct Tickets {
    keys: Vec<SealKey>,
    valid_ms: u64,
    /// About when the last issued ticket expires. Every core that issues raises it, the core that records the
    /// time reads it; Relaxed, since nothing else depends on it.
    out_until_ms: AtomicU64,
}

/// How much later than all others a ticket has to expire to raise that number, which so changes at most
/// twice a second.
const NOTED_MS: u64 = 500;

/// A ticket, as the buyer gets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issued {
    /// Its text.
    pub text: String,
    /// First moment at which it is no longer valid.
    pub until_ms: UnixMillis,
}

impl Tickets {
    /// Tickets under these keys, the first of which seals, good for `valid_ms` milliseconds.
    ///
    /// # Panics
    /// Without a key, or with more than [`KEYS_MAX`]: the settings have been checked.
    pub fn new(keys: Vec<SealKey>, valid_ms: u64) -> Self {
        assert!((1..=KEYS_MAX).contains(&keys.len()), "one key or two");
        Self { keys, valid_ms, out_until_ms: AtomicU64::new(0) }
    }

    /// A ticket that is valid from now on, at most within the window of the item. `serial` tells tickets apart.
    pub fn issue(&self, gauge: &Gauge, claim: &Claim<'_>, serial: (u32, u64), now: UnixMillis) -> Issued {
        let from_ms = UnixMillis(now.0.saturating_sub(SKEW_MS)).max(gauge.opens_at_ms());
        let until_ms = UnixMillis(now.0 + self.valid_ms).min(gauge.closes_at_ms());
        if until_ms.0 > self.out_until_ms.load(Ordering::Relaxed) + NOTED_MS {
            self.out_until_ms.fetch_max(until_ms.0, Ordering::Relaxed);
        }
        let text = self.keys[0].seal(Purpose::Ticket, claim, &Note { from_ms, until_ms, serial });
        Issued { text, until_ms }
    }

    /// Whether some ticket is valid, or was a moment ago. While this holds, the log has to record the time
    /// often: a clock that is set back before a restart must not revive an expired ticket (I14).
    pub fn are_out(&self, now: UnixMillis) -> bool {
        now.0 < self.out_until_ms.load(Ordering::Relaxed) + 4 * NOTED_MS
    }

    /// Checks a purchase's ticket; only if the item asks for one.
    pub fn check(&self, gauge: &Gauge, shown: Option<&str>, subject: &[u8], now: UnixMillis) -> Ticket {
        if gauge.rules().ticket() == TicketRule::Never {
            return Ticket::Good;
        }
        let Some(text) = shown else { return Ticket::Missing };
        let claim = claim(gauge, subject);
        match seal::open(&self.keys, Purpose::Ticket, text, &claim, now) {
            Some(_) => Ticket::Good,
            None => Ticket::Invalid,
        }
    }
}

/// What a note about an item has to claim now.
pub fn claim<'a>(gauge: &Gauge, subject: &'a [u8]) -> Claim<'a> {
    Claim { subject, item: gauge.item(), epoch: gauge.epoch() }
}

//! The home core's verdict: refuse here, or take the hop to the owner.
//!
//! Reads the gauge, decides nothing for good. A refusal here must be one that the
//! owner would give as well: a buyer who may hold an order of the item is always
//! let through, so that a winner's retry gets the order and not "sold out" (I5).
//! Next: [`crate::gauge`].

use crate::command::Refusal;
use crate::gauge::Gauge;
use crate::types::{BuyerHash, UnixMillis};

/// What the home core knows of a buyer.
#[derive(Clone, Copy, Debug)]
pub struct Buyer {
    /// Who.
    pub hash: BuyerHash,
    /// The account's level.
    pub level: u8,
    /// When the account was opened, in Unix seconds; `None` counts as just now.
    pub since_s: Option<u64>,
    /// Whether the buyer is on the blocklist.
    pub blocked: bool,
}

/// Who may not buy at all: blocked, or an account too low or too young.
///
/// # Errors
/// [`Refusal::NotEligible`].
pub fn eligible(now: UnixMillis, gauge: &Gauge, buyer: &Buyer) -> Result<(), Refusal> {
    let rules = gauge.rules();
    let age_s = buyer.since_s.map_or(0, |since| (now.0 / 1000).saturating_sub(since));
    let fits = buyer.level >= rules.min_level() && age_s >= u64::from(rules.min_account_age_s());
    if fits && !buyer.blocked { Ok(()) } else { Err(Refusal::NotEligible) }
}

/// Whether a purchase of `quantity` units is worth the hop, in the order of checks of the
/// HTTP contract: eligibility, window, stock.
///
/// # Errors
/// The refusal that the owner would give.
pub fn admit(now: UnixMillis, gauge: &Gauge, buyer: &Buyer) -> Result<(), Refusal> {
    eligible(now, gauge, buyer)?;
    match window(now, gauge) {
        Err(_) if gauge.may_hold(buyer.hash) => Ok(()),
        verdict => verdict,
    }
}

fn window(now: UnixMillis, gauge: &Gauge) -> Result<(), Refusal> {
    let opens_at = gauge.opens_at_ms();
    let rules = gauge.rules();
    if rules.over() || now >= gauge.closes_at_ms() {
        Err(Refusal::Ended)
    } else if now < opens_at {
        Err(Refusal::NotOpen { opens_in_ms: opens_at.0 - now.0 })
    } else if rules.paused() {
        Err(Refusal::Paused)
    } else if gauge.stock.available() == 0 {
        Err(Refusal::SoldOut)
    } else {
        Ok(())
    }
}

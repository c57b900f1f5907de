//! The home core's check: refuse a purchase here, or send it to the owner.
//!
//! It only reads the gauge. A refusal here must be one that the owner would give
//! too: a buyer who may hold an order of the item is always let through, so that
//! a winner's retry gets the order and not "sold out" (I5).
//! Next: [`crate::gauge`].

use crate::command::{Refusal, Ticket};
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

/// Whether the buyer may buy at all: not blocked, and the account's level and age are enough.
///
/// # Errors
/// [`Refusal::NotEligible`].
pub fn eligible(now: UnixMillis, gauge: &Gauge, buyer: &Buyer) -> Result<(), Refusal> {
    let rules = gauge.rules();
    let age_s = buyer.since_s.map_or(0, |since| (now.0 / 1000).saturating_sub(since));
    let fits = buyer.level >= rules.min_level() && age_s >= u64::from(rules.min_account_age_s());
    if fits && !buyer.blocked { Ok(()) } else { Err(Refusal::NotEligible) }
}

/// Whether a purchase is worth the hop, in the order of checks of the HTTP contract:
/// eligibility, window, rate, ticket, stock. `rate` and `ticket` are called in their turn, and
/// only if all checks before them have passed.
///
/// A buyer who may hold an order of the item only has to pass eligibility and `rate`. The result
/// of `ticket` travels with the purchase: the owner checks it once it knows that this is no retry.
///
/// # Errors
/// The refusal that the owner would give; or that of `rate`, which is the home core's own.
#[inline]
pub fn admit(
    now: UnixMillis,
    gauge: &Gauge,
    buyer: &Buyer,
    rate: impl FnOnce() -> Result<(), Refusal>,
    ticket: impl FnOnce() -> Ticket,
) -> Result<Ticket, Refusal> {
    eligible(now, gauge, buyer)?;
    let unless_holder = |verdict: Result<(), Refusal>| match verdict {
        Err(_) if gauge.may_hold(buyer.hash) => Ok(()),
        verdict => verdict,
    };
    unless_holder(window(now, gauge))?;
    rate()?;
    let ticket = ticket();
    unless_holder(ticket.check())?;
    unless_holder(stock(gauge))?;
    Ok(ticket)
}

/// Whether the item is on sale at this moment, sold out or not.
///
/// # Errors
/// [`Refusal::Ended`], [`Refusal::NotOpen`] or [`Refusal::Paused`].
pub fn window(now: UnixMillis, gauge: &Gauge) -> Result<(), Refusal> {
    let opens_at = gauge.opens_at_ms();
    let rules = gauge.rules();
    if rules.over() || now >= gauge.closes_at_ms() {
        Err(Refusal::Ended)
    } else if now < opens_at {
        Err(Refusal::NotOpen { opens_in_ms: opens_at.0 - now.0 })
    } else if rules.paused() {
        Err(Refusal::Paused)
    } else {
        Ok(())
    }
}

/// Whether a unit is left.
///
/// # Errors
/// [`Refusal::SoldOut`].
pub fn stock(gauge: &Gauge) -> Result<(), Refusal> {
    if gauge.stock.available() == 0 { Err(Refusal::SoldOut) } else { Ok(()) }
}

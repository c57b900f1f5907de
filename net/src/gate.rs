//! The gate: keeps useless and dishonest requests away before they cost anything.
//!
//! Two halves. [`Gate`] is shared by all cores and holds what must be the same on each: keys,
//! and which challenges were answered. [`CoreLimits`] is a core's own: counters that no other
//! core reads, so that a limit costs no shared cache line; each states by how much that lets
//! it be overshot. Nothing here waits, hops, or reads a clock; time and addresses are arguments.
//!
//! Read in this order: [`seal`] (what a ticket is made of), [`ticket`], [`challenge`] and its
//! [`drawing`], then the limits: [`limiter`], [`admission`], [`watch`], [`address`].
//! docs/GATE.md tells an operator which to use against what.

pub mod address;
pub mod admission;
pub mod challenge;
pub mod drawing;
pub mod limiter;
pub mod seal;
pub mod ticket;
pub mod watch;

use std::net::IpAddr;

use stampede_core::command::Refusal;
use stampede_core::gauge::Gauge;
use stampede_core::item::ChallengeRule;
use stampede_core::types::HashSecret;

use address::{AddressKey, OpenByAddress};
use admission::Admission;
use challenge::Challenges;
use limiter::Limiter;
use ticket::Tickets;
use watch::Watch;

/// One wrong answer in so many nanoseconds is let pass, and so many at once: enough for a person,
/// too few to guess (one in a hundred is right by chance).
const WRONG_INTERVAL_NS: u64 = 10_000_000_000;
/// See [`WRONG_INTERVAL_NS`].
const WRONG_BURST: u64 = 3;
/// Buyers whose wrong answers are told apart.
const WRONG_KEYS: usize = 1 << 14;
/// Addresses whose junk is told apart.
const JUNK_KEYS: usize = 1 << 16;
/// Seconds whose junk an address may send at once.
const JUNK_BURST_S: u64 = 3;
/// Of the tokens that their addresses could not pay for, one in so many is verified all the same: behind a
/// proxy that is not named, whoever sends junk shares an address with everybody else, and keeps nobody out
/// for good.
const JUNK_MERCY: u64 = 64;

/// The rules that an operator sets, checked. Zero switches a limit off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GateRules {
    /// Requests a second of one buyer.
    pub buyer_per_s: u32,
    /// Requests a second from one address.
    pub ip_per_s: u32,
    /// Tokens a second from one address that do not count.
    pub bad_tokens_per_s: u32,
    /// Open connections from one address.
    pub connections_per_ip: u32,
    /// Accounts behind one address in a minute or two from which on it is suspicious.
    pub suspicious_accounts: u32,
    /// Asks for a ticket from one address in a minute from which on it is suspicious.
    pub suspicious_asks_per_min: u32,
}

/// The half that all cores share.
#[derive(Debug)]
pub struct Gate {
    /// The rules in force.
    pub rules: GateRules,
    /// Seals and opens tickets.
    pub tickets: Tickets,
    /// Makes challenges and judges answers.
    pub challenges: Challenges,
}

/// Who asks, as far as limits go.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// A keyed hash of the buyer.
    pub buyer: u64,
    /// Where it comes from; `None` where no rule asks for it.
    pub address: Option<AddressKey>,
}

/// The half that a core keeps for itself.
pub struct CoreLimits {
    core: u32,
    issued: u64,
    buyers: Option<Limiter>,
    addresses: Option<Limiter>,
    /// Tokens that did not count, by address; `None` until the first.
    junk: Option<Limiter>,
    bad_tokens_per_s: u32,
    /// Tokens that their addresses could not pay for.
    unpaid: u64,
    admission: Admission,
    watch: Option<Watch>,
    wrong: Option<Limiter>,
    open: OpenByAddress,
    connections_per_ip: u32,
    watches: (u32, u32),
}

impl CoreLimits {
    /// The half of core number `core` of `cores`.
    pub fn new(core: usize, cores: usize, rules: &GateRules) -> Self {
        Self {
            core: core as u32,
            issued: 0,
            buyers: Limiter::new(rules.buyer_per_s),
            addresses: Limiter::new(rules.ip_per_s),
            junk: None,
            bad_tokens_per_s: rules.bad_tokens_per_s,
            unpaid: 0,
            admission: Admission::new(cores),
            watch: None,
            wrong: None,
            open: OpenByAddress::default(),
            connections_per_ip: rules.connections_per_ip,
            watches: (rules.suspicious_accounts, rules.suspicious_asks_per_min),
        }
    }

    /// Whether every request has to say where it comes from.
    pub fn counts_addresses(&self) -> bool {
        self.addresses.is_some()
    }

    /// Whether one more request of this buyer and address fits their rates.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub fn rate(&mut self, asker: Asker, now_ms: u64) -> Result<(), Refusal> {
        if let Some(buyers) = &mut self.buyers {
            buyers.take(asker.buyer, now_ms).map_err(limited)?;
        }
        self.rate_address(asker.address, now_ms)
    }

    /// Whether one more request from this address fits its rate.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub fn rate_address(&mut self, address: Option<AddressKey>, now_ms: u64) -> Result<(), Refusal> {
        match (&mut self.addresses, address) {
            (Some(addresses), Some(address)) => addresses.take(address.0, now_ms).map_err(limited),
            _ => Ok(()),
        }
    }

    /// Whether this address is within its rate; charges nothing.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub fn check_address(&mut self, address: Option<AddressKey>, now_ms: u64) -> Result<(), Refusal> {
        match (&mut self.addresses, address) {
            (Some(addresses), Some(address)) => addresses.check(address.0, now_ms).map_err(limited),
            _ => Ok(()),
        }
    }

    /// Whether a token from this address may be verified, as far as those before it were junk; charges nothing.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub fn may_verify(&mut self, address: AddressKey, now_ms: u64) -> Result<(), Refusal> {
        let Some(Err(retry_after_ms)) = self.junk.as_mut().map(|junk| junk.check(address.0, now_ms)) else {
            return Ok(());
        };
        self.unpaid += 1;
        let is_let_off = mixed(address.0 ^ self.unpaid).is_multiple_of(JUNK_MERCY);
        if is_let_off { Ok(()) } else { Err(limited(retry_after_ms)) }
    }

    /// Notes a token from this address that did not count.
    pub fn note_junk(&mut self, address: AddressKey, now_ms: u64) {
        let per_s = u64::from(self.bad_tokens_per_s);
        let Some(interval_ns) = limiter::NS_PER_S.checked_div(per_s) else { return };
        let junk = || Limiter::with(JUNK_KEYS, interval_ns, JUNK_BURST_S * per_s);
        let _over = self.junk.get_or_insert_with(junk).take(address.0, now_ms);
    }

    /// [`Self::rate`] for a purchase, for which the item's admission counts, too.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub fn rate_purchase(&mut self, gauge: &Gauge, asker: Asker, now_ms: u64) -> Result<(), Refusal> {
        self.rate(asker, now_ms)?;
        self.admission.take(gauge, now_ms).map_err(limited)
    }

    /// The item's admission alone, for a gateway that limits its own buyers.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub fn rate_item(&mut self, gauge: &Gauge, now_ms: u64) -> Result<(), Refusal> {
        self.admission.take(gauge, now_ms).map_err(limited)
    }

    /// Whether a ticket for this item needs a solved challenge from this asker. Notes the ask where
    /// the item cares for suspects.
    pub fn must_solve(&mut self, gauge: &Gauge, asker: Asker, now_ms: u64) -> bool {
        match gauge.rules().challenge() {
            ChallengeRule::Never => false,
            ChallengeRule::Always => true,
            ChallengeRule::Suspicious => {
                let (accounts, asks) = self.watches;
                let watch = self.watch.get_or_insert_with(|| Watch::new(accounts, asks));
                asker.address.is_some_and(|address| watch.note(address, asker.buyer, now_ms))
            }
        }
    }

    /// Whether this buyer has given too many wrong answers of late to try again.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub fn may_answer(&mut self, asker: Asker, now_ms: u64) -> Result<(), Refusal> {
        let wrong = self.wrong.as_mut();
        wrong.map_or(Ok(()), |wrong| wrong.check(asker.buyer, now_ms).map_err(limited))
    }

    /// Notes a wrong answer.
    pub fn note_wrong(&mut self, asker: Asker, now_ms: u64) {
        // One that is over the limit was refused before it was looked at.
        let wrong = || Limiter::with(WRONG_KEYS, WRONG_INTERVAL_NS, WRONG_BURST);
        let _over = self.wrong.get_or_insert_with(wrong).take(asker.buyer, now_ms);
    }

    /// A number that no other ticket of this process has.
    pub fn serial(&mut self) -> (u32, u64) {
        self.issued += 1;
        (self.core, self.issued)
    }

    /// A connection from an address, unless it has too many; give it back with [`Self::leave`].
    pub fn enter(&mut self, secret: &HashSecret, address: IpAddr) -> bool {
        let most = self.connections_per_ip;
        most == 0 || self.open.enter(AddressKey::new(secret, address), most)
    }

    /// A connection that entered is over.
    pub fn leave(&mut self, secret: &HashSecret, address: IpAddr) {
        if self.connections_per_ip != 0 {
            self.open.leave(AddressKey::new(secret, address));
        }
    }
}

/// A number like a die's: whoever counted its requests would find a place that is never let off, or always.
/// What comes in holds a keyed hash, so that nobody outside knows what comes out (Steele, Lea, Flood,
/// *Fast Splittable Pseudorandom Number Generators*, 2014).
const fn mixed(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    seed ^ (seed >> 31)
}

fn limited(retry_after_ms: u64) -> Refusal {
    Refusal::RateLimited { retry_after_ms }
}

//! The gate: tickets, challenges and rate limits, which stop useless and dishonest requests early.
//!
//! Two halves. [`Gate`] is shared by all cores and holds what must be the same on each: keys,
//! and which challenges were answered. [`CoreLimits`] belongs to one core: counters that no other
//! core reads, so that a limit costs no shared cache line; each states by how much it can be
//! exceeded for that reason. Nothing here waits, asks another core or reads a clock; time and
//! addresses are arguments.
//!
//! Read in this order: [`seal`] (what a ticket is made of), [`ticket`], [`challenge`] and its
//! [`drawing`], then the limits: [`limiter`], [`admission`], [`watch`], [`address`].
//! docs/GATE.md tells operators which to use against what.

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

/// Time between two wrong answers of a buyer, in nanoseconds; [`WRONG_BURST`] may come at once. That is
/// enough for a person and too few to guess (one guess in a hundred is right).
const WRONG_INTERVAL_NS: u64 = 10_000_000_000;
/// See [`WRONG_INTERVAL_NS`].
const WRONG_BURST: u64 = 3;
/// Buyers whose wrong answers are counted separately.
const WRONG_KEYS: usize = 1 << 14;
/// Addresses whose invalid tokens are counted separately.
const INVALID_KEYS: usize = 1 << 16;
/// An address may send the invalid tokens of this many seconds at once.
const INVALID_BURST_S: u64 = 3;
/// Of the tokens from addresses over their budget, one in this many is verified all the same: behind a proxy
/// that is not configured, an attacker shares an address with everybody else, and must not lock them out.
const VERIFIED_ANYWAY: u64 = 64;

/// The operator's rules, checked. Zero switches a limit off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GateRules {
    /// Requests per second of one buyer.
    pub buyer_per_s: u32,
    /// Requests per second from one address.
    pub ip_per_s: u32,
    /// Invalid tokens per second from one address.
    pub bad_tokens_per_s: u32,
    /// Open connections from one address.
    pub connections_per_ip: u32,
    /// Accounts behind one address within a minute or two that make it suspicious.
    pub suspicious_accounts: u32,
    /// Requests for tickets from one address within a minute that make it suspicious.
    pub suspicious_asks_per_min: u32,
}

/// The half that all cores share.
#[derive(Debug)]
pub struct Gate {
    /// The rules in force.
    pub rules: GateRules,
    /// Seals and opens tickets.
    pub tickets: Tickets,
    /// Makes challenges and checks their answers.
    pub challenges: Challenges,
}

/// Who sends a request, as far as limits go.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// A keyed hash of the buyer.
    pub buyer: u64,
    /// The client's address; `None` where no rule needs it.
    pub address: Option<AddressKey>,
}

/// The half of one core: its counters.
pub struct CoreLimits {
    core: u32,
    issued: u64,
    buyers: Option<Limiter>,
    addresses: Option<Limiter>,
    /// Invalid tokens, by address; `None` until the first.
    invalid_tokens: Option<Limiter>,
    bad_tokens_per_s: u32,
    /// Tokens from addresses over their budget.
    over_budget: u64,
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
            invalid_tokens: None,
            bad_tokens_per_s: rules.bad_tokens_per_s,
            over_budget: 0,
            admission: Admission::new(cores),
            watch: None,
            wrong: None,
            open: OpenByAddress::default(),
            connections_per_ip: rules.connections_per_ip,
            watches: (rules.suspicious_accounts, rules.suspicious_asks_per_min),
        }
    }

    /// Whether requests are limited by address.
    pub fn counts_addresses(&self) -> bool {
        self.addresses.is_some()
    }

    /// Charges one request to this buyer and address, if it is within their rates.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub fn rate(&mut self, asker: Asker, now_ms: u64) -> Result<(), Refusal> {
        if let Some(buyers) = &mut self.buyers {
            buyers.take(asker.buyer, now_ms).map_err(limited)?;
        }
        self.rate_address(asker.address, now_ms)
    }

    /// Charges one request to this address, if it is within its rate.
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

    /// Whether this address is within its budget of invalid tokens, so that a token may be verified; charges nothing.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub fn may_verify(&mut self, address: AddressKey, now_ms: u64) -> Result<(), Refusal> {
        let Some(Err(retry_after_ms)) =
            self.invalid_tokens.as_mut().map(|invalid_tokens| invalid_tokens.check(address.0, now_ms))
        else {
            return Ok(());
        };
        self.over_budget += 1;
        let is_lucky = mixed(address.0 ^ self.over_budget).is_multiple_of(VERIFIED_ANYWAY);
        if is_lucky { Ok(()) } else { Err(limited(retry_after_ms)) }
    }

    /// Notes an invalid token from this address.
    pub fn note_invalid_token(&mut self, address: AddressKey, now_ms: u64) {
        let per_s = u64::from(self.bad_tokens_per_s);
        let Some(interval_ns) = limiter::NS_PER_S.checked_div(per_s) else { return };
        let invalid_tokens = || Limiter::with(INVALID_KEYS, interval_ns, INVALID_BURST_S * per_s);
        let _over = self.invalid_tokens.get_or_insert_with(invalid_tokens).take(address.0, now_ms);
    }

    /// [`Self::rate`] for a purchase, with the item's admission as well.
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

    /// Whether a ticket for this item needs a solved challenge from this buyer and address. Counts the request
    /// where the item asks only suspicious clients for a challenge.
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

    /// Whether this buyer may try again after the recent wrong answers.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`].
    pub fn may_answer(&mut self, asker: Asker, now_ms: u64) -> Result<(), Refusal> {
        let wrong = self.wrong.as_mut();
        wrong.map_or(Ok(()), |wrong| wrong.check(asker.buyer, now_ms).map_err(limited))
    }

    /// Notes a wrong answer.
    pub fn note_wrong(&mut self, asker: Asker, now_ms: u64) {
        // An answer over the limit was refused before it was checked.
        let wrong = || Limiter::with(WRONG_KEYS, WRONG_INTERVAL_NS, WRONG_BURST);
        let _over = self.wrong.get_or_insert_with(wrong).take(asker.buyer, now_ms);
    }

    /// A number that no other ticket of this process has.
    pub fn serial(&mut self) -> (u32, u64) {
        self.issued += 1;
        (self.core, self.issued)
    }

    /// Counts a connection from an address, unless it has too many; end it with [`Self::leave`].
    pub fn enter(&mut self, secret: &HashSecret, address: IpAddr) -> bool {
        let most = self.connections_per_ip;
        most == 0 || self.open.enter(AddressKey::new(secret, address), most)
    }

    /// A counted connection is closed.
    pub fn leave(&mut self, secret: &HashSecret, address: IpAddr) {
        if self.connections_per_ip != 0 {
            self.open.leave(AddressKey::new(secret, address));
        }
    }
}

/// A pseudorandom number, so that a client cannot find out by counting which of its tokens are verified. The
/// seed contains a keyed hash, so that nobody outside can predict it (Steele, Lea, Flood, *Fast Splittable
/// Pseudorandom Number Generators*, 2014).
const fn mixed(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    seed ^ (seed >> 31)
}

fn limited(retry_after_ms: u64) -> Refusal {
    Refusal::RateLimited { retry_after_ms }
}

//! Which addresses look suspicious: those that ask too often, and those with too many accounts.
//!
//! Kept per core, over windows of a minute. Accounts of an address are counted by *linear
//! counting* (Whang, Vander-Zanden, Taylor, 1990) in 64 bits: too few to tell thirty from
//! thirty-three, enough to tell a household from a bot farm. The table never grows; a new address in
//! a full set takes over the counts of the least suspicious one there, so that a flood of addresses
//! makes newcomers suspicious rather than offenders innocent. A suspect has to solve a challenge: an
//! honest one loses seconds, not the sale.
//!
//! With several cores an address can reach the bounds once per core that it is connected to.

use super::address::AddressKey;

/// Addresses that are counted separately.
pub const ADDRESSES_MAX: usize = 1 << 16;
const WAYS: usize = 8;
/// Length of a window, in milliseconds; what an address did counts for up to two windows.
const WINDOW_MS: u64 = 60_000;
/// Largest bound on accounts: more cannot be counted well enough.
pub const ACCOUNTS_MAX: u32 = 128;

#[derive(Clone, Copy, Default)]
struct Row {
    address: u64,
    window: u64,
    /// One bit per hash of an account: of this window, and of the one before.
    accounts: [u64; 2],
    asks: [u32; 2],
}

impl Row {
    /// Lets time pass.
    fn turn(&mut self, window: u64) {
        match window.wrapping_sub(self.window) {
            0 => {}
            1 => {
                (self.accounts, self.asks) = ([0, self.accounts[0]], [0, self.asks[0]]);
            }
            _ => (self.accounts, self.asks) = ([0; 2], [0; 2]),
        }
        self.window = window;
    }
    fn accounts(&self) -> u32 {
        (self.accounts[0] | self.accounts[1]).count_ones()
    }
    fn asks(&self) -> u32 {
        self.asks[0].max(self.asks[1])
    }
}

/// What one core has seen of addresses.
pub struct Watch {
    rows: Box<[[Row; WAYS]]>,
    /// With more bits an address has too many accounts; `u32::MAX` = no bound.
    bits_max: u32,
    /// With more requests in a minute an address asks too often; `u32::MAX` = no bound.
    asks_max: u32,
}

impl Watch {
    /// A watch over more than `accounts` accounts or `asks_per_min` asks of one address; 0 = no bound.
    pub fn new(accounts: u32, asks_per_min: u32) -> Self {
        let sets = ADDRESSES_MAX / WAYS;
        Self {
            rows: vec![[Row::default(); WAYS]; sets].into_boxed_slice(),
            bits_max: if accounts == 0 { u32::MAX } else { bits_of(accounts) },
            asks_max: if asks_per_min == 0 { u32::MAX } else { asks_per_min },
        }
    }

    /// Notes that an account asked from an address, and says whether the address is suspicious now.
    /// `account` is a keyed hash.
    pub fn note(&mut self, address: AddressKey, account: u64, now_ms: u64) -> bool {
        let window = now_ms / WINDOW_MS;
        let at = (address.0 as usize) & (self.rows.len() - 1);
        let set = &mut self.rows[at];
        set.iter_mut().for_each(|row| row.turn(window));
        let own = set.iter().position(|row| row.address == address.0);
        let least = || (0..WAYS).min_by_key(|&way| (set[way].accounts(), set[way].asks())).unwrap_or(0);
        let row = &mut set[own.unwrap_or_else(least)];
        row.address = address.0;
        row.accounts[0] |= 1 << (account >> 58);
        row.asks[0] = row.asks[0].saturating_add(1);
        row.accounts() > self.bits_max || row.asks() > self.asks_max
    }
}

/// How many of 64 bits this many accounts set on average.
fn bits_of(accounts: u32) -> u32 {
    let empty = (63f64 / 64f64).powi(accounts.min(ACCOUNTS_MAX) as i32);
    (64.0 * (1.0 - empty)).round() as u32
}

#[cfg(test)]
mod tests {
    use stampede_core::types::HashSecret;

    use super::*;

    fn spread(n: u64) -> u64 {
        HashSecret([3; 16]).reference(&n.to_be_bytes())
    }

    /// How many accounts an address brings on the average before it is suspected.
    fn unsuspected(bound: u32) -> u64 {
        const TIMES: u64 = 200;
        let mut watch = Watch::new(bound, 0);
        let mut brought =
            |time: u64| (0..).find(|&n| watch.note(AddressKey(time), spread(time << 32 | n), 5)).unwrap();
        (0..TIMES).map(|time| brought(time + 1)).sum::<u64>() / TIMES
    }

    #[test]
    fn many_accounts_behind_one_address() {
        for bound in [4, 8, 16, 32, 64] {
            let (seen, bound) = (unsuspected(bound), u64::from(bound));
            assert!((bound * 4 / 5..=bound * 3 / 2).contains(&seen), "suspected after {seen}, bound {bound}");
        }
        let mut watch = Watch::new(4, 0);
        assert!((0..1_000).all(|_| !watch.note(AddressKey(7), spread(1), 5)), "one account is one account");
    }

    #[test]
    fn an_address_that_asks_too_often_and_then_rests() {
        let mut watch = Watch::new(0, 30);
        let suspects = (0..40).filter(|_| watch.note(AddressKey(7), 1, 1_000)).count();
        assert_eq!(suspects, 10);
        assert!(!watch.note(AddressKey(8), 1, 1_000));
        assert!(watch.note(AddressKey(7), 1, WINDOW_MS), "the window before counts still");
        assert!(!watch.note(AddressKey(7), 1, 3 * WINDOW_MS));
    }

    #[test]
    fn a_flood_of_addresses_hides_no_offender() {
        let mut watch = Watch::new(0, 10);
        while !watch.note(AddressKey(7), 1, 1_000) {}
        let strangers = (0..1_000_000).filter(|&n| watch.note(AddressKey(spread(n)), 1, 1_000)).count();
        assert!(strangers > 0, "who comes into a full set takes over what was held against another");
        assert!(watch.note(AddressKey(7), 1, 1_000));
        assert_eq!(watch.rows.len() * WAYS, ADDRESSES_MAX);
    }
}

//! The client's address as limits use it: one key per address.
//!
//! An IPv6 client owns at least a whole /64, so that is its address here; an IPv4-mapped IPv6
//! address is the IPv4 address. The key is a keyed hash, so that nobody can choose addresses that
//! collide in a table.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use stampede_core::types::HashSecret;

/// Bits of an IPv6 address that tell clients apart.
const IPV6_PREFIX_BITS: u32 = 64;

/// A client's address for all limits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AddressKey(pub u64);

impl AddressKey {
    /// The key of an address.
    pub fn new(secret: &HashSecret, address: IpAddr) -> Self {
        let bits = match address.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            // Above all IPv4 addresses, whatever the prefix.
            IpAddr::V6(address) => prefix(address) | 1 << 63,
        };
        Self(secret.reference(&bits.to_be_bytes()))
    }
}

fn prefix(address: Ipv6Addr) -> u128 {
    address.to_bits() & (u128::MAX << (128 - IPV6_PREFIX_BITS))
}

/// Open connections per address, on one core; at most one entry per connection.
#[derive(Default)]
pub struct OpenByAddress {
    open: HashMap<AddressKey, u32>,
}

impl OpenByAddress {
    /// One more of this address, unless it has `most` already.
    pub fn enter(&mut self, address: AddressKey, most: u32) -> bool {
        let open = self.open.entry(address).or_default();
        if *open >= most {
            return false;
        }
        *open += 1;
        true
    }

    /// One less.
    pub fn leave(&mut self, address: AddressKey) {
        if let Some(open) = self.open.get_mut(&address) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> AddressKey {
        AddressKey::new(&HashSecret([3; 16]), address.parse().unwrap())
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
        // The first /64 of all is no IPv4 address.
        assert_ne!(key("::1"), key("0.0.0.0"));
    }

    #[test]
    fn connections_are_counted_up_and_down() {
        let mut open = OpenByAddress::default();
        let (a, b) = (key("192.0.2.1"), key("192.0.2.2"));
        assert!(open.enter(a, 2) && open.enter(a, 2) && !open.enter(a, 2) && open.enter(b, 2));
        open.leave(a);
        assert!(open.enter(a, 2) && !open.enter(a, 2));
        [a, a, b].into_iter().for_each(|address| open.leave(address));
        assert!(open.open.is_empty());
    }
}

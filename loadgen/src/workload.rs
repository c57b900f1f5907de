//! What is asked for: who buys, with which keys, and which requests are repeats.
//!
//! Everything follows from the seed and the number of the purchase, so that a run
//! can be repeated and a checker can tell whose key it sees. No socket, no clock.
//! Next: [`crate::request`] for the bytes.

/// Bytes of a buyer's name and of an idempotency key.
pub const NAME_BYTES: usize = 20;

/// What each request is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A purchase of this item.
    Purchase {
        /// The item's number.
        item: u32,
    },
    /// A bare request to this path, to measure any server.
    Raw {
        /// The method.
        method: String,
        /// The path with its query.
        path: String,
    },
}

/// How the server is told who buys.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// `X-Buyer: …`.
    Header,
    /// `Authorization: Bearer …`, HS256, signed on the fly.
    Jwt {
        /// The shared secret.
        key: Vec<u8>,
        /// The key's name, if the server keeps several.
        kid: Option<String>,
    },
}

/// The whole of what is asked for.
#[derive(Clone)]
pub struct Workload {
    /// What each request is.
    pub target: Target,
    /// How buyers prove who they are.
    pub auth: Auth,
    /// Units per purchase.
    pub quantity: u32,
    /// Number of distinct buyers; `None`: a new one for each purchase.
    pub users: Option<u32>,
    /// Share of requests that repeat an earlier purchase with its key, 0 to 1.
    pub repeat: f64,
    /// What all choices follow from.
    pub seed: u64,
    /// More header lines, `Name: value`, without line ends.
    pub headers: Vec<String>,
}

impl Workload {
    /// Purchases of one item by a new buyer each, named by header, one unit at a time.
    pub const fn purchases(item: u32, seed: u64) -> Self {
        Self {
            target: Target::Purchase { item },
            auth: Auth::Header,
            quantity: 1,
            users: None,
            repeat: 0.0,
            seed,
            headers: Vec::new(),
        }
    }
    /// `GET`s of one path.
    pub fn get(path: &str) -> Self {
        let target = Target::Raw { method: "GET".to_owned(), path: path.to_owned() };
        Self { target, ..Self::purchases(1, 0) }
    }
    /// Whether requests are purchases, which are judged, retried and kept.
    pub const fn is_purchase(&self) -> bool {
        matches!(self.target, Target::Purchase { .. })
    }
    /// The names that its buyers and keys have.
    pub const fn names(&self) -> Names {
        Names { seed: self.seed, users: self.users }
    }
}

/// Names of buyers and keys, from the seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Names {
    /// The workload's seed.
    pub seed: u64,
    /// Its number of distinct buyers.
    pub users: Option<u32>,
}

impl Names {
    /// The number of the buyer who makes the purchase with this number.
    pub const fn buyer_number(&self, purchase: u32) -> u32 {
        match self.users {
            Some(users) => (mix(self.seed ^ mix(purchase as u64)) % users as u64) as u32,
            None => purchase,
        }
    }
    /// Writes the buyer's name for a purchase.
    pub fn write_buyer(&self, purchase: u32, out: &mut [u8; NAME_BYTES]) {
        self.write(b'b', self.buyer_number(purchase), out);
    }
    /// Writes the idempotency key of a purchase.
    pub fn write_key(&self, purchase: u32, out: &mut [u8; NAME_BYTES]) {
        self.write(b'k', purchase, out);
    }
    /// The buyer's name for a purchase, as text.
    pub fn buyer(&self, purchase: u32) -> String {
        text(|out| self.write_buyer(purchase, out))
    }
    /// The idempotency key of a purchase, as text.
    pub fn key(&self, purchase: u32) -> String {
        text(|out| self.write_key(purchase, out))
    }
    /// Whether a buyer's name is one that this workload makes.
    pub fn owns(&self, buyer: &str) -> bool {
        buyer.len() == NAME_BYTES && buyer.as_bytes()[..10] == self.buyer(0).as_bytes()[..10]
    }

    /// `b0123abcd-0000000042`: the kind, eight hex digits out of the seed, the number.
    fn write(&self, kind: u8, number: u32, out: &mut [u8; NAME_BYTES]) {
        out[0] = kind;
        let tag = mix(self.seed) as u32;
        for (index, digit) in out[1..9].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(tag >> (28 - 4 * index)) as usize & 15];
        }
        out[9] = b'-';
        let mut rest = number;
        for digit in out[10..].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

fn text(write: impl FnOnce(&mut [u8; NAME_BYTES])) -> String {
    let mut out = [0; NAME_BYTES];
    write(&mut out);
    out.iter().map(|&byte| byte as char).collect()
}

/// SplitMix64's finisher (Steele, Lea, Flood 2014): spreads a number over 64 bits.
pub const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let names = Workload::purchases(1, 7).names();
        assert_eq!(names.buyer(42).len(), NAME_BYTES);
        assert!(names.buyer(42).ends_with("-0000000042") && names.key(42).starts_with('k'));
        assert!(names.owns(&names.buyer(u32::MAX)));
        let other = Workload::purchases(1, 8).names();
        assert!(!other.owns(&names.buyer(42)) && !names.owns("b") && !names.owns(""));
    }

    #[test]
    fn a_bounded_crowd_is_used_whole() {
        let names = Names { seed: 1, users: Some(10) };
        let mut seen = [0; 10];
        (0..1000).for_each(|purchase| seen[names.buyer_number(purchase) as usize] += 1);
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
    }
}

//! What is requested: who buys, with which keys, and which requests are repeats.
//!
//! Everything follows from the seed and the number of the purchase, so that a run
//! can be repeated and a checker can tell whose key it sees. No socket, no clock.
//! Next: [`crate::request`] for the bytes.

use std::fmt;
use std::sync::Arc;

use crate::batch::Batch;

/// Bytes of a buyer's name and of an idempotency key.
pub const NAME_BYTES: usize = 20;

/// What each request is.
#[derive(Clone, PartialEq, Debug)]
pub enum Target {
    /// A purchase of one of these items.
    Purchase {
        /// Which items, and how popular each is.
        items: Items,
    },
    /// A bare request to this path, to measure any server.
    Raw {
        /// The method.
        method: String,
        /// The path with its query.
        path: String,
    },
    /// Purchases by the thousand, as a trusted gateway sends them.
    Batch(Batch),
}

/// Items with consecutive numbers, and how unlike their popularity is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Items {
    /// The first number, from 1.
    pub first: u32,
    /// How many, 1 to [`ITEMS_MAX`].
    pub count: u32,
    /// Exponent of Zipf's law: the k-th item is requested in proportion to 1 / k^zipf; 0 = all alike.
    pub zipf: f64,
}

/// Most items of one run.
pub const ITEMS_MAX: u32 = 100_000;

impl Items {
    /// Just one item.
    pub const fn one(item: u32) -> Self {
        Self { first: item, count: 1, zipf: 0.0 }
    }
    /// Their numbers.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        self.first..self.first.saturating_add(self.count)
    }
}

impl fmt::Display for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "item {}", self.first),
            count => write!(f, "items {} to {}", self.first, self.first.saturating_add(count - 1)),
        }
    }
}

/// Which item each purchase is of: a function of the seed and the purchase's number.
#[derive(Clone, Debug)]
pub struct ItemPicker {
    items: Items,
    seed: u64,
    /// Of item k: the share of purchases that go to the items up to it, in units of 2^-53.
    upto: Arc<[u64]>,
}

impl ItemPicker {
    /// A picker; costs 8 bytes per item if there are several.
    pub fn new(items: Items, seed: u64) -> Self {
        let weight = |k: u32| f64::from(k + 1).powf(-items.zipf);
        let total: f64 = (0..items.count).map(weight).sum();
        let mut sum = 0.0;
        let share = |k| {
            sum += weight(k) / total;
            (sum * (1u64 << 53) as f64) as u64
        };
        let upto = if items.count > 1 { (0..items.count).map(share).collect() } else { Arc::default() };
        Self { items, seed, upto }
    }
    /// The item of a purchase.
    pub fn item(&self, purchase: u32) -> u32 {
        if self.items.count <= 1 {
            return self.items.first;
        }
        let dice = mix(self.seed ^ mix(u64::from(purchase) ^ ITEM_SALT)) >> 11;
        let index = self.upto.partition_point(|&upto| upto <= dice);
        self.items.first + (index as u32).min(self.items.count - 1)
    }
}

/// Keeps the choice of items apart from the choice of buyers.
const ITEM_SALT: u64 = 0x1D3A_57ED << 32;
/// Keeps what buyers do afterwards apart from who they are.
const FATE_SALT: u64 = 0xFA7E << 40;
/// Keeps the level of an account apart from all else.
const LEVEL_SALT: u64 = 0x1E7E1 << 40;

/// How far a buyer goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// One request: the purchase.
    Purchase,
    /// State, challenge and ticket where the item requires them, purchase, and the wait for the order.
    Whole,
}

/// What a winner does with the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Keeps it as it is.
    Keep,
    /// Pays in time.
    Pay,
    /// Pays after the hold went back.
    PayLate,
    /// Calls it off.
    Cancel,
}

/// Shares of winners, each 0 to 1, together at most 1; what is left keeps the order.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Fates {
    /// Who pays in time.
    pub pay: f64,
    /// Who pays too late.
    pub pay_late: f64,
    /// Who calls it off.
    pub cancel: f64,
}

impl Fates {
    /// What becomes of the order that a purchase won.
    pub fn of(&self, seed: u64, purchase: u32) -> Fate {
        let dice = unit(mix(seed ^ mix(u64::from(purchase) ^ FATE_SALT)));
        match dice {
            _ if dice < self.pay => Fate::Pay,
            _ if dice < self.pay + self.pay_late => Fate::PayLate,
            _ if dice < self.pay + self.pay_late + self.cancel => Fate::Cancel,
            _ => Fate::Keep,
        }
    }
    /// Whether anybody pays, early or late.
    pub fn pays(&self) -> bool {
        self.pay + self.pay_late > 0.0
    }
}

/// A number spread over 64 bits as a share of one.
pub(crate) fn unit(dice: u64) -> f64 {
    (dice >> 11) as f64 / (1u64 << 53) as f64
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

/// All of what is requested.
#[derive(Clone)]
pub struct Workload {
    /// What each request is.
    pub target: Target,
    /// How buyers prove who they are.
    pub auth: Auth,
    /// Units per purchase.
    pub quantity: u32,
    /// A ticket that every purchase shows, whosesoever it is; `None`: none, but in the whole flow.
    pub ticket: Option<String>,
    /// Number of distinct buyers; `None`: a new one for each purchase.
    pub users: Option<u32>,
    /// Share of requests that repeat an earlier purchase with its key, 0 to 1.
    pub repeat: f64,
    /// Share of purchases that are sent twice at once, on two connections, with one key, 0 to 1.
    pub double_click: f64,
    /// Pages that onlookers read per purchase.
    pub browse: f64,
    /// How far a buyer goes.
    pub flow: Flow,
    /// What winners do with their orders.
    pub fates: Fates,
    /// Accounts have levels 0 to this minus one, 1 to 10; `None`: no level is told.
    pub levels: Option<u8>,
    /// What all choices follow from.
    pub seed: u64,
    /// More header lines, `Name: value`, without line ends.
    pub headers: Vec<String>,
}

impl Workload {
    /// Purchases of one item by a new buyer each, named by header, one unit at a time.
    pub const fn purchases(item: u32, seed: u64) -> Self {
        Self {
            target: Target::Purchase { items: Items::one(item) },
            auth: Auth::Header,
            quantity: 1,
            ticket: None,
            users: None,
            repeat: 0.0,
            double_click: 0.0,
            browse: 0.0,
            flow: Flow::Purchase,
            fates: Fates { pay: 0.0, pay_late: 0.0, cancel: 0.0 },
            levels: None,
            seed,
            headers: Vec::new(),
        }
    }
    /// `GET`s of one path.
    pub fn get(path: &str) -> Self {
        let target = Target::Raw { method: "GET".to_owned(), path: path.to_owned() };
        Self { target, ..Self::purchases(1, 0) }
    }
    /// Whether requests are purchases, which are verified, retried and kept.
    pub const fn is_purchase(&self) -> bool {
        matches!(self.target, Target::Purchase { .. })
    }
    /// Whether responses have no bodies.
    pub fn is_head(&self) -> bool {
        matches!(&self.target, Target::Raw { method, .. } if method == "HEAD")
    }
    /// The items that are bought; `None` in raw mode.
    pub const fn items(&self) -> Option<Items> {
        match self.target {
            Target::Purchase { items } => Some(items),
            Target::Raw { .. } | Target::Batch(_) => None,
        }
    }
    /// What a batch is of, if requests are batches.
    pub const fn batch(&self) -> Option<&Batch> {
        match &self.target {
            Target::Batch(batch) => Some(batch),
            _ => None,
        }
    }
    /// Purchases that one request makes, but perhaps the last one.
    pub fn per_request(&self) -> u64 {
        self.batch().map_or(1, |batch| batch.records)
    }
    /// The names that its buyers and keys have.
    pub const fn names(&self) -> Names {
        Names { seed: self.seed, users: self.users }
    }
    /// Whether several requests may carry the same key.
    pub fn shares_keys(&self) -> bool {
        self.repeat > 0.0 || self.double_click > 0.0
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
    /// The level of the account that makes a purchase, below `levels`.
    pub const fn level(&self, purchase: u32, levels: u8) -> u8 {
        (mix(self.seed ^ mix(self.buyer_number(purchase) as u64 ^ LEVEL_SALT)) % levels as u64) as u8
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
    fn popularity_follows_zipf() {
        let count = |zipf: f64| {
            let picker = ItemPicker::new(Items { first: 7, count: 4, zipf }, 3);
            let mut seen = [0u32; 4];
            (0..100_000).for_each(|purchase| seen[(picker.item(purchase) - 7) as usize] += 1);
            seen
        };
        // 1 + 1/2 + 1/3 + 1/4 = 25/12.
        for (seen, share) in count(1.0).into_iter().zip([0.48, 0.24, 0.16, 0.12]) {
            assert!((f64::from(seen) / 100_000.0 - share).abs() < 0.01, "{seen} is not {share}");
        }
        assert!(count(0.0).into_iter().all(|seen| seen.abs_diff(25_000) < 1_000));
        assert_eq!(ItemPicker::new(Items::one(9), 3).item(5), 9);
    }

    #[test]
    fn fates_have_their_shares() {
        let fates = Fates { pay: 0.5, pay_late: 0.2, cancel: 0.1 };
        let mut seen = [0u32; 4];
        (0..100_000).for_each(|purchase| seen[fates.of(9, purchase) as usize] += 1);
        for (seen, share) in seen.into_iter().zip([0.2, 0.5, 0.2, 0.1]) {
            assert!((f64::from(seen) / 100_000.0 - share).abs() < 0.01, "{seen} is not {share}");
        }
    }

    #[test]
    fn a_bounded_set_of_users_is_used_whole() {
        let names = Names { seed: 1, users: Some(10) };
        let mut seen = [0; 10];
        (0..1000).for_each(|purchase| seen[names.buyer_number(purchase) as usize] += 1);
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
    }
}

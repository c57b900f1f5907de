//! What every core may read of an item: a handful of atomics that its owner writes.
//!
//! A home core admits or refuses by this alone, without a hop. During a change of
//! settings it may see some new and some old values for an instant; the owner
//! checks again, so that can only cost a buyer one early refusal, never sell
//! wrongly. Next: [`crate::admit`] and [`crate::catalogue`].

use crate::filter::Filter;
use crate::item::{ChallengeRule, ItemSpec, TicketRule};
use crate::place::Place;
use crate::published::Published;
use crate::stock::StockCell;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::types::{BuyerHash, ItemId, UnixMillis};

/// The shared state of an item. One per item, on cache lines of its own.
#[repr(align(64))]
pub struct Gauge {
    /// Available units.
    pub stock: StockCell,
    // Below: stored by the owner (Release), loaded by all (Acquire).
    granted: AtomicU64,
    opens_at_ms: AtomicU64,
    closes_at_ms: AtomicU64,
    rules: AtomicU64,
    version: AtomicU32,
    admit_per_s: AtomicU32,
    epoch: AtomicU32,
    holders: Published<Filter>,
    item: ItemId,
    slot: u32,
}

/// Flags and rules of an item in one word, so that they are read as one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules(u64);

impl Rules {
    /// Bit 0: paused; bit 1: closed; bit 2: ended. As in [`crate::state_row::StateRow::Item`].
    pub const PAUSED: u8 = 1;
    /// See [`Self::PAUSED`].
    pub const CLOSED: u8 = 2;
    /// See [`Self::PAUSED`].
    pub const ENDED: u8 = 4;
    /// Bit 3: its draw was held.
    pub const DRAWN: u8 = 8;
    /// Bit 4: its import from Postgres is not complete. It is paused, and nobody may resume it
    /// before it is.
    pub const IMPORTING: u8 = 16;

    pub(crate) fn new(flags: u8, spec: &ItemSpec<'_>) -> Self {
        Self(
            u64::from(flags)
                | u64::from(spec.min_level) << 8
                | u64::from(spec.ticket.code()) << 16
                | u64::from(spec.challenge.code()) << 17
                | u64::from(spec.min_account_age_s) << 32,
        )
    }
    /// Sells nothing for now.
    pub const fn paused(self) -> bool {
        self.0 as u8 & Self::PAUSED != 0
    }
    /// Sells nothing any more: closed by the merchant, or its window was seen to end.
    pub const fn over(self) -> bool {
        self.0 as u8 & (Self::CLOSED | Self::ENDED) != 0
    }
    /// Least account level.
    pub const fn min_level(self) -> u8 {
        (self.0 >> 8) as u8
    }
    /// Whether a purchase needs a ticket.
    pub fn ticket(self) -> TicketRule {
        TicketRule::from_code((self.0 >> 16) as u8 & 1).unwrap_or(TicketRule::Required)
    }
    /// Whether a ticket needs a challenge.
    pub fn challenge(self) -> ChallengeRule {
        ChallengeRule::from_code((self.0 >> 17) as u8 & 3).unwrap_or(ChallengeRule::Always)
    }
    /// Least account age, in seconds.
    pub const fn min_account_age_s(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// How a buyer sees an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemState {
    /// Before its window.
    Upcoming,
    /// On sale.
    Open,
    /// On sale, with nothing left for now.
    SoldOut,
    /// Stopped by the merchant for now.
    Paused,
    /// Over.
    Ended,
}

impl ItemState {
    /// The name, as HTTP shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upcoming => "upcoming",
            Self::Open => "open",
            Self::SoldOut => "sold_out",
            Self::Paused => "paused",
            Self::Ended => "ended",
        }
    }
}

/// Roughly how much is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StockBand {
    /// More than a tenth.
    Plenty,
    /// At most a tenth.
    Few,
    /// At most a hundredth, or one unit.
    Last,
    /// Nothing.
    None,
}

impl StockBand {
    /// The name, as HTTP shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plenty => "plenty",
            Self::Few => "few",
            Self::Last => "last",
            Self::None => "none",
        }
    }
    /// The band of `available` units out of `granted`.
    pub const fn of(available: u64, granted: u64) -> Self {
        match available {
            0 => Self::None,
            1 => Self::Last,
            n if n <= granted / 100 => Self::Last,
            n if n <= granted / 10 => Self::Few,
            _ => Self::Plenty,
        }
    }
}

impl Gauge {
    pub(crate) fn new(item: ItemId, slot: u32) -> Self {
        Self {
            stock: StockCell::new(0),
            granted: AtomicU64::new(0),
            opens_at_ms: AtomicU64::new(u64::MAX),
            closes_at_ms: AtomicU64::new(u64::MAX),
            rules: AtomicU64::new(0),
            version: AtomicU32::new(0),
            admit_per_s: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            holders: Published::none(),
            item,
            slot,
        }
    }

    /// The item.
    pub const fn item(&self) -> ItemId {
        self.item
    }
    /// Its place in the owner's table.
    pub(crate) const fn slot(&self) -> u32 {
        self.slot
    }
    /// First moment of the sale.
    pub fn opens_at_ms(&self) -> UnixMillis {
        UnixMillis(self.opens_at_ms.load(Ordering::Acquire))
    }
    /// First moment after the sale.
    pub fn closes_at_ms(&self) -> UnixMillis {
        UnixMillis(self.closes_at_ms.load(Ordering::Acquire))
    }
    /// Flags and rules.
    pub fn rules(&self) -> Rules {
        Rules(self.rules.load(Ordering::Acquire))
    }
    /// Grows with each change that a sale page shows, except those of the stock.
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }
    /// Purchases admitted per second; 0 = no limit.
    pub fn admit_per_s(&self) -> u32 {
        self.admit_per_s.load(Ordering::Relaxed)
    }
    /// Grows when the window moves or the item is closed; a ticket is good for one epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }
    /// How much is left, roughly.
    pub fn band(&self) -> StockBand {
        StockBand::of(self.stock.available(), self.granted.load(Ordering::Acquire))
    }
    /// Where it stands in the list for buyers.
    pub fn place(&self) -> Place {
        Place::new(self.item, self.opens_at_ms(), self.closes_at_ms(), self.rules().over())
    }
    /// How a buyer sees it at `now`.
    pub fn state(&self, now: UnixMillis) -> ItemState {
        let rules = self.rules();
        match () {
            () if rules.over() || now >= self.closes_at_ms() => ItemState::Ended,
            () if rules.paused() => ItemState::Paused,
            () if now < self.opens_at_ms() => ItemState::Upcoming,
            () if self.stock.available() == 0 => ItemState::SoldOut,
            () => ItemState::Open,
        }
    }
    /// Whether the buyer may hold an order of it; `false` is certain for all orders that were
    /// placed before the state that the caller has read.
    pub fn may_hold(&self, buyer: BuyerHash) -> bool {
        self.holders.all().any(|filter| filter.may_contain(buyer))
    }

    /// Owner only: shows new settings and flags.
    pub(crate) fn show(&self, spec: &ItemSpec<'_>, flags: u8, epoch: u32) {
        self.opens_at_ms.store(spec.opens_at_ms.0, Ordering::Release);
        self.closes_at_ms.store(spec.closes_at_ms.0, Ordering::Release);
        self.epoch.store(epoch, Ordering::Release);
        self.admit_per_s.store(spec.admit_per_s, Ordering::Relaxed);
        self.rules.store(Rules::new(flags, spec).0, Ordering::Release);
        self.version.fetch_add(1, Ordering::Release);
    }
    /// Owner only: shows how much was granted.
    pub(crate) fn show_granted(&self, granted: u64) {
        self.granted.store(granted, Ordering::Release);
    }
    /// Owner only: the newest filter of holders, if there is one yet.
    pub(crate) fn holders(&self) -> Option<&Filter> {
        self.holders.get()
    }
    /// Owner only: puts a filter beside those that are there; new buyers enter this one.
    pub(crate) fn publish_holders(&self, filter: Filter) {
        self.holders.publish(filter);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn bands() {
        let band = |available| StockBand::of(available, 1_000).name();
        let seen = [0, 1, 10, 11, 100, 101, 1_000].map(band);
        assert_eq!(seen, ["none", "last", "last", "few", "few", "plenty", "plenty"]);
        assert_eq!(StockBand::of(5, 5), StockBand::Plenty);
    }

    #[test]
    fn a_gauge_keeps_to_two_cache_lines() {
        assert!(size_of::<Gauge>() <= 128);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sample::spec;
    use crate::sync::race;
    use loom::sync::Arc;

    /// All probes of a buyer on one bit, which keeps the model small.
    const ANN: BuyerHash = BuyerHash([0, 0]);
    const BOB: BuyerHash = BuyerHash([0, 0x1_0080_4020_1008]);

    /// An item with one unit left, whose filter holds Ann.
    fn gauge() -> Arc<Gauge> {
        let gauge = Gauge::new(ItemId::new(1).expect("valid"), 0);
        gauge.stock.give(1);
        let holders = Filter::for_buyers(1);
        holders.insert(ANN);
        gauge.publish_holders(holders);
        Arc::new(gauge)
    }

    /// A larger filter is put beside the first, the last unit is sold, and the stock shows zero: a
    /// core that sees zero finds the earlier winners and the last one.
    #[test]
    fn no_winner_is_missed_while_the_filter_grows() {
        loom::model(|| {
            let gauge = gauge();
            let owner = gauge.clone();
            let sell = move || {
                let larger = Filter::for_buyers(2);
                larger.insert(BOB);
                owner.publish_holders(larger);
                assert!(owner.stock.try_take(1));
            };
            race(sell, move || {
                if gauge.stock.available() == 0 {
                    assert!(gauge.may_hold(ANN) && gauge.may_hold(BOB));
                }
            });
        });
    }

    /// The same when it is the end of the sale that refuses everybody else.
    #[test]
    fn no_winner_is_missed_when_the_sale_ends() {
        loom::model(|| {
            let gauge = gauge();
            let owner = gauge.clone();
            let sell_and_end = move || {
                owner.holders().expect("a filter").insert(BOB);
                assert!(owner.stock.try_take(1));
                owner.show(&spec("the last one"), Rules::ENDED, 1);
            };
            race(sell_and_end, move || {
                if gauge.rules().over() {
                    assert!(gauge.may_hold(BOB));
                }
            });
        });
    }
}

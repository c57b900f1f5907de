//! Items and orders for tests: good ones, of which a test changes what it is about.
//!
//! The facts of the log and the rows of a snapshot come from the same values. Behind the feature
//! `forged`, so that no program that sells has this.

use crate::draw::{DrawRow, DrawSeed};
use crate::fact::{Fact, ImportedMoney};
use crate::item::{ChallengeRule, ItemSpec, OrderState, Payment, TicketRule};
use crate::money::Price;
use crate::state_row::StateRow;
use crate::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

/// The item with this number.
///
/// # Panics
/// Where no item can have it.
pub fn item_id(number: u64) -> ItemId {
    ItemId::new(number).expect("the number of an item")
}

/// Settings of an item that everybody may buy once, at any time, for 1.00.
pub const fn spec(name: &str) -> ItemSpec<'_> {
    ItemSpec {
        name,
        price_minor: 100,
        currency: *b"CNY",
        opens_at_ms: UnixMillis(1),
        closes_at_ms: UnixMillis(1 << 40),
        cap: 1,
        payment: Payment::OnOrder,
        hold_ms: 0,
        ticket: TicketRule::Never,
        challenge: ChallengeRule::Never,
        min_level: 0,
        min_account_age_s: 0,
        admit_per_s: 0,
        draw_ms: 0,
    }
}

/// An item that a merchant has created.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Which.
    pub item: ItemId,
    /// When it was created.
    pub at_ms: UnixMillis,
    /// Its settings.
    pub spec: ItemSpec<'a>,
    /// Its units.
    pub granted: u64,
    /// The seed of its draw, if it has one.
    pub seed: DrawSeed,
    /// Who created it.
    pub actor: &'a str,
}

impl<'a> Item<'a> {
    /// One with so many units, and the settings of [`spec`].
    pub const fn new(item: ItemId, granted: u64) -> Self {
        let (at_ms, spec, seed, actor) = (UnixMillis(1), spec("phone"), DrawSeed::NONE, "shop");
        Self { item, at_ms, spec, granted, seed, actor }
    }

    /// That it was created.
    pub const fn created(self) -> Fact<'a> {
        let Self { item, at_ms, spec, granted, seed, actor } = self;
        Fact::ItemCreated { at_ms, item, spec, granted, seed, actor }
    }

    /// That it was given these settings.
    pub const fn changed(self) -> Fact<'a> {
        let Self { item, at_ms, spec, seed, actor, .. } = self;
        Fact::ItemChanged { at_ms, item, spec, seed, actor }
    }

    /// Its row after so many orders, the last of them placed by this fact.
    pub fn row(self, last_seq: u32, lsn: Lsn) -> StateRow<'a> {
        let Self { item, spec, granted, seed, .. } = self;
        let draw = (seed != DrawSeed::NONE).then_some(DrawRow { seed, drawn: None });
        StateRow::Item { item, spec, granted, flags: 0, epoch: 0, draw, version: 1, last_seq, lsn }
    }
}

/// An order.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Which.
    pub order: OrderId,
    /// When it was placed.
    pub at_ms: UnixMillis,
    /// Its units.
    pub quantity: Quantity,
    /// Where it stands.
    pub state: OrderState,
    /// When it expires unpaid; zero = never.
    pub pay_by_ms: UnixMillis,
    /// The buyer.
    pub subject: &'a [u8],
    /// Its idempotency key; empty = none.
    pub key: &'a [u8],
    /// What a unit of it costs.
    pub price: Price,
    /// The reference of its payment; empty = none. Only an imported order brings one along.
    pub payment_ref: &'a [u8],
}

impl<'a> Order<'a> {
    /// A confirmed order of one unit, by Ann, at a price that nobody noted.
    pub const fn new(order: OrderId) -> Self {
        Self {
            order,
            at_ms: UnixMillis(1_000),
            quantity: Quantity::ONE,
            state: OrderState::Confirmed,
            pay_by_ms: UnixMillis(0),
            subject: b"ann",
            key: b"",
            price: Price::UNKNOWN,
            payment_ref: b"",
        }
    }

    /// That it was placed.
    pub const fn placed(self) -> Fact<'a> {
        let Self { order, at_ms, quantity, state, pay_by_ms, subject, key, price, .. } = self;
        Fact::OrderPlaced { at_ms, order, quantity, state, pay_by_ms, subject, key, price }
    }

    /// That it was taken over from a database, without a price.
    pub const fn imported(self, at_ms: UnixMillis) -> Fact<'a> {
        let Self {
            order, at_ms: created_at_ms, quantity, state, pay_by_ms, subject, key, payment_ref, ..
        } = self;
        let money = ImportedMoney::NONE;
        Fact::OrderImported {
            at_ms,
            order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            subject,
            key,
            payment_ref,
            money,
        }
    }

    /// Its row, if this fact placed it and nothing has changed it since. Key hashes are not known here.
    pub fn row(self, lsn: Lsn) -> StateRow<'a> {
        let Self { order, at_ms: created_at_ms, quantity, state, pay_by_ms, subject, key, price, .. } = self;
        StateRow::Order {
            order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            lsn,
            state_lsn: lsn,
            key_hash: 0,
            payment_ref_hash: 0,
            entry: state == OrderState::Entered,
            drawn: false,
            subject,
            key,
            price,
            refunded: 0,
        }
    }
}

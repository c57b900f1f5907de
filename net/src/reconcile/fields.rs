//! What one place says about an order, as names and values: for people and for JSON.
//!
//! Made only where something differs; a million orders are compared without it.

use stampede_core::record::OrderRecord;
use stampede_persist::export::look::OrderLook;
use stampede_persist::export::text;

/// Fields that are always shown; the others only where they differ.
const MAIN: [&str; 4] = ["buyer", "quantity", "state", "lsn"];

/// Names and values, in the order in which they are shown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fields {
    /// The order's number.
    pub order: u64,
    pairs: Vec<(&'static str, String)>,
}

impl Fields {
    /// Of a record of the log or of memory.
    pub fn of_record(record: &OrderRecord<'_>) -> Self {
        let pairs = vec![
            ("buyer", text::escape(record.subject)),
            ("quantity", record.quantity.get().to_string()),
            ("state", record.state.name().to_owned()),
            ("lsn", record.state_lsn.0.to_string()),
            ("placed_lsn", record.lsn.0.to_string()),
            ("created_at_ms", record.created_at_ms.0.to_string()),
            ("pay_by_ms", record.pay_by_ms.0.to_string()),
            ("key_hash", hex(record.key_hash)),
            ("payment_ref_hash", hex(record.payment_ref_hash)),
            ("refund_ref_hash", hex(record.refund_ref_hash)),
            ("refunded", record.refunded.to_string()),
            ("price", price(record.price.minor.cast_signed(), record.price.currency())),
        ];
        Self { order: record.order.get(), pairs }
    }

    /// Of a row of Postgres; `hash` is that of the log. The LSN is the exporter's own note.
    pub fn of_row(row: &OrderLook<'_>, hash: impl Fn(&str) -> Option<u64>) -> Self {
        let hashed = |text: &str| hash(text).map_or_else(|| "unreadable".to_owned(), hex);
        let pairs = vec![
            ("buyer", row.buyer.to_owned()),
            ("quantity", row.quantity.to_string()),
            ("state", row.state.to_owned()),
            ("lsn", row.lsn.to_string()),
            ("sid", row.sid.to_string()),
            ("key_hash", hashed(row.key)),
            ("payment_ref_hash", hashed(row.payment_ref)),
            ("refund_ref_hash", hashed(row.refund_ref)),
            ("refunded", row.refunded.to_string()),
        ];
        // An order of an older program has no price in the database.
        let price = Some(price(row.price_minor, row.currency)).filter(|_| !row.currency.is_empty());
        let pairs = pairs.into_iter().chain(price.map(|price| ("price", price))).collect();
        Self { order: row.id.cast_unsigned(), pairs }
    }

    /// Of anything that names its fields itself.
    pub fn of_pairs(order: u64, pairs: Vec<(&'static str, String)>) -> Self {
        Self { order, pairs }
    }

    /// The same with one more.
    pub fn with(mut self, name: &'static str, value: String) -> Self {
        self.pairs.push((name, value));
        self
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// All of them.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.pairs.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The names of fields that both have and that differ.
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        let differs = |(name, value): (&'static str, &str)| {
            other.get(name).is_some_and(|theirs| theirs != value).then_some(name)
        };
        self.pairs().filter_map(differs).collect()
    }

    /// For people: the main fields, and these.
    pub fn text(&self, also: &[&str]) -> String {
        let shown = self.pairs().filter(|(name, _)| MAIN.contains(name) || also.contains(name));
        let shown: Vec<String> = shown.map(|(name, value)| format!("{name} {value}")).collect();
        shown.join(", ")
    }
}

fn price(minor: i64, currency: &str) -> String {
    format!("{minor} {currency}")
}

fn hex(value: u64) -> String {
    format!("{value:016x}")
}

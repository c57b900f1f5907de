//! What a comparison came to: values for the printer, in words and in JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};
use stampede_core::types::{ItemId, Lsn, OrderId};
use stampede_persist::log::replica::Replica;

use super::fields::Fields;
use crate::named::named;

named! {
    /// Who says something, in the order in which they are shown.
    pub enum Place {
        /// The running engine.
        Memory = "memory",
        /// The log's files.
        Log = "log",
        /// The database.
        Postgres = "Postgres",
    }
}

/// What one place says about an order, and as of which fact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Who.
    pub place: Place,
    /// As of this fact.
    pub at: Lsn,
    /// The order; `None` = it does not have it.
    pub order: Option<Fields>,
}

/// An item on which two places do not agree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// Which item.
    pub item: ItemId,
    /// Who does not agree with the log.
    pub place: Place,
    /// The LSN at which the two were compared.
    pub lsn: Lsn,
    /// The first order on which they do not; `None` = the orders agree.
    pub order: Option<OrderId>,
    /// An order's number that is none of the item's.
    pub stray: Option<i64>,
    /// What is wrong, as a clause.
    pub what: String,
    /// What each says about the order.
    pub told: Vec<Told>,
    /// Whether the item is paused now; `None` = that was not wanted.
    pub pause: Option<Result<(), String>>,
}

impl Mismatch {
    /// One without an order.
    pub fn new(item: ItemId, place: Place, lsn: Lsn, what: String) -> Self {
        Self { item, place, lsn, order: None, stray: None, what, told: Vec::new(), pause: None }
    }

    /// One at an order: what the log says about it, and what the place says.
    pub fn at_order(
        place: Place,
        lsn: Lsn,
        order: OrderId,
        (log, theirs): (Option<Fields>, Option<Fields>),
    ) -> Self {
        let what = match (&log, &theirs) {
            (Some(_), None) => format!("order {order} is not in {}", place.name()),
            (None, _) => format!("order {order} is in {} alone", place.name()),
            (Some(log), Some(theirs)) => {
                // The LSN in a row is the exporter's own note, and not compared.
                let mut names = log.differing(theirs);
                names.retain(|name| place == Place::Memory || *name != "lsn");
                format!("order {order}: {} has another {}", place.name(), names.join(", "))
            }
        };
        let told =
            vec![Told { place, at: lsn, order: theirs }, Told { place: Place::Log, at: lsn, order: log }];
        Self { order: Some(order), told, ..Self::new(order.item(), place, lsn, what) }
    }

    /// What a place says, if that is known.
    pub fn told(&self, place: Place) -> Option<&Told> {
        self.told.iter().find(|told| told.place == place)
    }

    /// Adds what a place says.
    pub fn tell(&mut self, place: Place, at: Lsn, order: Option<Fields>) {
        self.told.push(Told { place, at, order });
    }

    /// In one line, for the alarm. The same mismatch gives the same line however often it is seen.
    pub fn reason(&self) -> String {
        format!("{} and the log differ: {}", self.place.name(), self.what)
    }

    /// The names of fields on which any two places differ.
    pub fn differing(&self) -> Vec<&'static str> {
        let known: Vec<&Fields> = self.told.iter().filter_map(|told| told.order.as_ref()).collect();
        let mut names = Vec::new();
        for (at, fields) in known.iter().enumerate() {
            names.extend(known[at + 1..].iter().flat_map(|other| fields.differing(other)));
        }
        names
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("item_id".to_owned(), json!(self.item.get()));
        object.insert("place".to_owned(), json!(self.place.name().to_lowercase()));
        object.insert("lsn".to_owned(), json!(self.lsn.0));
        object.insert("what".to_owned(), json!(self.what));
        let number = self.order.map(|order| order.to_string());
        object.insert("order_id".to_owned(), json!(number.or(self.stray.map(|id| id.to_string()))));
        for told in &self.told {
            let order = told.order.as_ref().map(|fields| -> Map<String, Value> {
                fields.pairs().map(|(name, value)| (name.to_owned(), json!(value))).collect()
            });
            let value = json!({ "at_lsn": told.at.0, "order": order });
            object.insert(told.place.name().to_lowercase(), value);
        }
        if let Some(pause) = &self.pause {
            object.insert("paused".to_owned(), json!(pause.is_ok()));
            if let Err(reason) = pause {
                object.insert("pause_error".to_owned(), json!(reason));
            }
        }
        Value::Object(object)
    }
}

/// An item as the log has it at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ItemLine {
    /// Which.
    pub item: ItemId,
    /// How many orders.
    pub orders: u64,
    /// Units granted, available, held, sold.
    pub piles: [u64; 4],
}

/// What a whole comparison came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Every item.
    pub items: Vec<ItemLine>,
    /// Orders in the log.
    pub orders: u64,
    /// Up to where the log was read.
    pub lsn: Lsn,
    /// The cursor at which Postgres was compared; `None` = it was not.
    pub cursor: Option<Lsn>,
    /// Items on which two places do not agree, ascending.
    pub mismatches: Vec<Mismatch>,
    /// Differences that have a known cause and are no mismatch.
    pub known: Vec<String>,
    /// What could not be compared, and why.
    pub unable: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Adds a mismatch, unless the item has one with an order already.
    pub fn add(&mut self, mismatch: Mismatch) {
        match self.mismatches.binary_search_by_key(&mismatch.item, |known| known.item) {
            Ok(at) if self.mismatches[at].order.is_none() && mismatch.order.is_some() => {
                self.mismatches[at] = mismatch;
            }
            Ok(_) => {}
            Err(at) => self.mismatches.insert(at, mismatch),
        }
    }

    /// Whether a mismatch of this item is in it.
    pub fn has(&self, item: ItemId) -> bool {
        self.mismatches.iter().any(|mismatch| mismatch.item == item)
    }

    pub(super) fn items_total(&mut self, replica: &Replica, only: Option<ItemId>) {
        let lines = replica.items().iter().filter(|(item, _)| only.is_none_or(|only| only == **item));
        self.items = lines
            .map(|(item, totals)| ItemLine {
                item: *item,
                orders: totals.orders,
                piles: [totals.granted, totals.available, totals.held, totals.sold],
            })
            .collect();
        self.orders = self.items.iter().map(|line| line.orders).sum();
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "equal": self.mismatches.is_empty() && self.unable.is_empty(),
            "items": self.items.len(),
            "orders": self.orders,
            "lsn": self.lsn.0,
            "postgres_lsn": self.cursor.map(|cursor| cursor.0),
            "took_ms": self.took.as_millis() as u64,
            "mismatches": self.mismatches.iter().map(Mismatch::json).collect::<Vec<_>>(),
            "known": self.known,
            "unable": self.unable,
        })
    }
}

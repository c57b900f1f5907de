//! The demo sale: what is for sale with `--demo`, one item for each way of selling.
//!
//! Each start puts on sale what is missing. The draw is soon over, so each start after that makes a new one.

use std::sync::Arc;

use stampede_core::command::{Command, ItemPatch, ItemView};
use stampede_core::gauge::ItemState;
use stampede_core::item::Payment;
use stampede_core::types::{ItemId, UnixMillis};
use stampede_persist::log::queue::FactQueue;

use super::recover::Replayed;
use crate::engine::owner::fresh_seed;

/// One item of the demo.
struct DemoItem {
    name: &'static str,
    price_minor: u64,
    stock: u64,
    cap: u32,
    payment: Payment,
    /// How long an order waits for its payment, in milliseconds.
    hold_ms: u64,
    /// How long after the start it opens, in milliseconds.
    opens_in_ms: u64,
    /// How long it stays open, in milliseconds.
    open_ms: u64,
    /// All who ask within so many milliseconds of the opening take part in one draw; 0 = no draw.
    draw_ms: u32,
}

/// What most of them have in common: one for each buyer, open for thirty days from the first start on.
const COMMON: DemoItem = DemoItem {
    name: "",
    price_minor: 0,
    stock: 0,
    cap: 1,
    payment: Payment::OnOrder,
    hold_ms: 0,
    opens_in_ms: 0,
    open_ms: 30 * 24 * 3_600_000,
    draw_ms: 0,
};

/// The items with the numbers from 1 on.
const ITEMS: [DemoItem; 3] = [
    DemoItem { name: "Double 11 phone", price_minor: 499_900, stock: 1_000, ..COMMON },
    DemoItem { name: "Red packet", stock: 10_000, ..COMMON },
    DemoItem {
        name: "Railway ticket, window seat",
        price_minor: 55_300,
        stock: 200,
        cap: 2,
        payment: Payment::Hold,
        hold_ms: 120_000,
        opens_in_ms: 20_000,
        ..COMMON
    },
];

/// The draw, which takes the next free number after them.
const DRAW: DemoItem = DemoItem {
    name: "Concert ticket by lot",
    price_minor: 88_000,
    stock: 20,
    opens_in_ms: 30_000,
    open_ms: 15 * 60_000,
    draw_ms: 30_000,
    ..COMMON
};

impl DemoItem {
    fn patch(&self, now: UnixMillis) -> ItemPatch<'static> {
        let opens_at_ms = now.0 + self.opens_in_ms;
        ItemPatch {
            name: Some(self.name),
            price_minor: Some(self.price_minor),
            stock: Some(self.stock),
            opens_at_ms: Some(UnixMillis(opens_at_ms)),
            closes_at_ms: Some(UnixMillis(opens_at_ms + self.open_ms)),
            cap: Some(self.cap),
            payment: Some(self.payment),
            hold_ms: Some(self.hold_ms),
            draw_ms: Some(self.draw_ms),
            ..ItemPatch::default()
        }
    }
}

/// Puts the demo's missing items on sale.
pub(super) fn open_sale(replayed: &mut Replayed, queue: &Arc<FactQueue>, now: UnixMillis) {
    for (number, item) in (1..).zip(&ITEMS) {
        let id = ItemId::new(number).filter(|id| replayed.catalogue().find(*id).is_none());
        put(replayed, queue, now, id, item);
    }
    let id = next_draw(replayed, now);
    put(replayed, queue, now, id, &DRAW);
    queue.flush();
}

/// The number for a new draw; `None` while the last one is still to be held.
fn next_draw(replayed: &mut Replayed, now: UnixMillis) -> Option<ItemId> {
    let catalogue = replayed.catalogue().clone();
    for id in (ITEMS.len() as u64 + 1..).map_while(ItemId::new) {
        let Some(gauge) = catalogue.find(id) else { return Some(id) };
        let awaited = |item: ItemView<'_>| item.draw.is_some_and(|draw| draw.held.is_none());
        let is_awaited = replayed.shard_of(id).item(id).is_some_and(awaited);
        if is_awaited && gauge.state(now) != ItemState::Ended {
            return None;
        }
    }
    None
}

fn put(
    replayed: &mut Replayed,
    queue: &Arc<FactQueue>,
    now: UnixMillis,
    id: Option<ItemId>,
    item: &DemoItem,
) {
    let Some(id) = id else { return };
    let command = Command::PutItem { item: id, patch: item.patch(now), seed: fresh_seed(), actor: "demo" };
    replayed.shard_of(id).decide(now, &command, &mut queue.producer());
}

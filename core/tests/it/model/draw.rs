//! The slow, obvious draw: sorts the entries of an item afresh whenever one is drawn.
//!
//! Written from docs/DRAW.md, with hashes of its own.

use sha2::{Digest, Sha256};
use stampede_core::draw::{DrawEntry, DrawSeed, DrawView, Drawn, HeldView};
use stampede_core::item::{ItemSpec, OrderState, Payment};
use stampede_core::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

use super::{Item, Model, Order, first_state, units};

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(parts.concat()).into()
}

impl Item {
    pub(crate) fn draws_at_ms(&self) -> Option<UnixMillis> {
        let draw_ms = u64::from(self.spec.draw_ms);
        (draw_ms > 0).then(|| UnixMillis(self.spec.opens_at_ms.0 + draw_ms))
    }

    pub(super) fn takes_entries(&self, now: UnixMillis) -> bool {
        self.drawn.is_none()
            && self.spec.opens_at_ms <= now
            && self.draws_at_ms().is_some_and(|draws_at| now < draws_at)
    }
}

/// The fields of a draw that cannot be changed so, or not any more.
pub(super) fn wrong_draw_fields(
    now: UnixMillis,
    before: &ItemSpec<'_>,
    spec: &ItemSpec<'_>,
) -> Vec<&'static str> {
    let (moved, resized) = (before.opens_at_ms != spec.opens_at_ms, before.draw_ms != spec.draw_ms);
    let begun = before.draw_ms > 0 && before.opens_at_ms <= now;
    let unannounced = spec.draw_ms > 0 && spec.opens_at_ms <= now && (moved || resized);
    let opens = (begun && moved) || (!begun && unannounced);
    [(opens, "opens_at_ms"), (begun && resized, "draw_ms")]
        .into_iter()
        .filter(|(wrong, _)| *wrong)
        .map(|(_, field)| field)
        .collect()
}

impl Model {
    fn entered(&self, item: ItemId) -> impl Iterator<Item = &Order> {
        self.orders_of_item(item).filter(|order| order.view.state == OrderState::Entered)
    }

    fn drawn(&self, item: ItemId) -> impl Iterator<Item = &Order> {
        self.orders_of_item(item).filter(|order| order.drawn)
    }

    fn won(&self, item: ItemId) -> impl Iterator<Item = &Order> {
        self.drawn(item).filter(|order| order.view.state != OrderState::Lost)
    }

    fn is_drawing(&self, item: ItemId) -> bool {
        self.items[&item].drawn.is_some() && self.entered(item).count() > 0
    }

    /// How many items are amid their draw.
    pub(crate) fn drawing(&self) -> usize {
        self.items.keys().filter(|id| self.is_drawing(**id)).count()
    }

    pub(super) fn draw_due(&self, id: ItemId, now: UnixMillis) -> bool {
        let item = &self.items[&id];
        let reached = item.draws_at_ms().is_some_and(|draws_at| draws_at <= now);
        reached && item.drawn.is_none() && (!item.paused || item.closed || item.ended)
    }

    pub(super) fn frozen(&self, item: ItemId, now: UnixMillis) -> bool {
        self.draw_due(item, now) || self.is_drawing(item)
    }

    /// Items of a core whose draw is to be held or goes on.
    pub(super) fn due_draws(&self, core: usize, now: UnixMillis) -> Vec<ItemId> {
        let mine = self.items.keys().filter(|id| self.is_mine(core, **id));
        mine.filter(|id| self.frozen(**id, now)).copied().collect()
    }

    /// When the draws of a core are to be held that wait for nothing but the time.
    pub(crate) fn draws_ahead(&self, core: usize) -> Vec<UnixMillis> {
        let never = UnixMillis(u64::MAX);
        let due = self.due_draws(core, never).into_iter().filter(|id| self.items[id].drawn.is_none());
        due.filter_map(|id| self.items[&id].draws_at_ms()).collect()
    }

    /// The unpaid orders of a core whose time is up and that no draw holds up.
    pub(super) fn expiring(&self, core: usize, now: UnixMillis) -> Vec<(UnixMillis, OrderId)> {
        let due = self.due_orders(core, now).into_iter();
        due.filter(|(_, order)| !self.frozen(order.item(), now)).collect()
    }

    pub(super) fn draw_view(&self, id: ItemId) -> Option<DrawView> {
        let item = &self.items[&id];
        let held = item.drawn.map(|drawn| HeldView {
            drawn,
            seed: item.seed,
            winners: self.won(id).count() as u32,
            lsn: Lsn::ZERO,
        });
        Some(DrawView {
            draws_at_ms: item.draws_at_ms()?,
            commitment: sha256(&[b"stampede-draw-seed-1", &id.get().to_be_bytes(), &item.seed.0]),
            entered: self.entered(id).count() as u32,
            held,
        })
    }

    /// The entries that were drawn, when all of them were.
    pub(crate) fn draw_entries(&self, item: ItemId) -> Option<Vec<DrawEntry>> {
        self.items.get(&item)?.drawn?;
        if self.is_drawing(item) {
            return None;
        }
        let entry = |order: &Order| DrawEntry {
            order: order.view.order,
            quantity: order.view.quantity,
            won: order.view.state != OrderState::Lost,
        };
        Some(self.drawn(item).map(entry).collect())
    }

    pub(super) fn hold_draw(&mut self, now: UnixMillis, id: ItemId, said: (u32, u64, DrawSeed)) {
        assert!(self.draw_due(id, now), "the draw of item {id} was held out of its turn");
        let entries = self.entered(id).count() as u32;
        let item = &self.items[&id];
        let units = if item.closed || item.ended { 0 } else { self.available(id) };
        assert_eq!(said, (entries, units, item.seed));
        let last_seq = item.last_seq;
        let drawn = Drawn { at_ms: now, units, entries, last_seq };
        self.items.get_mut(&id).expect("it is due").drawn = Some(drawn);
        self.touch(id, now);
    }

    pub(super) fn draw_entry(
        &mut self,
        now: UnixMillis,
        order: OrderId,
        said: (Quantity, OrderState, UnixMillis),
    ) {
        let id = order.item();
        let item = &self.items[&id];
        let drawn = item.drawn.expect("entries are drawn after the draw was held");
        let rank = |order: &Order| {
            sha256(&[b"stampede-draw-1", &item.seed.0, &order.view.order.get().to_be_bytes()])
        };
        let next = self.entered(id).min_by_key(|order| rank(order)).expect("an entry is left");
        assert_eq!(next.view.order, order, "drawn before its turn");
        let left = drawn.units - self.won(id).map(units).sum::<u64>();
        let wins = units(next) <= left;
        let waits = wins && item.spec.payment != Payment::OnOrder && item.spec.hold_ms > 0;
        let to = if wins { first_state(item.spec.payment) } else { OrderState::Lost };
        let pay_by_ms = UnixMillis(if waits { now.0 + item.spec.hold_ms } else { 0 });
        assert_eq!(said, (next.view.quantity, to, pay_by_ms));
        let lsn = self.touch(id, now);
        let order = self.orders.get_mut(&order).expect("it is the next");
        order.drawn = true;
        order.view.state = to;
        order.view.state_lsn = lsn;
        order.view.pay_by_ms = pay_by_ms;
    }
}

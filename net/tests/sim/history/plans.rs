//! What a history begins with: the items on sale, and a database from before the log.

use super::{HOUR_MS, History};
use crate::coverage::{Fault, Step};
use crate::past::{Before, Past};

/// An item that the merchant puts on sale.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) id: u32,
    pub(super) body: String,
    pub(super) stock: u64,
    pub(super) draws: bool,
    pub(super) opens: u64,
    pub(super) closes: u64,
    pub(super) cap: u64,
    pub(super) payment: &'static str,
    pub(super) hold_ms: u64,
}

impl Plan {
    fn before(&self) -> Before<'_> {
        let Self { id, stock, opens, closes, cap, payment, hold_ms, .. } = *self;
        Before { id, stock, opens, closes, cap, payment, hold_ms }
    }
}

impl History<'_> {
    /// One or two items: small stock, every kind of payment, windows that may end during the history.
    pub(super) fn plan_items(&mut self) {
        for _ in 0..1 + self.rng.below(2) {
            let id = 1 + self.rng.below(40) as u32;
            if self.plans.iter().any(|plan| plan.id == id) {
                continue;
            }
            let (stock, cap) = (1 + self.rng.below(5), 1 + self.rng.below(2));
            let opens = self.wall_ms - HOUR_MS + self.rng.below(4) / 3 * (HOUR_MS + 20);
            let closes =
                self.wall_ms + if self.chance(250) { 200 + self.rng.below(800) } else { 100 * HOUR_MS };
            let payment = ["on_order", "hold", "on_payment"][self.rng.below(3) as usize];
            let hold_ms = if payment == "on_order" { 0 } else { 50 + self.rng.below(2_000) };
            // A draw has to be announced before the item opens.
            let (opens, closes, draw) = match self.chance(80) {
                true => (self.wall_ms + 60, self.wall_ms + 100 * HOUR_MS, 1_000),
                false => (opens, closes, 0),
            };
            let body = format!(
                "{{\"name\":\"n\",\"price_minor\":1,\"stock\":{stock},\"opens_at_ms\":{opens},\
                 \"closes_at_ms\":{closes},\"cap\":{cap},\"payment\":\"{payment}\",\"hold_ms\":{hold_ms},\
                 \"draw_ms\":{draw}}}"
            );
            self.plans.push(Plan { id, body, stock, draws: draw > 0, opens, closes, cap, payment, hold_ms });
        }
    }

    /// In some histories the database holds older items and orders that the log has never seen.
    pub(super) fn begin_with_a_past(&mut self) {
        let Some(desk) = &mut self.desk else { return };
        // The database knows nothing of a draw.
        let items: Vec<Before<'_>> = self.plans.iter().filter(|plan| !plan.draws).map(Plan::before).collect();
        desk.past = Past::of(self.seed, self.wall_ms, &items);
        if let Some(past) = &desk.past {
            past.write(&desk.database, &items);
            self.book.past = past.clone();
            self.cover.struck(Fault::DbPast, Step::Rest, None);
        }
    }
}

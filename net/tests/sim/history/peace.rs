//! The end of a history, without faults: the system comes to rest (I16), everything is sold under demand
//! (I19), and log, memory and database agree.

use stampede_net::http::route::Listener;

use super::History;
use super::plans::Plan;
use crate::book::{Red, ensure};
use crate::ledger::Desk;
use crate::shop::{Call, Fate, Intent};

/// Rounds after which a system at peace must be quiet.
const QUIET_ROUNDS_MAX: usize = 64;

impl History<'_> {
    /// No more faults: each open request gets its response, and the sums have to be right.
    pub(super) fn peace(&mut self) -> Result<(), Red> {
        self.disk.calm();
        self.disk.set_free_bytes(1 << 40);
        self.slow = 0;
        self.peaceful = true;
        self.desk.iter_mut().for_each(Desk::calm);
        self.fill_if_lacking()?;
        if !self.boot()? {
            ensure!(self.damaged, "I9 does not start although nothing is wrong");
            return Ok(());
        }
        self.links.clear();
        self.shop.begin_life();
        (0..self.cores).for_each(|core| self.connect(Listener::Public, core));
        self.connect(Listener::Merchant, 0);
        let plans = self.plans.clone();
        for plan in &plans {
            if !self.book.items.contains_key(&plan.id) {
                self.put_item(plan)?;
            }
            let (link, path) = (self.shop_link(), format!("/admin/items/{}/resume", plan.id));
            self.send(link, Call::Item(plan.id), |writer| writer.merchant("POST", &path, ""))?;
        }
        self.settle()?;
        self.audit()?;
        self.ask_once_more()?;
        self.drain()?;
        self.demand(&plans)?;
        self.drain()?;
        self.last_checks()
    }

    /// Only an answer of now is the last word on a key: whoever holds no order asks again, and
    /// as often as it takes.
    pub(super) fn ask_once_more(&mut self) -> Result<(), Red> {
        let intents = self.shop.intents.iter_mut().enumerate();
        let open = intents.filter(|(_, intent)| intent.keyed && !matches!(intent.fate, Fate::Acked(..)));
        let open: Vec<_> =
            open.map(|(at, intent)| (at, std::mem::replace(&mut intent.fate, Fate::Unknown))).collect();
        for (at, _) in &open {
            let (link, quantity) = (self.buyer_link(), self.shop.intents[*at].quantity);
            self.ask_to_buy_on(link, *at, quantity)?;
        }
        self.settle()?;
        for (at, _) in open {
            if self.shop.intents[at].fate == Fate::Unknown {
                self.insist(at)?;
            }
        }
        Ok(())
    }

    /// Lets everybody act until nothing changes any more.
    pub(super) fn settle(&mut self) -> Result<(), Red> {
        for _ in 0..QUIET_ROUNDS_MAX {
            (0..self.cores).for_each(|core| self.tick(core));
            for core in 0..self.cores {
                self.pump(core)?;
            }
            if !self.life().log.status.accepting() {
                self.make_room()?;
            }
            self.journal()?;
            for at in 0..self.links.len() {
                self.serve(at)?;
            }
            let open = self.links.iter().any(|link| !link.calls.is_empty());
            if !open && self.life().log.queue.is_empty() {
                return Ok(());
            }
        }
        Err("I16 the system does not come to rest".into())
    }

    /// What the threads beside the journal do by themselves when room runs out.
    pub(super) fn make_room(&mut self) -> Result<(), Red> {
        if self.life().log.maintenance.wants_snapshot() {
            self.snapshot()?;
        }
        self.trim()?;
        while matches!(self.life().log.maintenance.prepare_spare(), Ok(true)) {}
        Ok(())
    }

    pub(super) fn audit(&mut self) -> Result<(), Red> {
        self.life.as_ref().expect("called in a life").audit(&mut self.book)
    }

    /// Asks until there is a definite answer.
    pub(super) fn insist(&mut self, at: usize) -> Result<(), Red> {
        for _ in 0..8 {
            let (quantity, link) = (self.shop.intents[at].quantity, self.buyer_link());
            self.ask_to_buy_on(link, at, quantity)?;
            self.settle()?;
            if self.shop.intents[at].fate != Fate::Unknown || self.shop.intents[at].conflicting.is_some() {
                return Ok(());
            }
            let buyer = self.shop.intents[at].buyer;
            let (shop, path) = (self.shop_link(), format!("/admin/blocklist/b{buyer}"));
            self.shop.asks_block(buyer);
            self.send(shop, Call::Block(buyer, false), |writer| writer.merchant("DELETE", &path, ""))?;
            self.settle()?;
        }
        Err(format!("I16 k{at} gets no answer"))
    }

    /// More buyers than units: then everything is sold (I19).
    pub(super) fn demand(&mut self, plans: &[Plan]) -> Result<(), Red> {
        for plan in plans {
            if plan.draws && !self.book.items.contains_key(&plan.id) {
                // Too late for its announcement.
                continue;
            }
            for n in 0..plan.stock + 12 {
                let (buyer, item, fate) = (100 + n as u16, plan.id, Fate::Unknown);
                let intent = Intent { buyer, item, quantity: 1, keyed: true, fate, conflicting: None };
                self.shop.intents.push(intent);
                let at = self.shop.intents.len() - 1;
                self.insist(at)?;
                if self.shop.intents[at].fate == Fate::Refused {
                    break;
                }
            }
            let life = self.life.as_ref().expect("at peace");
            life.audit(&mut self.book)?;
            let row = self.book.items.get(&plan.id).ok_or("I16 an item cannot be made")?;
            let now = life.shared.clock.now().sale.0;
            let sells = !row.closed && !row.ended && !row.paused && (row.opens..row.closes).contains(&now);
            let draws = row.draws_at.is_some() && !row.drawn;
            let on_payment = row.payment == stampede_core::item::Payment::OnPayment;
            let left = self.book.available(plan.id);
            let sold_out = left == 0 || !sells || draws || on_payment;
            ensure!(sold_out, "I19 item {} has {left} units left under demand", plan.id);
        }
        Ok(())
    }

    pub(super) fn last_checks(&mut self) -> Result<(), Red> {
        let life = self.life.as_mut().expect("at peace");
        life.audit(&mut self.book)?;
        let durable = life.log.status.durable_lsn().0;
        ensure!(durable == self.book.lsn, "I9 the log can be read up to {} of {durable}", self.book.lsn);
        self.book.compare(life.homes.iter().map(|home| home.owner().shard()))?;
        self.shop.check_seen(&self.book)?;
        self.shop.check_rows(&self.book)?;
        if let Some(desk) = &self.desk {
            desk.check(&self.book)?;
        }
        self.count_database();
        self.life().log.journal.write_control(true);
        self.note_end_of_life()?;
        let (lsn, digest) = (self.book.lsn, self.expected.map_or(0, |expected| expected.0));
        self.trace.note("end", &[lsn, digest], || format!("LSN {lsn}, digest {digest:x}"));
        if self.chance(125) {
            self.links.clear();
            self.life = None;
            self.disk.cut();
            // A write that went astray may have left a group in the page cache alone, until now.
            let up = self.boot()? || self.damaged;
            ensure!(up, "I9 does not start after an orderly end");
        }
        Ok(())
    }
}

//! The simulated crowd: who wants what, what was asked, what came back, and what must follow.
//!
//! Nothing here looks into the engine. It knows requests and answers, and judges them
//! against each other, and in the end against the books.

use std::collections::BTreeMap;

use stampede_core::item::OrderState;

use crate::book::{Book, Red, ensure, leads_to};
use crate::wire::{Answer, Shown};

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Call {
    /// Intent, units, whether an answer to it was known already.
    Buy(usize, u64, bool),
    /// An order of a buyer.
    Read(u16),
    /// The orders of a buyer.
    List(u16),
    /// A buyer cancels.
    Cancel(u16),
    /// The merchant reads or moves an order.
    Move,
    /// The merchant reads or changes an item.
    Item(u32),
    /// The merchant blocks (true) or unblocks a buyer.
    Block(u16, bool),
    /// Something whose answer shows no fact.
    Other,
}

/// What became of an intent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Unknown,
    Acked(u64, u64),
    Refused,
}

/// A purchase that somebody wants, under one idempotency key (or none, and then once).
pub(crate) struct Intent {
    pub(crate) buyer: u16,
    pub(crate) item: u32,
    pub(crate) quantity: u64,
    pub(crate) keyed: bool,
    pub(crate) fate: Fate,
    /// Whether another quantity was sent under the same key.
    pub(crate) conflicting: Option<u64>,
}

/// An order that somebody was shown.
struct Seen {
    buyer: Option<u16>,
    shown: Shown,
    state: OrderState,
}

#[derive(Default)]
pub(crate) struct Shop {
    pub(crate) intents: Vec<Intent>,
    seen: BTreeMap<u64, Seen>,
    /// Versions of items that the merchant was shown.
    versions: BTreeMap<u32, u64>,
    /// Who is known to be blocked or not; nothing while a change is under way.
    blocked: BTreeMap<u16, bool>,
    /// Changes of the blocklist that are under way, by buyer.
    blocking: BTreeMap<u16, u32>,
}

fn name(buyer: u16) -> Vec<u8> {
    format!("b{buyer}").into_bytes()
}

impl Shop {
    /// Orders that were shown, of a buyer or of all.
    pub(crate) fn known(&self, buyer: Option<u16>) -> Vec<u64> {
        let of = |seen: &Seen| buyer.is_none_or(|buyer| seen.buyer == Some(buyer));
        self.seen.iter().filter(|(_, seen)| of(seen)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn acked(&self) -> u64 {
        self.intents.iter().filter(|intent| matches!(intent.fate, Fate::Acked(..))).count() as u64
    }

    /// A change of the blocklist is asked for.
    pub(crate) fn asks_block(&mut self, buyer: u16) {
        self.blocked.remove(&buyer);
        *self.blocking.entry(buyer).or_default() += 1;
    }

    /// Nothing is under way any more.
    pub(crate) fn begin_life(&mut self) {
        self.blocking.clear();
    }

    /// Whether the buyer may be blocked.
    fn may_be_blocked(&self, buyer: u16) -> bool {
        self.blocked.get(&buyer) != Some(&false)
    }

    fn see(&mut self, buyer: Option<u16>, shown: Shown, durable: u64) -> Result<(), Red> {
        let Some(state) = shown.state else { return Ok(()) };
        ensure!(shown.lsn <= durable, "I3 order {} of LSN {} shown, durable {durable}", shown.id, shown.lsn);
        let seen = self.seen.entry(shown.id).or_insert(Seen { buyer, shown, state });
        let (was, is) = (seen.shown, shown);
        let same = (was.quantity, was.created, was.lsn) == (is.quantity, is.created, is.lsn);
        ensure!(same, "I5 order {} was shown as {was:?} and as {is:?}", shown.id);
        let repriced = was.price.zip(is.price).is_some_and(|(was, is)| was != is);
        ensure!(!repriced, "I20 order {} was shown as {was:?} and as {is:?}", shown.id);
        let stranger = seen.buyer.zip(buyer).is_some_and(|(was, is)| was != is);
        ensure!(!stranger, "I7 order {} was shown to two buyers", shown.id);
        seen.buyer = seen.buyer.or(buyer);
        if leads_to(seen.state, state) {
            seen.state = state;
        } else {
            let late = leads_to(state, seen.state);
            ensure!(late, "I8 order {} was {:?} and is shown as {state:?}", shown.id, seen.state);
        }
        Ok(())
    }

    /// An answer has come.
    pub(crate) fn answered(&mut self, call: Call, answer: &Answer<'_>, durable: u64) -> Result<(), Red> {
        ensure!(answer.status != 500, "I16 an unforeseen error: {}", answer.body.escape_ascii());
        let fine = answer.status < 300;
        match call {
            Call::Buy(intent, quantity, known) => self.bought(intent, quantity, known, answer, durable)?,
            Call::Read(buyer) | Call::Cancel(buyer) if fine => {
                let shown = answer.order().ok_or("I15 no order in the answer")?;
                self.see(Some(buyer), shown, durable)?;
            }
            Call::List(buyer) if fine => {
                for shown in answer.orders() {
                    self.see(Some(buyer), shown, durable)?;
                }
            }
            Call::Move if fine => {
                let shown = answer.order().ok_or("I15 no order in the answer")?;
                self.see(None, shown, durable)?;
            }
            Call::Item(item) if fine => {
                let version = answer.number("version").unwrap_or(0);
                let known = self.versions.entry(item).or_default();
                *known = version.max(*known);
            }
            Call::Block(buyer, blocked) => {
                let under_way = self.blocking.entry(buyer).or_default();
                *under_way = under_way.saturating_sub(1);
                if fine && *under_way == 0 {
                    self.blocked.insert(buyer, blocked);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn bought(
        &mut self,
        at: usize,
        quantity: u64,
        known: bool,
        answer: &Answer<'_>,
        durable: u64,
    ) -> Result<(), Red> {
        let may_be_blocked = self.may_be_blocked(self.intents[at].buyer);
        let (fate, conflicting) = (self.intents[at].fate, self.intents[at].conflicting);
        let code = answer.text("code");
        match answer.status {
            200..=299 => {
                let shown = answer.order().ok_or("I15 no order in the answer")?;
                ensure!(shown.quantity == quantity, "I5 k{at}: {quantity} asked for, {shown:?}");
                if shown.state.is_some() {
                    self.see(Some(self.intents[at].buyer), shown, durable)?;
                    let ack = Fate::Acked(shown.id, quantity);
                    let agrees = !matches!(fate, Fate::Acked(..)) || fate == ack;
                    ensure!(agrees, "I5 k{at} was answered {fate:?} and now {ack:?}");
                    self.intents[at].fate = ack;
                }
            }
            503 | 429 => {}
            422 => ensure!(conflicting.is_some(), "I5 k{at}: {code} for one payload"),
            _ => {
                // The blocklist comes before everything else.
                let excused = code == "not_eligible" && may_be_blocked;
                let own = matches!(fate, Fate::Acked(_, acked) if acked == quantity);
                ensure!(!known || !own || excused, "I5 a winner's retry of k{at} was refused: {code}");
                let final_word = quantity == self.intents[at].quantity && conflicting.is_none();
                if fate == Fate::Unknown && (final_word || !self.intents[at].keyed) && !excused {
                    self.intents[at].fate = Fate::Refused;
                }
                if code == "cap_reached"
                    && let Some(order) = answer.number("order_id")
                {
                    self.names(order, self.intents[at].buyer, durable)?;
                }
            }
        }
        Ok(())
    }

    /// A refusal names an order.
    fn names(&mut self, order: u64, buyer: u16, _durable: u64) -> Result<(), Red> {
        let known = self.seen.get(&order).and_then(|seen| seen.buyer);
        ensure!(known.is_none_or(|known| known == buyer), "I7 order {order} is named to a stranger");
        Ok(())
    }

    /// Everything that anybody was shown is in the books (I2, I3).
    pub(crate) fn check_seen(&self, book: &Book) -> Result<(), Red> {
        for (id, seen) in &self.seen {
            let order = book.orders.get(id).ok_or_else(|| format!("I2 order {id} was shown and is lost"))?;
            let same = (order.quantity, order.created, order.lsn)
                == (seen.shown.quantity, seen.shown.created, seen.shown.lsn);
            ensure!(same, "I2 order {id} was shown as {:?}, the log says {order:?}", seen.shown);
            let state = leads_to(seen.state, order.state);
            ensure!(state, "I3 order {id} was shown {:?}, the log says {:?}", seen.state, order.state);
            let buyer = seen.buyer.is_none_or(|buyer| *order.buyer == *name(buyer));
            ensure!(buyer, "I7 order {id} was shown to {:?}, the log says {order:?}", seen.buyer);
        }
        for (item, version) in &self.versions {
            let found = book.items.get(item).map_or(0, |row| row.version);
            ensure!(found >= *version, "I3 item {item} was shown at version {version}, the log has {found}");
        }
        for (buyer, blocked) in &self.blocked {
            let found = book.blocked.contains(&*name(*buyer));
            ensure!(found == *blocked, "I3 blocking of b{buyer}: {blocked} was acked, {found} is in the log");
        }
        Ok(())
    }

    /// Rows ⊆ ok ∪ unknown; every refusal stands; nobody got what nobody asked for.
    pub(crate) fn check_rows(&self, book: &Book) -> Result<(), Red> {
        let mut keyless: BTreeMap<(u16, u32, u64), i64> = BTreeMap::new();
        for intent in self.intents.iter().filter(|intent| !intent.keyed && intent.fate != Fate::Refused) {
            *keyless.entry((intent.buyer, intent.item, intent.quantity)).or_default() += 1;
        }
        for (id, order) in book.orders.iter().filter(|(_, order)| !order.imported) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let buyer: u16 =
                text(&order.buyer)[1..].parse().map_err(|_| format!("I7 order {id}: {order:?}"))?;
            if order.key.is_empty() {
                let left = keyless.entry((buyer, (id >> 32) as u32, order.quantity)).or_default();
                *left -= 1;
                ensure!(*left >= 0, "I7 order {id} of nobody's request: {order:?}");
                continue;
            }
            let at = text(&order.key)[1..].parse().unwrap_or(usize::MAX);
            let intent = self.intents.get(at).ok_or_else(|| format!("I7 order {id}: {order:?}"))?;
            let asked = [Some(intent.quantity), intent.conflicting].contains(&Some(order.quantity));
            let same = asked && (intent.buyer, u64::from(intent.item)) == (buyer, id >> 32);
            ensure!(same, "I7 order {id} is not what k{at} asked for: {order:?}");
            ensure!(intent.fate != Fate::Refused, "I5 k{at} was refused and has order {id}");
            let other = matches!(intent.fate, Fate::Acked(acked, _) if acked != *id);
            ensure!(!other, "I5 k{at} was answered {:?} and has order {id}", intent.fate);
        }
        for (at, intent) in self.intents.iter().enumerate() {
            if let Fate::Acked(order, _) = intent.fate {
                ensure!(book.orders.contains_key(&order), "I2 k{at} was acked as {order}, which is lost");
            }
        }
        Ok(())
    }
}

//! The engine and the model side by side: takes a step in both and compares.

use std::collections::BTreeMap;

use stampede_core::command::{Command, ItemPatch, ItemView, OrderView, Outcome, Purchase, Ticket};
use stampede_core::draw::{DrawEntry, DrawSeed, DrawView};
use stampede_core::fact::ACTOR_POSTGRES;
use stampede_core::item::ItemSpec;
use stampede_core::shard::Shard;
use stampede_core::types::{BuyerHash, ItemId, Lsn, OrderId, Quantity, UnixMillis};

use crate::engine::{Engine, SECRET};
use crate::model::{Model, Owner};
use crate::record::keep_audit;
use crate::trace::{BUYERS, Edge, ITEMS, Patch, Step};

const KEYS: [&[u8]; 9] = [b"", b"k1", b"k2", b"k3", b"k4", b"k5", b"k6", b"k7", b"k8"];
const REFERENCES: [&[u8]; 3] = [b"", b"pay-1", b"pay-2"];
const STARTS_AT: UnixMillis = UnixMillis(1_000);

pub(crate) struct World {
    pub(crate) now: UnixMillis,
    pub(crate) engine: Engine,
    pub(crate) model: Model,
    /// What each item's page showed last, and under which version.
    pages: BTreeMap<ItemId, (ItemSpec<'static>, u8, u32)>,
    /// What each item's page showed under each LSN that it was told apart by, in all lives.
    tagged: BTreeMap<(ItemId, Lsn), (ItemSpec<'static>, u8, Option<DrawView>)>,
}

pub(crate) fn item_id(item: u64) -> ItemId {
    ItemId::new(item).expect("a small number")
}

pub(crate) fn subject(buyer: u8) -> [u8; 1] {
    [b'A' + buyer]
}

pub(crate) fn buyer_hash(buyer: u8) -> BuyerHash {
    SECRET.buyer(&subject(buyer))
}

fn shifted(time: UnixMillis, by_ms: i64) -> UnixMillis {
    UnixMillis(time.0.saturating_add_signed(by_ms))
}

impl World {
    pub(crate) fn new(cores: usize) -> Self {
        let (engine, model) = (Engine::new(cores), Model::new(cores));
        Self { now: STARTS_AT, engine, model, pages: BTreeMap::new(), tagged: BTreeMap::new() }
    }

    /// Takes a step in both and compares what it came to; the outcome, if it was a command.
    pub(crate) fn take(&mut self, step: &Step) -> Option<Outcome> {
        match *step {
            Step::Buy { item, buyer, quantity, key, ticket } => {
                let key = KEYS[usize::from(key)];
                return Some(self.buy(item_id(item), buyer, quantity, key, ticket));
            }
            Step::CancelOwn { item, back, own, buyer } => {
                let order = self.pick(item_id(item), back);
                let owner = self.model.orders.get(&order).filter(|_| own);
                let buyer = owner.map_or(buyer_hash(buyer), |order| SECRET.buyer(order.buyer));
                return Some(self.command(&Command::CancelOwn { order, buyer }));
            }
            Step::Tick { budget } => self.tick(budget),
            Step::Forward(ms) => self.now.0 += ms,
            Step::Back(ms) => self.now.0 = self.now.0.saturating_sub(ms),
            Step::At { item, edge, offset } => self.jump(item_id(item), edge, offset),
            Step::Restart { cores, from_rows } => self.restart(cores, from_rows),
            _ => return Some(self.merchant(step)),
        }
        None
    }

    fn merchant(&mut self, step: &Step) -> Outcome {
        let actor = "10.0.0.7";
        match *step {
            Step::Move { item, back, movement, reference } => {
                let order = self.pick(item_id(item), back);
                let payment_ref = REFERENCES[usize::from(reference)];
                self.command(&Command::Move { order, movement, payment_ref, actor })
            }
            Step::Put { item, ref patch } => {
                let patch = self.patch(patch);
                let seed = self.fresh_seed();
                self.command(&Command::PutItem { item: item_id(item), patch, seed, actor })
            }
            Step::Adjust { item, delta } => {
                self.command(&Command::AdjustStock { item: item_id(item), delta, actor, key: b"" })
            }
            Step::Switch { item, switch, by_postgres } => {
                let actor = if by_postgres { ACTOR_POSTGRES } else { actor };
                self.command(&Command::SwitchItem { item: item_id(item), switch, actor, key: b"" })
            }
            Step::Block { buyer, blocked } => {
                self.command(&Command::BlockBuyer { subject: &subject(buyer), blocked, actor })
            }
            _ => panic!("not the merchant's: {step:?}"),
        }
    }

    pub(crate) fn buy(
        &mut self,
        item: ItemId,
        buyer: u8,
        quantity: u64,
        key: &[u8],
        ticket: Ticket,
    ) -> Outcome {
        self.command(&Command::Purchase(Purchase {
            item,
            buyer: buyer_hash(buyer),
            subject: &subject(buyer),
            quantity: Quantity::new(quantity).expect("a small number"),
            key,
            ticket,
        }))
    }

    fn command(&mut self, command: &Command<'_>) -> Outcome {
        let expected = self.model.decide(self.now, command);
        let outcome = self.engine.decide(self.now, command);
        assert!(
            expected.allows(&outcome),
            "at {:?}, {command:?}:\n  model  {expected:?}\n  engine {outcome:?}",
            self.now
        );
        outcome
    }

    /// The order that lies so far behind the item's newest; `back` 0 is one that does not exist yet.
    fn pick(&self, item: ItemId, back: u32) -> OrderId {
        let newest = self.model.items.get(&item).map_or(0, |item| item.last_seq);
        OrderId::new(item, (newest + 1).saturating_sub(back))
    }

    fn patch<'a>(&self, patch: &'a Patch) -> ItemPatch<'a> {
        ItemPatch {
            name: patch.name.as_deref(),
            price_minor: patch.price_minor,
            currency: patch.currency,
            stock: patch.stock,
            opens_at_ms: patch.opens_in_ms.map(|ms| shifted(self.now, ms)),
            closes_at_ms: patch.closes_in_ms.map(|ms| shifted(self.now, ms)),
            cap: patch.cap,
            payment: patch.payment,
            hold_ms: patch.hold_ms,
            ticket: patch.ticket,
            challenge: patch.challenge,
            min_level: patch.min_level,
            min_account_age_s: None,
            admit_per_s: patch.admit_per_s,
            draw_ms: patch.draw_ms,
        }
    }

    /// Another one for each command, the same in each run of a history.
    fn fresh_seed(&self) -> DrawSeed {
        let mut seed = [0x5A; 32];
        seed[..8].copy_from_slice(&(self.engine.log.facts.len() as u64).to_le_bytes());
        DrawSeed(seed)
    }

    fn jump(&mut self, item: ItemId, edge: Edge, offset: i64) {
        let Some(row) = self.model.items.get(&item) else { return };
        let moment = match edge {
            Edge::Opens => Some(row.spec.opens_at_ms),
            Edge::Draws => row.draws_at_ms(),
            Edge::Closes => Some(row.spec.closes_at_ms).filter(|closes| closes.0 < self.now.0 + 2_000),
            Edge::PayBy => {
                let deadlines = self.model.orders_of_item(item).map(|order| order.view.pay_by_ms);
                deadlines.filter(|&deadline| deadline > self.now).min()
            }
        };
        self.now = moment.map_or(self.now, |moment| shifted(moment, offset));
    }

    fn tick(&mut self, budget: usize) {
        for core in 0..self.engine.cores() {
            self.model.tick(core, self.now, budget, self.engine.tick(core, self.now, budget));
            self.check_next_due(core);
        }
    }

    /// Never later than the first thing that is due: an owner may sleep until then.
    fn check_next_due(&self, core: usize) {
        let next = self.engine.shards[core].next_due();
        let orders = self.model.due_orders(core, UnixMillis(u64::MAX));
        let windows = self.model.due_windows(core, UnixMillis(u64::MAX));
        let closes = windows.into_iter().map(|id| self.model.items[&id].spec.closes_at_ms);
        let draws = self.model.draws_ahead(core);
        let first = orders.into_iter().map(|(due, _)| due).chain(closes).chain(draws).min();
        if let Some(first) = first {
            assert!(next.is_some_and(|next| next <= first), "sleeps until {next:?}, due at {first:?}");
        }
    }

    fn restart(&mut self, cores: usize, from_rows: bool) {
        let (digest, rows) = (self.engine.digest(), self.engine.rows());
        let engine = &mut self.engine;
        (if from_rows { Engine::reload } else { Engine::replay })(engine, cores);
        assert_eq!(self.engine.digest(), digest, "digest after a restart, from rows: {from_rows}");
        assert_eq!(self.engine.rows(), rows, "rows after a restart, from rows: {from_rows}");
        let owner = |shard: &Shard| Owner { clock: shard.clock(), lsn: shard.lsn() };
        let owners: Vec<Owner> = self.engine.shards.iter().map(owner).collect();
        // Versions of pages begin anew with a process.
        self.pages.clear();
        self.check_clocks(&owners);
        self.model.owners = owners;
        self.check_all();
    }

    /// No restart turns a sale's clock back (I14).
    fn check_clocks(&self, owners: &[Owner]) {
        for (lsn, fact) in &self.engine.log.facts {
            let cores = fact.item().map_or(0..owners.len(), |item| {
                let owner = item.owner(owners.len());
                owner..owner + 1
            });
            for owner in &owners[cores] {
                assert!(owner.clock >= fact.at_ms() && owner.lsn >= *lsn, "forgot {fact:?}");
            }
        }
    }

    // ---- comparisons ----

    /// Compares every item: its piles, its settings, its gauge.
    pub(crate) fn check_items(&mut self) {
        for item in (1..=ITEMS).map(item_id) {
            let view = self.engine.owner(item).item(item).map(|view| without_draw_lsn(&view));
            let gauge = self.engine.owner(item).catalogue().find(item);
            let shown_version = gauge.map_or(0, |gauge| gauge.version());
            let shown_lsn = view.map_or(Lsn::ZERO, |view| view.shown_lsn);
            let expected = self.model.view(item).map(|view| ItemView { shown_version, shown_lsn, ..view });
            assert_eq!(view, expected);
            if let Some(view) = expected {
                let page = (view.spec, view.flags, shown_version);
                let before = self.pages.insert(item, page).unwrap_or(page);
                let changed = (before.0, before.1) != (page.0, page.1);
                assert!(!changed || before.2 < page.2, "{item} changed under version {}", page.2);
                // The result of a draw shows when the last entry is drawn, and how many wait never does.
                let draw = view.draw.map(|draw| DrawView {
                    held: draw.held.filter(|_| draw.entered == 0),
                    entered: 0,
                    ..draw
                });
                let page = (view.spec, view.flags, draw);
                let before = *self.tagged.entry((item, shown_lsn)).or_insert(page);
                assert_eq!(before, page, "{item} shows something else under LSN {shown_lsn}");
            }
            assert_eq!(gauge.map(|gauge| gauge.stock.available()), expected.map(|view| view.available));
            assert_eq!(gauge.map(|gauge| gauge.epoch()), expected.map(|view| view.epoch));
            if let Some(view) = view {
                assert_eq!(view.granted, view.available + view.held + view.sold, "conservation of {item}");
            }
        }
    }

    /// Compares everything that can be read, lists included.
    pub(crate) fn check_all(&mut self) {
        self.check_items();
        for buyer in 0..BUYERS {
            let blocked = self.model.blocked.contains(&subject(buyer)[..]);
            let shards = &self.engine.shards;
            assert!(shards.iter().all(|shard| shard.is_blocked(buyer_hash(buyer)) == blocked));
            self.check_orders_of(buyer);
        }
        self.check_merchant_lists();
        self.check_draws();
        let mut audit: Vec<_> = self
            .engine
            .shards
            .iter()
            .flat_map(|shard| shard.audit_after(Lsn::ZERO))
            .map(|r| keep_audit(&r))
            .collect();
        audit.sort_by_key(|row| row.lsn);
        assert_eq!(audit, self.model.audit);
    }

    fn check_orders_of(&self, buyer: u8) {
        let all: Vec<OrderView> = self.expected(|_, whose| *whose == subject(buyer));
        for (core, shard) in self.engine.shards.iter().enumerate() {
            let here = |view: &&OrderView| view.order.item().owner(self.engine.cores()) == core;
            for ((after, limit), item) in self.pages().into_iter().zip((0..3).cycle().map(ItemId::new)) {
                let page = shard.orders_of(buyer_hash(buyer), item, after, limit);
                let page: Vec<_> = page.iter().map(|order| order.order).collect();
                let mine = all.iter().filter(here).filter(|view| view.order.get() > after);
                let mine = mine.filter(|view| item.is_none_or(|item| item == view.order.item()));
                assert_eq!(page, mine.take(limit).copied().collect::<Vec<_>>(), "orders of a buyer");
            }
            for view in all.iter().filter(here) {
                assert_eq!(shard.order_of(buyer_hash(buyer), view.order), Some(*view));
                assert_eq!(shard.order_of(buyer_hash(BUYERS), view.order), None);
                assert_eq!(shard.order(view.order).map(|o| o.subject), Some(&subject(buyer)[..]));
            }
        }
    }

    fn check_merchant_lists(&self) {
        for (core, shard) in self.engine.shards.iter().enumerate() {
            let here = |item: ItemId| item.owner(self.engine.cores()) == core;
            for (after, limit) in self.pages() {
                for item in (0..=ITEMS).map(ItemId::new) {
                    let all = self.expected(|view, _| {
                        here(view.order.item()) && item.is_none_or(|i| i == view.order.item())
                    });
                    let expected: Vec<_> =
                        all.into_iter().filter(|view| view.order.get() > after).take(limit).collect();
                    let page: Vec<_> =
                        shard.orders_after(item, after, limit).iter().map(|o| o.order).collect();
                    assert_eq!(page, expected, "orders of {item:?} after {after}");
                }
            }
            let items: Vec<_> = shard.items_after(2, 3).map(|view| view.item).collect();
            let expected = self.model.items.keys().filter(|id| here(**id) && id.get() > 2).take(3);
            assert_eq!(items, expected.copied().collect::<Vec<_>>());
        }
        let counts = self.engine.shards.iter().map(Shard::counts);
        let counts = counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        assert_eq!(counts, (self.model.items.len(), self.model.orders.len()));
    }

    /// Compares the entries of every draw that is over, page by page.
    fn check_draws(&self) {
        for item in (1..=ITEMS).map(item_id) {
            let expected = self.model.draw_entries(item);
            for limit in [1, 3, 1_000] {
                assert_eq!(self.drawn_entries(item, limit), expected, "entries of item {item} by {limit}");
            }
        }
    }

    fn drawn_entries(&self, item: ItemId, limit: usize) -> Option<Vec<DrawEntry>> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let (entries, next) = self.engine.owner(item).draw_entries(item, after, limit)?;
            assert!(entries.len() <= limit);
            all.extend(entries);
            let Some(next) = next else { return Some(all) };
            assert!(next.get() > after, "a page that goes nowhere");
            after = next.get();
        }
    }

    fn expected(&self, wanted: impl Fn(&OrderView, &&[u8]) -> bool) -> Vec<OrderView> {
        let orders = self.model.orders.values().filter(|order| wanted(&order.view, &order.buyer));
        orders.map(|order| order.view).collect()
    }

    /// Where a reader may go on, and how much at once: from the start, amid and after all.
    fn pages(&self) -> Vec<(u64, usize)> {
        let some = self.model.orders.keys().nth(self.model.orders.len() / 2).map_or(0, |id| id.get());
        vec![(0, usize::MAX), (0, 3), (some, 4), (some + (1 << 32), 5), (u64::MAX, 1)]
    }
}

/// Which fact of a draw was the last is not kept over a restart: all is durable then.
fn without_draw_lsn<'a>(view: &ItemView<'a>) -> ItemView<'a> {
    let mut view = *view;
    if let Some(held) = view.draw.as_mut().and_then(|draw| draw.held.as_mut()) {
        held.lsn = Lsn::ZERO;
    }
    view
}

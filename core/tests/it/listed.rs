//! The list for buyers: its order, and that nobody who goes through it page by page misses anything,
//! whatever changes between two pages.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use stampede_core::command::{Command, ItemPatch, Outcome};
use stampede_core::draw::DrawSeed;
use stampede_core::fact::Switch;
use stampede_core::gauge::ItemState;
use stampede_core::place::Place;
use stampede_core::types::{ItemId, UnixMillis};

use crate::engine::Engine;
use crate::world::item_id;

const ACTOR: &str = "10.0.0.7";
/// Items have their windows in the first so many milliseconds.
const TIME: u64 = 1_000;

/// What happens between two pages.
#[derive(Clone, Debug)]
enum Event {
    Passes(u64),
    Close(u64),
    Pause(u64),
    Resume(u64),
    Price(u64),
    Restock(u64),
    Add(u64, u64, u64),
    /// The window moves: this item may come twice, or not at all.
    Move(u64, u64, u64),
    Restart(usize, bool),
}

struct Shop {
    engine: Engine,
    now: u64,
    /// The windows, as they were given.
    windows: BTreeMap<ItemId, (u64, u64)>,
    closed: BTreeSet<ItemId>,
    moved: BTreeSet<ItemId>,
}

impl Shop {
    fn new(cores: usize) -> Self {
        let (windows, closed, moved) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { engine: Engine::new(cores), now: 1, windows, closed, moved }
    }

    fn put(&mut self, item: ItemId, patch: ItemPatch<'_>) -> bool {
        let seed = DrawSeed::NONE;
        let put = Command::PutItem { item, patch, seed, actor: ACTOR };
        matches!(self.engine.decide(UnixMillis(self.now), &put), Outcome::Done { .. })
    }

    fn window(&mut self, item: ItemId, opens: u64, lasts: u64) -> bool {
        let (opens_at_ms, closes_at_ms) = (opens, opens + 1 + lasts);
        let patch = ItemPatch {
            name: Some("x"),
            stock: (!self.windows.contains_key(&item)).then_some(9),
            opens_at_ms: Some(UnixMillis(opens_at_ms)),
            closes_at_ms: Some(UnixMillis(closes_at_ms)),
            ..ItemPatch::default()
        };
        let done = self.put(item, patch);
        if done {
            self.windows.insert(item, (opens_at_ms, closes_at_ms));
        }
        done
    }

    fn switch(&mut self, item: ItemId, switch: Switch) -> bool {
        let call = Command::SwitchItem { item, switch, actor: ACTOR, key: b"" };
        matches!(self.engine.decide(UnixMillis(self.now), &call), Outcome::Done { .. })
    }

    fn take(&mut self, event: &Event) {
        match *event {
            Event::Passes(ms) => self.now += ms,
            Event::Close(item) => {
                if self.switch(item_id(item), Switch::Closed) {
                    self.closed.insert(item_id(item));
                }
            }
            Event::Pause(item) => drop(self.switch(item_id(item), Switch::Paused)),
            Event::Resume(item) => drop(self.switch(item_id(item), Switch::Resumed)),
            Event::Price(price) => {
                let item = item_id(price % 30 + 1);
                if self.windows.contains_key(&item) {
                    self.put(item, ItemPatch { price_minor: Some(price), ..ItemPatch::default() });
                }
            }
            Event::Restock(item) => {
                let (item, delta) = (item_id(item), 5);
                let call = Command::AdjustStock { item, delta, actor: ACTOR, key: b"" };
                self.engine.decide(UnixMillis(self.now), &call);
            }
            Event::Add(item, opens, lasts) => {
                if !self.windows.contains_key(&item_id(item)) {
                    self.window(item_id(item), opens, lasts);
                }
            }
            Event::Move(item, opens, lasts) => {
                if self.windows.contains_key(&item_id(item)) && self.window(item_id(item), opens, lasts) {
                    self.moved.insert(item_id(item));
                }
            }
            Event::Restart(cores, true) => self.engine.replay(cores),
            Event::Restart(cores, false) => self.engine.reload(cores),
        }
        for core in 0..self.engine.cores() {
            while !self.engine.tick(core, UnixMillis(self.now), 100).is_empty() {}
        }
    }

    /// A page as a home makes it: each owner's part, put together.
    fn page(&self, behind: Option<Place>, limit: usize) -> Vec<(Place, ItemState)> {
        let parts = self.engine.shards.iter().flat_map(|shard| shard.items_listed(behind, limit + 1));
        let mut all: Vec<_> = parts.map(|view| (view.place(), self.state(view.item))).collect();
        all.sort_unstable_by_key(|(place, _)| *place);
        all.truncate(limit);
        all
    }

    /// From what was asked for, not from what the shards keep.
    fn state(&self, item: ItemId) -> ItemState {
        let (opens, closes) = self.windows[&item];
        match () {
            () if self.closed.contains(&item) || self.now >= closes => ItemState::Ended,
            () if self.now < opens => ItemState::Upcoming,
            () => ItemState::Open,
        }
    }

    /// Where it belongs: what is on sale, then what is upcoming, each by when it opens; then what is over.
    fn belongs(&self, item: ItemId) -> (u8, i64, ItemId) {
        let (opens, closes) = self.windows[&item];
        match self.state(item) {
            ItemState::Ended => (2, -(closes as i64), item),
            ItemState::Upcoming => (1, opens as i64, item),
            _ => (0, opens as i64, item),
        }
    }

    fn existing(&self) -> BTreeSet<ItemId> {
        self.windows.keys().copied().collect()
    }
}

fn event() -> impl Strategy<Value = Event> {
    let item = 1..30u64;
    prop_oneof![
        4 => (1..120u64).prop_map(Event::Passes),
        1 => item.clone().prop_map(Event::Close),
        1 => item.clone().prop_map(Event::Pause),
        1 => item.clone().prop_map(Event::Resume),
        1 => (1..1_000u64).prop_map(Event::Price),
        1 => item.clone().prop_map(Event::Restock),
        2 => (item.clone(), 0..TIME, 0..TIME).prop_map(|(item, opens, lasts)| Event::Add(item, opens, lasts)),
        1 => (item, 0..TIME, 0..TIME).prop_map(|(item, opens, lasts)| Event::Move(item, opens, lasts)),
        1 => (1..4usize, any::<bool>()).prop_map(|(cores, log)| Event::Restart(cores, log)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Page by page while time passes and the shop changes things: each page is in order; what existed all
    /// the while comes; and what comes twice has ended in between.
    #[test]
    fn nothing_is_missed_in_the_list_for_buyers(
        cores in 1..4usize,
        first in prop::collection::vec((1..30u64, 0..TIME, 0..TIME), 0..25),
        events in prop::collection::vec(prop::collection::vec(event(), 0..4), 0..30),
        limit in 1..6usize,
    ) {
        let mut shop = Shop::new(cores);
        let asked: BTreeSet<u64> = first.iter().map(|(item, ..)| *item).collect();
        for (item, opens, lasts) in first {
            shop.take(&Event::Add(item, opens, lasts + 1));
        }
        let before = shop.existing();
        prop_assert_eq!(before.len(), asked.len());
        let on_sale = |shop: &Shop| -> BTreeSet<ItemId> {
            before.iter().copied().filter(|&item| shop.state(item) == ItemState::Open).collect()
        };
        let mut always_on_sale = on_sale(&shop);
        let (mut seen, mut behind, mut events) = (BTreeMap::<ItemId, Vec<ItemState>>::new(), None, events.iter());
        loop {
            let page = shop.page(behind, limit);
            let mut sorted = page.clone();
            sorted.sort_unstable_by_key(|(place, _)| shop.belongs(place.item()));
            prop_assert_eq!(&page, &sorted, "at {}", shop.now);
            for (place, state) in &page {
                let item = place.item();
                let gauge = shop.engine.owner(item).item(item).expect("listed").place();
                prop_assert_eq!(gauge, *place);
                seen.entry(item).or_default().push(*state);
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == limit) else { break };
            behind = Some(*last);
            for event in events.next().into_iter().flatten() {
                shop.take(event);
                always_on_sale.retain(|&item| shop.state(item) == ItemState::Open);
            }
        }
        for item in before.difference(&shop.moved) {
            let states = seen.get(item).map_or(&[][..], Vec::as_slice);
            match states {
                [_] => {}
                [first, ItemState::Ended] if *first != ItemState::Ended => {}
                _ => prop_assert!(false, "item {item} came as {states:?}"),
            }
            prop_assert!(!always_on_sale.contains(item) || states.len() == 1, "item {item}: {states:?}");
        }
    }
}

/// Many that are over come before those on sale by number, and do not in the list; a walk to the first on
/// sale looks at none of them.
#[test]
fn what_is_over_holds_up_nothing_in_the_list() {
    let mut shop = Shop::new(2);
    for item in 1..=300 {
        shop.take(&Event::Add(item, item % 7, 3));
    }
    shop.take(&Event::Passes(50));
    shop.take(&Event::Add(400, 40, 1_000));
    shop.take(&Event::Add(350, 45, 1_000));
    shop.take(&Event::Add(330, 500, 1_000));
    shop.take(&Event::Add(340, 400, 1_000));
    let listed = |shop: &Shop, limit| -> Vec<u32> {
        shop.page(None, limit).into_iter().map(|(place, _)| place.item().get()).collect()
    };
    // Closes at 10 and 11 come last; of those that closed together the lowest number comes first.
    assert_eq!(listed(&shop, 6), [400, 350, 340, 330, 6, 13]);
    shop.take(&Event::Close(350));
    assert_eq!(listed(&shop, 5), [400, 340, 330, 350, 6]);
    // An item whose end is put off is on sale again.
    shop.take(&Event::Move(6, 6, 1_000));
    assert_eq!(listed(&shop, 4), [6, 400, 340, 330]);
}

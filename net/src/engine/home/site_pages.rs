//! The sale pages that a core has rendered: once per change and language, sent to everybody.
//!
//! They contain nothing about a buyer. Next: [`super::site`], which sends them.

use std::collections::HashMap;

use stampede_core::gauge::{Gauge, ItemState, StockBand};
use stampede_core::types::{ItemId, UnixMillis};

use crate::engine::ask::OwnedItem;
use crate::engine::pages;
use crate::http::page::Version;
use crate::site::html::Html;
use crate::site::render::SaleView;
use crate::site::words::Lang;

/// Most items with cached pages; one more clears the cache.
const PAGES_MAX: usize = 4_096;
/// How long the form of a page keeps its idempotency key, in milliseconds.
pub(super) const KEY_MS: u64 = 600_000;

/// The parts of a page that change without a fact.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Shows {
    pub(super) state: ItemState,
    pub(super) band: StockBand,
    pub(super) refresh_ms: u64,
    pub(super) renew_s: u32,
    pub(super) key: u64,
    /// When the draw is held, while it takes entries.
    pub(super) draws_at_ms: Option<u64>,
}

impl Shows {
    pub(super) fn of(gauge: &Gauge, item: &OwnedItem, now: UnixMillis) -> Self {
        let state = gauge.state(now);
        let draws_at = item.get().draw.filter(|draw| draw.held.is_none()).map(|draw| draw.draws_at_ms);
        let left_ms = gauge.opens_at_ms().0.saturating_sub(now.0);
        Self {
            state,
            band: gauge.band(),
            refresh_ms: pages::refresh_ms(state, pages::is_soon(left_ms)),
            renew_s: renew_s(state, left_ms),
            key: now.0 / KEY_MS,
            draws_at_ms: draws_at.map(|at_ms| at_ms.0).filter(|&at_ms| now.0 < at_ms),
        }
    }
}

/// When a page refreshes without script, in seconds; 0 = not at all. Seldom at first, then just
/// after the opening.
pub(super) const fn renew_s(state: ItemState, left_ms: u64) -> u32 {
    match state {
        ItemState::Upcoming if left_ms > 600_000 => 300,
        ItemState::Upcoming if left_ms > 60_000 => 60,
        ItemState::Upcoming => (left_ms / 1_000) as u32 + 1,
        ItemState::SoldOut | ItemState::Paused => 15,
        ItemState::Open | ItemState::Ended => 0,
    }
}

/// The pages of one item.
pub(super) struct Entry {
    pub(super) item: OwnedItem,
    /// The gauge's version; one less if the owner has to be asked again.
    pub(super) gauge_version: u32,
    pub(super) version: Option<Version>,
    pub(super) pages: [Option<(Shows, Html)>; Lang::ALL.len()],
}

/// The pages that one core has rendered.
#[derive(Default)]
pub(super) struct SitePages {
    pub(super) sales: HashMap<ItemId, Entry>,
    pub(super) lists: [Option<(u64, Html)>; Lang::ALL.len()],
}

impl SitePages {
    /// The page of an item as it is now; `None` if the owner has to be asked for its settings.
    pub(super) fn sale(&mut self, gauge: &Gauge, now: UnixMillis, lang: Lang, demo: bool) -> Option<&Html> {
        let entry =
            self.sales.get_mut(&gauge.item()).filter(|entry| entry.gauge_version == gauge.version())?;
        let shows = Shows::of(gauge, &entry.item, now);
        let page = &mut entry.pages[lang as usize];
        if page.as_ref().is_none_or(|(shown, _)| *shown != shows) {
            *page = Some((shows, sale_html(&entry.item, entry.version, shows, (lang, demo))));
        }
        page.as_ref().map(|(_, html)| html)
    }

    pub(super) fn put(&mut self, item: OwnedItem, version: Option<Version>) {
        if self.sales.len() >= PAGES_MAX {
            self.sales.clear();
        }
        // Not durable yet: an older version, so that the next request asks the owner again.
        let (id, shown) = (item.get().item, item.get().shown_version);
        let gauge_version = shown.wrapping_sub(u32::from(version.is_none()));
        self.sales.insert(id, Entry { item, gauge_version, version, pages: [None, None] });
    }
}

pub(super) fn sale_html(
    item: &OwnedItem,
    version: Option<Version>,
    shows: Shows,
    (lang, demo): (Lang, bool),
) -> Html {
    let key = format!("page-{}", shows.key);
    let view = sale_view(item, shows, &key, (lang, demo));
    let tag = tag(view.item, version, shows).map(|tag| format!("\"{tag}-{}-{}\"", shows.key, lang.tag()));
    Html::shared(tag, view.page())
}

/// The part of the entity tag that an item's page and the list share: the fact that last changed the
/// item, and what changes without a fact.
pub(super) fn tag(item: ItemId, version: Option<Version>, shows: Shows) -> Option<String> {
    let Version { log, lsn } = version?;
    let Shows { state, band, refresh_ms, renew_s, draws_at_ms, key: _ } = shows;
    let (state, band, waits) = (state.name(), band.name(), u8::from(draws_at_ms.is_some()));
    Some(format!("{log:08x}-{item}-{lsn}-{state}-{band}-{refresh_ms}-{renew_s}-{waits}"))
}

pub(super) fn sale_view<'a>(
    item: &'a OwnedItem,
    shows: Shows,
    key: &'a str,
    (lang, demo): (Lang, bool),
) -> SaleView<'a> {
    let view = item.get();
    SaleView {
        words: lang.words(),
        item: view.item,
        name: item.name(),
        price_minor: view.spec.price_minor,
        currency: view.spec.currency,
        state: shows.state.name(),
        band: shows.band.name(),
        opens_at_ms: view.spec.opens_at_ms.0,
        closes_at_ms: view.spec.closes_at_ms.0,
        cap: view.spec.cap,
        payment: view.spec.payment,
        hold_ms: view.spec.hold_ms,
        draws_at_ms: shows.draws_at_ms,
        refresh_ms: shows.refresh_ms,
        renew_s: shows.renew_s,
        key,
        demo,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_script_refreshes_after_the_opening() {
        let upcoming = |left_ms| renew_s(ItemState::Upcoming, left_ms);
        assert_eq!([0, 1, 999, 1_000, 59_999, 60_000].map(upcoming), [1, 1, 1, 2, 60, 61]);
        assert_eq!([60_001, 600_000, 600_001, u64::MAX].map(upcoming), [60, 60, 300, 300]);
        assert_eq!(renew_s(ItemState::Open, 0), 0);
    }
}

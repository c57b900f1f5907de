//! The JSON pages of items on one core (`/v1/items/{id}`): rendered once per change, sent many times.
//!
//! The owner sends an item's settings when the gauge has a new version. State and stock band
//! change without one, and are read from the gauge at each request.

use std::collections::HashMap;

use stampede_core::gauge::{Gauge, ItemState, StockBand};
use stampede_core::types::{HashSecret, ItemId, UnixMillis};

use super::ask::OwnedItem;
use super::books;
use super::shared::Shared;
use crate::http::draw::DrawFace;
use crate::http::page::{ItemView, Page, Version};

/// Most pages in the cache; one more clears it.
const PAGES_MAX: usize = 4_096;
/// How often a client should read the item again while it is on sale, in milliseconds.
const REFRESH_OPEN_MS: u64 = 2_000;
/// And while no change is near.
const REFRESH_QUIET_MS: u64 = 15_000;
/// How long before the opening a change is near, in milliseconds.
const SOON_MS: u64 = 60_000;

struct Entry {
    item: OwnedItem,
    gauge_version: u32,
    version: Option<Version>,
    shows: (ItemState, StockBand, bool),
    page: Page,
}

/// The pages that one core has rendered.
#[derive(Default)]
pub struct Pages {
    entries: HashMap<ItemId, Entry>,
}

impl Pages {
    /// The page of an item as it is now; `None` if the owner has to be asked for its settings.
    pub fn get(&mut self, gauge: &Gauge, now: UnixMillis) -> Option<&Page> {
        let entry = self.entries.get_mut(&gauge.item())?;
        if entry.gauge_version != gauge.version() {
            return None;
        }
        let shows = shows(gauge, now);
        if entry.shows != shows {
            (entry.page, entry.shows) = (render(&entry.item, entry.version, shows), shows);
        }
        Some(&entry.page)
    }

    /// Caches settings that the owner sent, and renders their page.
    pub fn put(&mut self, gauge: &Gauge, mut item: OwnedItem, now: UnixMillis, shared: &Shared) -> &Page {
        if self.entries.len() >= PAGES_MAX {
            self.entries.clear();
        }
        let hides = item.hide_draw(shared.shown_lsn());
        let version = version(shared, &item).filter(|_| !hides);
        // A page that hides something, or shows what is not durable, gets an older version, so that
        // the next request asks the owner again.
        let gauge_version = item.get().shown_version.wrapping_sub(u32::from(version.is_none()));
        let shows = shows(gauge, now);
        let page = render(&item, version, shows);
        let entry = Entry { item, gauge_version, version, shows, page };
        &self.entries.entry(gauge.item()).insert_entry(entry).into_mut().page
    }
}

/// State, band, and whether the opening is near: what changes without a new version.
fn shows(gauge: &Gauge, now: UnixMillis) -> (ItemState, StockBand, bool) {
    let soon = is_soon(gauge.opens_at_ms().0.saturating_sub(now.0));
    (gauge.state(now), gauge.band(), soon)
}

/// Whether an item that opens in this many milliseconds is about to change.
pub(super) const fn is_soon(opens_in_ms: u64) -> bool {
    opens_in_ms <= SOON_MS
}

/// How long a client should wait before it reads the item again, in milliseconds.
pub(super) const fn refresh_ms(state: ItemState, soon: bool) -> u64 {
    let quiet = match state {
        ItemState::Ended => true,
        ItemState::Upcoming => !soon,
        ItemState::Open | ItemState::SoldOut | ItemState::Paused => false,
    };
    if quiet { REFRESH_QUIET_MS } else { REFRESH_OPEN_MS }
}

/// The fact behind what an item's page shows; `None` while that fact is not durable.
pub(super) fn version(shared: &Shared, item: &OwnedItem) -> Option<Version> {
    let lsn = item.get().shown_lsn;
    (lsn <= shared.log.durable_lsn()).then(|| Version { log: log_number(shared), lsn })
}

/// A hash of the code and the texts that make the pages of this build.
const PAGE_BUILD: u32 = include!(concat!(env!("OUT_DIR"), "/page_build.rs"));

/// A number that tells this log's facts, as this build shows them, from any other's.
pub(super) fn log_number(shared: &Shared) -> u32 {
    number_of(&shared.secret, PAGE_BUILD)
}

fn number_of(secret: &HashSecret, build: u32) -> u32 {
    (books::mark(secret) >> 32) as u32 ^ build
}

fn render(item: &OwnedItem, version: Option<Version>, shows: (ItemState, StockBand, bool)) -> Page {
    let view = item.get();
    Page::item(&item_view(&view, version, shows))
}

fn item_view<'a>(
    view: &'a stampede_core::command::ItemView<'a>,
    version: Option<Version>,
    (state, band, soon): (ItemState, StockBand, bool),
) -> ItemView<'a> {
    ItemView {
        item: view.item,
        spec: &view.spec,
        state: state.name(),
        stock_band: band.name(),
        draw: view.draw.as_ref().map(|draw| DrawFace { draw_ms: view.spec.draw_ms, view: draw }),
        refresh_ms: refresh_ms(state, soon),
        version,
    }
}

/// A page of the list for buyers, with states and bands from the gauges.
pub fn list(items: &[OwnedItem], next_after: Option<&str>, shared: &Shared, now: UnixMillis) -> Page {
    let views: Vec<_> = items.iter().map(|item| (item.get(), version(shared, item))).collect();
    let shown = views.iter().filter_map(|(view, version)| {
        let gauge = shared.catalogue.find(view.item)?;
        Some(item_view(view, *version, shows(gauge, now)))
    });
    Page::list(shown, next_after, log_number(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_build_or_another_log_gives_other_tags() {
        let (ours, other) = (HashSecret([1; 16]), HashSecret([2; 16]));
        let number = number_of(&ours, PAGE_BUILD);
        assert_ne!(number, number_of(&ours, PAGE_BUILD ^ 1));
        assert_ne!(number, number_of(&other, PAGE_BUILD));
        assert_ne!(PAGE_BUILD, 0);
    }
}

//! The sale pages of one core: rendered once per change, sent many times.
//!
//! An item's settings come from its owner when its gauge shows a new version; what
//! changes by itself (state and band) is read from the gauge at each request.

use std::collections::HashMap;

use stampede_core::gauge::{Gauge, ItemState, StockBand};
use stampede_core::types::{ItemId, Lsn, UnixMillis};

use super::ask::OwnedItem;
use crate::http::draw::DrawFace;
use crate::http::page::{ItemView, Page};

/// Pages kept; with one more, all are dropped and made again as they are asked for.
const PAGES_MAX: usize = 4_096;
/// How often a page should be asked for while the item is on sale, in milliseconds.
const REFRESH_OPEN_MS: u64 = 2_000;
/// And while nothing is going to happen soon.
const REFRESH_QUIET_MS: u64 = 15_000;
/// How long before the opening a page counts as about to change.
const SOON_MS: u64 = 60_000;

struct Entry {
    item: OwnedItem,
    gauge_version: u32,
    shows: (ItemState, StockBand, bool),
    page: Page,
}

/// The pages that one core has rendered.
#[derive(Default)]
pub struct Pages {
    entries: HashMap<ItemId, Entry>,
}

impl Pages {
    /// The page of an item as it is now, or `None` if its settings have to be asked for.
    pub fn get(&mut self, gauge: &Gauge, now: UnixMillis) -> Option<&Page> {
        let entry = self.entries.get_mut(&gauge.item())?;
        if entry.gauge_version != gauge.version() {
            return None;
        }
        let shows = shows(gauge, now);
        if entry.shows != shows {
            (entry.page, entry.shows) = (render(&entry.item, entry.gauge_version, shows), shows);
        }
        Some(&entry.page)
    }

    /// Takes settings that came from the owner; everything up to `shown` may be shown.
    pub fn put(&mut self, gauge: &Gauge, mut item: OwnedItem, now: UnixMillis, shown: Lsn) -> &Page {
        if self.entries.len() >= PAGES_MAX {
            self.entries.clear();
        }
        // A page that hides something counts as one of before, and is asked for anew.
        let hides = u32::from(item.hide_draw(shown));
        let (shows, gauge_version) = (shows(gauge, now), item.get().shown_version.wrapping_sub(hides));
        let page = render(&item, gauge_version, shows);
        let entry = Entry { item, gauge_version, shows, page };
        &self.entries.entry(gauge.item()).insert_entry(entry).into_mut().page
    }
}

/// State, band, and whether the opening is near.
fn shows(gauge: &Gauge, now: UnixMillis) -> (ItemState, StockBand, bool) {
    let soon = is_soon(gauge.opens_at_ms().0.saturating_sub(now.0));
    (gauge.state(now), gauge.band(), soon)
}

/// Whether an item that opens in so many milliseconds is about to change.
pub(super) const fn is_soon(opens_in_ms: u64) -> bool {
    opens_in_ms <= SOON_MS
}

/// How long a client should wait before it asks again, in milliseconds.
pub(super) const fn refresh_ms(state: ItemState, soon: bool) -> u64 {
    let quiet = match state {
        ItemState::Ended => true,
        ItemState::Upcoming => !soon,
        ItemState::Open | ItemState::SoldOut | ItemState::Paused => false,
    };
    if quiet { REFRESH_QUIET_MS } else { REFRESH_OPEN_MS }
}

fn render(item: &OwnedItem, version: u32, shows: (ItemState, StockBand, bool)) -> Page {
    let view = item.get();
    Page::item(&item_view(&view, u64::from(version), shows))
}

fn item_view<'a>(
    view: &'a stampede_core::command::ItemView<'a>,
    version: u64,
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

/// The page of all items, as their gauges show them now.
pub fn list<'g>(items: &[OwnedItem], gauge: impl Fn(ItemId) -> Option<&'g Gauge>, now: UnixMillis) -> Page {
    let views: Vec<_> = items.iter().map(OwnedItem::get).collect();
    let shown = views.iter().filter_map(|view| {
        let gauge = gauge(view.item)?;
        Some(item_view(view, u64::from(gauge.version()), shows(gauge, now)))
    });
    Page::list(shown, now.0)
}

//! Pages of items, kept for a second so that many readers do not cost the owners work.

use std::collections::HashMap;

use crate::http::page::Page;
use crate::http::route::ListQuery;

/// How long a page of items is kept, in milliseconds.
const LIST_MS: u64 = 1_000;
/// Pages of items that are kept at once, of 100 items at most: some 2 MiB.
const LISTS_MAX: usize = 64;

/// The pages of items of the last second.
#[derive(Default)]
pub(super) struct Lists {
    /// Each with the moment until which it is valid, in monotonic milliseconds.
    pages: HashMap<ListQuery, (u64, Page)>,
}

impl Lists {
    pub(super) fn get(&self, query: ListQuery, now_ms: u64) -> Option<&Page> {
        self.pages.get(&query).filter(|(until_ms, _)| *until_ms > now_ms).map(|(_, page)| page)
    }

    pub(super) fn put(&mut self, query: ListQuery, now_ms: u64, page: Page) {
        if self.pages.len() >= LISTS_MAX {
            self.pages.retain(|_, (until_ms, _)| *until_ms > now_ms);
        }
        // Clients ask for the first page most: dropping all others costs little.
        if self.pages.len() >= LISTS_MAX {
            self.pages.clear();
        }
        self.pages.insert(query, (now_ms + LIST_MS, page));
    }
}

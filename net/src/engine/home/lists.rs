//! Pages of items, kept for a second so that a crowd of readers asks no owner.

use std::collections::HashMap;

use crate::http::page::Page;
use crate::http::route::ListQuery;

/// How long a page of items is kept before it is made anew, in milliseconds.
const LIST_MS: u64 = 1_000;
/// Pages of items that are kept at once, of 100 items at most: some 2 MiB.
const LISTS_MAX: usize = 64;

/// The pages of items that were asked for in the last second.
#[derive(Default)]
pub(super) struct Lists {
    /// Each with the moment until which it is shown, in monotonic milliseconds.
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
        // What is asked for most is the first page: those before it give way to it.
        if self.pages.len() >= LISTS_MAX {
            self.pages.clear();
        }
        self.pages.insert(query, (now_ms + LIST_MS, page));
    }
}

//! The public list of a draw's entries: no identity is needed. It costs a request to the owner and
//! many look-ups, so the rate of the address applies.

use stampede_core::types::OrderId;

use super::state::{Caller, Handled, Home};
use crate::engine::ask::{Ask, RareAsk};
use crate::engine::response::RequestKind;
use crate::http::route::DrawQuery;

impl Home {
    pub(super) fn draw_page(&mut self, query: DrawQuery, caller: &Caller<'_>) -> Handled {
        self.rate_address(caller)?;
        let after = query.after.map_or(0, OrderId::get);
        let ask = RareAsk::Draw(query.item, after, usize::from(query.limit));
        self.ask(query.item, RequestKind::Other, Ask::Rare(Box::new(ask)), caller)
    }
}

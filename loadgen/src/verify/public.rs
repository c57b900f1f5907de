//! Reads what every buyer can read: the item's page, and each buyer's own orders again.
//!
//! Used where whoever runs the load has no token of the merchant API. Blocking and one
//! request at a time, since it runs at rest. A server that lacks a page is no fault: what
//! could not be read is told in words. Next: [`crate::check`], which checks.

use std::time::Duration;

use crate::check::Recalled;
use crate::client::{Client, Response};
use crate::clock::unix_ms;
use crate::engine::RunConfig;
use crate::history::{Entry, History};
use crate::meaning::{number_after, text_after};
use crate::request::{Framing, RequestError, Requests};
use crate::workload::{Items, Target, Workload, mix};

/// Most acked orders that are requested again, over all items.
pub(super) const RECALLED_MAX: usize = 1_000;
/// How long one response may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls in a row without a response after which no more are made.
const SILENT_MAX: u32 = 3;
/// How long an order may take to become durable while it is waited for, in milliseconds.
const WAIT_MS: u64 = 1_000;
/// How long buyers' tokens last, in seconds.
const TOKEN_S: u64 = 3_600;

/// What buyers were shown of one item.
#[derive(Default)]
pub(super) struct Shown {
    /// Most units per buyer; 0 = not told.
    pub(super) cap: u32,
    /// Whether orders may have given their units back, or never took any.
    pub(super) units_return: bool,
    /// What the responses to buyers' requests for their orders said.
    pub(super) recalled: Vec<Recalled>,
    /// Acked orders that were not requested again, since there are too many.
    pub(super) left: usize,
    /// What could not be checked.
    pub(super) not_asked: Vec<String>,
}

/// Looks at one item as its buyers; `history` is that item's alone, at most `orders_max` orders are requested.
pub(super) fn look(
    run: &RunConfig,
    item: u32,
    history: &History,
    orders_max: usize,
) -> Result<Shown, RequestError> {
    let mut buyers = Buyers::new(run, item)?;
    let mut shown = Shown { units_return: run.workload.fates.cancel > 0.0, ..Shown::default() };
    match buyers.page() {
        Some(page) => {
            shown.cap = page.cap;
            shown.units_return |= page.payment != "on_order";
        }
        None => shown.not_asked.push("the cap (the server has no item page)".to_owned()),
    }
    recall(&mut buyers, history, orders_max, &mut shown);
    if shown.units_return {
        shown.not_asked.push("sums of units and caps (orders may have given units back)".to_owned());
    }
    Ok(shown)
}

/// Acked orders, each once, chosen by the seed if there are too many.
fn sample(history: &History, orders_max: usize) -> (Vec<&Entry>, usize) {
    let mut acked: Vec<&Entry> = history.entries().iter().filter(|entry| entry.order_id > 0).collect();
    acked.sort_by_key(|entry| entry.order_id);
    acked.dedup_by_key(|entry| entry.order_id);
    let total = acked.len();
    acked.sort_by_key(|entry| mix(history.names.seed ^ mix(entry.order_id)));
    acked.truncate(orders_max);
    (acked, total)
}

fn recall(buyers: &mut Buyers, history: &History, orders_max: usize, shown: &mut Shown) {
    let (chosen, total) = sample(history, orders_max);
    let mut silent = 0;
    for entry in &chosen {
        let Entry { purchase, order_id, quantity, .. } = **entry;
        let found = match buyers.order(purchase, order_id) {
            Lookup::Found { quantity, is_final } => {
                shown.units_return |= !is_final;
                Some(quantity)
            }
            Lookup::Missing => None,
            Lookup::NoPage => {
                return shown.not_asked.push("acked orders (the server has no order page)".to_owned());
            }
            Lookup::NoResponse => {
                silent += 1;
                if silent < SILENT_MAX {
                    continue;
                }
                let words = "the other acked orders (the server no longer responds)";
                return shown.not_asked.push(words.to_owned());
            }
        };
        silent = 0;
        shown.recalled.push(Recalled { purchase, order_id, quantity, found });
    }
    shown.left = total - shown.recalled.len();
}

/// The item's page, as far as it helps to check.
struct Page {
    cap: u32,
    payment: String,
}

/// What came of requesting an order.
enum Lookup {
    /// It is there; `is_final` if it took its units and keeps them.
    Found { quantity: u32, is_final: bool },
    /// The server says that there is none.
    Missing,
    /// The server does not have that page at all.
    NoPage,
    /// It said nothing that helps.
    NoResponse,
}

/// A client that sends requests as buyers do.
struct Buyers {
    requests: Requests,
    client: Client,
}

impl Buyers {
    fn new(run: &RunConfig, item: u32) -> Result<Self, RequestError> {
        let target = Target::Purchase { items: Items::one(item) };
        let workload = Workload { target, ..run.workload.clone() };
        let expires_at_s = unix_ms() / 1_000 + TOKEN_S;
        let framing = Framing { host: &run.host, keep_alive: true, expires_at_s };
        let requests = Requests::new(&workload, framing, None)?;
        Ok(Self { requests, client: Client::new(&run.addr.to_string(), CALL_TIMEOUT) })
    }

    fn page(&mut self) -> Option<Page> {
        let mut request = Vec::new();
        self.requests.page(0, &mut request);
        let Response { status, body } = self.send(&request)?;
        let cap = number_after(&body, b"\"cap\":").filter(|_| status == 200)?;
        let payment = text_after(&body, b"\"payment\":\"").unwrap_or("on_order").to_owned();
        Some(Page { cap: u32::try_from(cap).unwrap_or(u32::MAX), payment })
    }

    fn order(&mut self, purchase: u32, order_id: u64) -> Lookup {
        let mut request = Vec::new();
        self.requests.wait(purchase, order_id, WAIT_MS, &mut request);
        let Some(Response { status, body }) = self.send(&request) else { return Lookup::NoResponse };
        let is_named = text_after(&body, b"\"code\":\"") == Some("not_found");
        match status {
            200 => match number_after(&body, b"\"quantity\":").and_then(|units| u32::try_from(units).ok()) {
                Some(quantity) => {
                    let state = text_after(&body, b"\"state\":\"").unwrap_or("confirmed");
                    Lookup::Found { quantity, is_final: matches!(state, "confirmed" | "paid") }
                }
                None => Lookup::NoPage,
            },
            404 if is_named => Lookup::Missing,
            404 | 405 | 501 => Lookup::NoPage,
            _ => Lookup::NoResponse,
        }
    }

    /// One request and its response.
    fn send(&self, request: &[u8]) -> Option<Response> {
        self.client.exchange(request).ok()
    }
}

//! The merchant API as a client: an item's totals, all of its orders, how it stood before a run.
//!
//! Next: [`crate::client`], which does the HTTP.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::error::VerifyError;
use crate::check::{OrderRow, State, Totals};
use crate::client::{Client, Response};
use crate::history::Baseline;
use crate::window::Window;

/// Orders per page.
const PAGE_ORDERS: usize = 1_000;
/// How long one request may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The merchant API, with its token.
pub struct Merchant {
    base: String,
    /// The path in front of all others, if the base has one.
    prefix: String,
    authorization: String,
    client: Result<Client, &'static str>,
}

/// An item in the merchant API, as far as it is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ItemPage {
    /// Its totals.
    pub totals: Totals,
    /// Its version: changes with every change of the item.
    pub version: u64,
    /// Orders accepted so far.
    pub accepted: u64,
    /// Highest durable LSN.
    pub durable_lsn: u64,
    /// Highest exported LSN.
    pub exported_lsn: u64,
}

impl ItemPage {
    /// Whether nothing changed between the two.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        (self.version, self.totals, self.accepted) == (other.version, other.totals, other.accepted)
    }
}

impl Merchant {
    /// The API at `base` (`http://host:port`); nothing is sent yet.
    pub fn new(base: &str, token: &str) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        let authorization = format!("Authorization: Bearer {}\r\n", token.trim());
        let (host, prefix) = match base.strip_prefix("http://") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", ""),
        };
        let port = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) { "" } else { ":80" };
        let client = match (host.is_empty(), host.contains('@')) {
            (false, false) => Ok(Client::new(&format!("{host}{port}"), CALL_TIMEOUT)),
            _ => Err("write http://host:port"),
        };
        let prefix = prefix.to_owned();
        Self { base, prefix, authorization, client }
    }

    /// Requests a page of JSON.
    ///
    /// # Errors
    /// [`VerifyError`] if it does not come.
    pub fn get(&self, path: &str) -> Result<Value, VerifyError> {
        self.call("GET", path, &self.authorization, &[])
    }

    /// Creates or changes something.
    ///
    /// # Errors
    /// [`VerifyError`] if that is refused.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, VerifyError> {
        let headers = format!("{}Content-Type: application/json\r\n", self.authorization);
        self.call("PUT", path, &headers, body.to_string().as_bytes())
    }

    fn call(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<Value, VerifyError> {
        let url = format!("{}{path}", self.base);
        let client = self.client.as_ref().map_err(|&cause| cause.to_owned());
        let path = format!("{}{path}", self.prefix);
        let exchanged = client.and_then(|client| {
            client.request(method, &path, headers, body).map_err(|error| error.to_string())
        });
        let Response { status, body } = match exchanged {
            Ok(response) => response,
            Err(cause) => return Err(VerifyError::Unreachable { url, cause }),
        };
        if !(200..300).contains(&status) {
            let body = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Err(VerifyError::Refused { url, status, body });
        }
        serde_json::from_slice(&body)
            .map_err(|error| VerifyError::Unexpected { url, what: error.to_string() })
    }

    /// The item's page.
    ///
    /// # Errors
    /// [`VerifyError`] if it does not come or lacks a figure.
    pub fn item(&self, item: u32) -> Result<ItemPage, VerifyError> {
        let path = format!("/admin/items/{item}");
        let page = self.get(&path)?;
        let figure = |name: &str| {
            let what = || format!("no integer `{name}`");
            page[name].as_i64().ok_or_else(|| VerifyError::Unexpected { url: path.clone(), what: what() })
        };
        let count = |name: &str| figure(name).map(|figure| u64::try_from(figure).unwrap_or(0));
        Ok(ItemPage {
            totals: Totals {
                granted: figure("granted")?,
                available: figure("available")?,
                held: figure("held")?,
                sold: figure("sold")?,
                cap: u32::try_from(page["cap"].as_u64().unwrap_or(0)).unwrap_or(u32::MAX),
                window: window(&page),
                pays_first: page["payment"] == "on_payment",
            },
            version: count("version")?,
            accepted: count("accepted").unwrap_or(0),
            durable_lsn: count("durable_lsn")?,
            exported_lsn: count("exported_lsn").unwrap_or(0),
        })
    }

    /// All orders of an item after the one with this number, page by page, ascending.
    ///
    /// # Errors
    /// [`VerifyError`] if a page does not come or is not an orders page.
    pub fn orders(&self, item: u32, mut after: u64) -> Result<Vec<OrderRow>, VerifyError> {
        let mut orders = Vec::new();
        loop {
            let page = self.orders_page(item, PAGE_ORDERS, after)?;
            let last = page.rows.iter().map(|row| row.order_id).max();
            match last {
                Some(last) if page.has_more && last > after => after = last,
                Some(_) if page.has_more => return Err(page.does_not_advance()),
                _ => {
                    orders.extend(page.rows);
                    return Ok(orders);
                }
            }
            orders.extend(page.rows);
        }
    }

    /// One page of orders after that number.
    fn orders_page(&self, item: u32, limit: usize, after: u64) -> Result<OrdersPage, VerifyError> {
        let after = if after == 0 { String::new() } else { format!("&after={after}") };
        let path = format!("/admin/orders?item={item}&limit={limit}{after}");
        let wrong = |what: String| VerifyError::Unexpected { url: path.clone(), what };
        let page: PageJson =
            serde_json::from_value(self.get(&path)?).map_err(|error| wrong(error.to_string()))?;
        let rows: Result<Vec<_>, _> = page.orders.into_iter().map(OrderJson::row).collect();
        Ok(OrdersPage { rows: rows.map_err(wrong)?, has_more: page.has_more, path })
    }

    /// The highest order number of an item; 0 = it has none.
    ///
    /// Order numbers grow, so doubling steps and then halving ones find the last order in a few
    /// requests, however many there are.
    ///
    /// # Errors
    /// As [`Merchant::orders`].
    pub fn last_order_id(&self, item: u32) -> Result<u64, VerifyError> {
        let Some(mut last) = self.first_after(item, 0)? else { return Ok(0) };
        let mut step = PAGE_ORDERS as u64;
        while let Some(later) = self.first_after(item, last.saturating_add(step))? {
            last = later;
            step = step.saturating_mul(2);
        }
        // `last` is an order's number, and there is none above `none_above`.
        let mut none_above = last.saturating_add(step);
        while last < none_above {
            let middle = last + (none_above - last) / 2;
            match self.first_after(item, middle)? {
                Some(later) => last = later,
                None => none_above = middle,
            }
        }
        Ok(last)
    }

    /// The number of the first order after that one.
    fn first_after(&self, item: u32, after: u64) -> Result<Option<u64>, VerifyError> {
        let page = self.orders_page(item, 1, after)?;
        match page.rows.first() {
            Some(row) if row.order_id <= after => Err(page.does_not_advance()),
            first => Ok(first.map(|row| row.order_id)),
        }
    }

    /// How an item stands before a run, which is responsible only for what comes later.
    ///
    /// # Errors
    /// As [`Merchant::item`] and [`Merchant::orders`].
    pub fn baseline(&self, item: u32) -> Result<Baseline, VerifyError> {
        let Totals { granted, held, sold, window, .. } = self.item(item)?.totals;
        let out = Some(held.saturating_add(sold));
        Ok(Baseline { order_id: self.last_order_id(item)?, granted, out, window })
    }
}

/// When the item is on sale, if its page says so.
fn window(page: &Value) -> Option<Window> {
    let [opens_at_ms, closes_at_ms] = ["opens_at_ms", "closes_at_ms"].map(|name| page[name].as_u64());
    Some(Window { opens_at_ms: opens_at_ms?, closes_at_ms: closes_at_ms.filter(|&ms| ms > 0)? })
}

/// A page of orders, and where it came from.
struct OrdersPage {
    path: String,
    rows: Vec<OrderRow>,
    has_more: bool,
}

impl OrdersPage {
    /// A server that gives the same orders again and again.
    fn does_not_advance(self) -> VerifyError {
        VerifyError::Unexpected { url: self.path, what: "the pages do not advance".to_owned() }
    }
}

#[derive(Deserialize)]
struct PageJson {
    orders: Vec<OrderJson>,
    #[serde(default)]
    has_more: bool,
}

/// An order on the merchant's page; what is not checked is not read.
#[derive(Deserialize)]
struct OrderJson {
    order_id: String,
    #[serde(alias = "sub", alias = "subject")]
    buyer: String,
    quantity: u32,
    state: String,
    idempotency_key: Option<String>,
    #[serde(default)]
    created_at_ms: u64,
}

impl OrderJson {
    fn row(self) -> Result<OrderRow, String> {
        let order_id =
            self.order_id.parse().map_err(|_| format!("order_id `{}` is no number", self.order_id))?;
        let state = State::from_name(&self.state);
        let state =
            state.ok_or_else(|| format!("order {order_id} has the unknown state `{}`", self.state))?;
        Ok(OrderRow {
            order_id,
            buyer: self.buyer,
            quantity: self.quantity,
            state,
            key: self.idempotency_key,
            created_at_ms: self.created_at_ms,
        })
    }
}

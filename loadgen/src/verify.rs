//! The verifier: collects evidence from the merchant API and Postgres or, without the merchant's token,
//! from what every buyer can request; then has it checked.
//!
//! Blocking and simple, since it runs at rest. It decides nothing: that is
//! [`crate::check`]'s part. Next: `verify/public.rs` for what is read as a buyer.

mod postgres;
mod public;

use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::check::{
    Evidence, OrderRow, Public, State, Totals, Verdict, Window, check, check_across_items, nothing_let_in,
};
use crate::client::{Client, Response};
use crate::engine::RunConfig;
use crate::history::{Baseline, History};
use crate::request::RequestError;
use crate::workload::Items;

/// Orders per page.
const PAGE_ORDERS: usize = 1_000;
/// How long one request to the merchant API may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the export may take to catch up, unless told otherwise.
pub const EXPORT_WAIT: Duration = Duration::from_secs(60);
/// How long an item may take to come to rest: holds that run out change it after the last request.
const REST_WAIT: Duration = Duration::from_secs(60);

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The merchant API does not respond.
    #[error("cannot reach {url}: {cause}; is the merchant API up and the address right?")]
    Unreachable {
        /// The URL.
        url: String,
        /// Why.
        cause: String,
    },
    /// It refuses the request.
    #[error("{url} returned {status}: {body}; check the item's number and the admin token")]
    Refused {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
        /// The body's beginning.
        body: String,
    },
    /// Its response is not in the contract.
    #[error("{url} returned an unexpected response: {what}")]
    Unexpected {
        /// The URL.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// The item does not come to rest.
    #[error("item {0} keeps changing; verify when the sale is at rest")]
    Restless(u32),
    /// The export does not catch up.
    #[error(
        "the export stands at LSN {exported}, durable is {durable}; is Postgres up? raise --export-wait if it is slow"
    )]
    ExportBehind {
        /// Last exported LSN.
        exported: u64,
        /// Last durable LSN.
        durable: u64,
    },
    /// Postgres does not respond as it should.
    #[error("cannot read from Postgres: {0}")]
    Postgres(String),
    /// Buyers' requests cannot be made with these settings.
    #[error(transparent)]
    Request(#[from] RequestError),
}

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
    fn is_as(&self, other: &Self) -> bool {
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
            let path = format!("/admin/orders?item={item}&limit={PAGE_ORDERS}{}", after_query(after));
            let wrong = |what: String| VerifyError::Unexpected { url: path.clone(), what };
            let page: OrdersPage =
                serde_json::from_value(self.get(&path)?).map_err(|e| wrong(e.to_string()))?;
            let rows: Result<Vec<_>, _> = page.orders.into_iter().map(OrderJson::row).collect();
            let rows = rows.map_err(wrong)?;
            let last = rows.iter().map(|row| row.order_id).max();
            orders.extend(rows);
            match last {
                Some(last) if page.has_more && last > after => after = last,
                Some(_) if page.has_more => return Err(wrong("the pages do not advance".to_owned())),
                _ => return Ok(orders),
            }
        }
    }

    /// The highest order number of an item; 0 = it has none.
    ///
    /// Order numbers grow, so that doubling steps and then halves find the last one in a few
    /// calls, however many there are.
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

    fn first_after(&self, item: u32, after: u64) -> Result<Option<u64>, VerifyError> {
        let path = format!("/admin/orders?item={item}&limit=1{}", after_query(after));
        let wrong = |what: String| VerifyError::Unexpected { url: path.clone(), what };
        let page: OrdersPage = serde_json::from_value(self.get(&path)?).map_err(|e| wrong(e.to_string()))?;
        let first = page.orders.into_iter().next().map(OrderJson::row).transpose().map_err(&wrong)?;
        match first {
            Some(row) if row.order_id <= after => Err(wrong("the pages do not advance".to_owned())),
            first => Ok(first.map(|row| row.order_id)),
        }
    }

    /// How an item stands before a run, which answers only for what comes later.
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

fn after_query(after: u64) -> String {
    if after == 0 { String::new() } else { format!("&after={after}") }
}

#[derive(Deserialize)]
struct OrdersPage {
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

/// What to verify, and where the evidence is.
#[derive(Clone, Copy)]
pub struct VerifyConfig<'a> {
    /// The merchant API, if its token is known; else only what clients can see is checked.
    pub merchant: Option<&'a Merchant>,
    /// The run, if its buyers' orders may be requested again; looked at only without a merchant.
    pub run: Option<&'a RunConfig>,
    /// The database, as a URL, if it is to be compared; looked at only with a merchant.
    pub postgres: Option<&'a str>,
    /// The items.
    pub items: Items,
    /// What clients were told, if that was kept.
    pub history: Option<&'a History>,
    /// Units to sell of each item, as whoever runs the load says; looked at only without a merchant.
    pub stock: Option<u64>,
    /// How long to wait for the export.
    pub export_wait: Duration,
}

impl<'a> VerifyConfig<'a> {
    /// What the merchant says of one item and nothing else: a start to add to.
    pub const fn of_merchant(merchant: &'a Merchant, item: u32) -> Self {
        let (merchant, items, export_wait) = (Some(merchant), Items::one(item), EXPORT_WAIT);
        Self { merchant, run: None, postgres: None, items, history: None, stock: None, export_wait }
    }
    /// What clients of a run were told and can request again, without the merchant.
    pub const fn of_clients(run: &'a RunConfig, history: &'a History) -> Self {
        let (run, items, history, export_wait) = (Some(run), history.items, Some(history), EXPORT_WAIT);
        Self { merchant: None, run, postgres: None, items, history, stock: None, export_wait }
    }
}

/// Collects the evidence about items at rest, one after the other, and checks it.
///
/// # Errors
/// [`VerifyError`] if the evidence cannot be had. A broken promise is a [`Verdict`], not an error.
pub fn verify(config: &VerifyConfig<'_>) -> Result<Verdict, VerifyError> {
    let mut left = 0;
    let mut verify_item = |item: u32| {
        let history = config.history.map(|history| history.of_item(item));
        match config.merchant {
            Some(merchant) => verify_merchant(config, merchant, item, history.as_ref()),
            None => verify_clients(config, item, history.as_ref(), &mut left),
        }
    };
    let mut verdict = if config.items.count == 1 {
        verify_item(config.items.first)?
    } else {
        let mut sum = Verdict::default();
        for item in config.items.numbers() {
            sum.absorb(item, verify_item(item)?);
        }
        if let Some(history) = config.history {
            check_across_items(history, &mut sum);
        }
        sum
    };
    verdict.nothing_let_in = config.history.and_then(nothing_let_in);
    if left > 0 {
        verdict.not_asked.push(format!("{left} of the acked orders (a sample was)"));
    }
    Ok(verdict)
}

fn verify_merchant(
    config: &VerifyConfig<'_>,
    merchant: &Merchant,
    item: u32,
    history: Option<&History>,
) -> Result<Verdict, VerifyError> {
    let (page, orders) = read_at_rest(merchant, item)?;
    let postgres = match config.postgres {
        Some(url) => {
            wait_for_export(merchant, item, page.durable_lsn, config.export_wait)?;
            Some(postgres::read(url, item).map_err(VerifyError::Postgres)?)
        }
        None => None,
    };
    Ok(check(&Evidence {
        history,
        totals: Some(page.totals),
        orders: Some(&orders),
        postgres: postgres.as_ref(),
        ..Evidence::default()
    }))
}

fn verify_clients(
    config: &VerifyConfig<'_>,
    item: u32,
    history: Option<&History>,
    left: &mut usize,
) -> Result<Verdict, VerifyError> {
    let orders_max = public::RECALLED_MAX.div_ceil(config.items.count.max(1) as usize);
    let shown = match (config.run, history) {
        (Some(run), Some(history)) => public::look(run, item, history, orders_max)?,
        _ => public::Shown::default(),
    };
    let public = Public {
        cap: shown.cap,
        stock: config.stock,
        units_return: shown.units_return,
        recalled: &shown.recalled,
    };
    *left += shown.left;
    let mut verdict = check(&Evidence { history, public, ..Evidence::default() });
    verdict.not_asked.extend(shown.not_asked);
    Ok(verdict)
}

/// Page and orders of one moment: read again if the item changed in between.
fn read_at_rest(merchant: &Merchant, item: u32) -> Result<(ItemPage, Vec<OrderRow>), VerifyError> {
    let deadline = Instant::now() + REST_WAIT;
    loop {
        let before = merchant.item(item)?;
        let orders = merchant.orders(item, 0)?;
        let after = merchant.item(item)?;
        let decided = orders.iter().all(|row| row.state != State::Accepted);
        if before.is_as(&after) && decided {
            return Ok((after, orders));
        }
        // Reading all orders is dear: wait until the item's own page holds still.
        let mut last = after;
        loop {
            if Instant::now() >= deadline {
                return Err(VerifyError::Restless(item));
            }
            thread::sleep(LOOK_EVERY);
            let page = merchant.item(item)?;
            if page.is_as(&last) {
                break;
            }
            last = page;
        }
    }
}

fn wait_for_export(
    merchant: &Merchant,
    item: u32,
    durable: u64,
    export_wait: Duration,
) -> Result<(), VerifyError> {
    let deadline = Instant::now() + export_wait;
    loop {
        let exported = merchant.item(item)?.exported_lsn;
        if exported >= durable {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(VerifyError::ExportBehind { exported, durable });
        }
        thread::sleep(LOOK_EVERY);
    }
}

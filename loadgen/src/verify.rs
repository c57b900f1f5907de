//! The verifier: collects evidence from the merchant API and Postgres or, without the merchant's token,
//! from what every buyer can request; then [`crate::check`] compares it.
//!
//! Blocking and simple, since it runs when the sale is over. Next: `verify/merchant.rs`, `verify/postgres.rs`, and
//! `verify/public.rs` for what a buyer can read.

mod error;
mod merchant;
mod postgres;
mod public;

use std::thread;
use std::time::{Duration, Instant};

use crate::check::{Evidence, OrderRow, Public, State, Verdict, check, check_across_items, nothing_let_in};
use crate::engine::RunConfig;
use crate::history::History;
use crate::workload::Items;

pub use error::VerifyError;
pub use merchant::{ItemPage, Merchant};

/// Time between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the export may take to catch up, unless told otherwise.
pub const EXPORT_WAIT: Duration = Duration::from_secs(60);
/// How long an item may take to come to rest: holds that run out change it after the last request.
const REST_WAIT: Duration = Duration::from_secs(60);

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
        // Reading all orders is expensive: wait until the item's own page stops changing.
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

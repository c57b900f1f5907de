//! The running engine, over its merchant listener: its items, their books, and the pause.

use std::time::{Duration, Instant};

use serde_json::Value;
use stampede_core::record::RecordDigest;
use stampede_core::types::{ItemId, Lsn};

use super::fields::Fields;
use super::options::LOOK_EVERY;
use super::trouble::Trouble;

/// Longest wait for one answer.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// A page of an item's books, as the engine told it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// Every fact of the item up to this one is in here.
    pub as_of: Lsn,
    /// Units granted, available, held, sold.
    pub piles: [u64; 4],
    /// The sequence number of its last order.
    pub last_seq: u32,
    /// The range: numbers above the first, up to and with the second.
    pub range: (u32, u32),
    /// The orders in the range.
    pub digest: RecordDigest,
    /// Each of them, where asked for.
    pub rows: Vec<Fields>,
}

/// The way to an engine.
pub struct Engine {
    agent: ureq::Agent,
    base: String,
    token: String,
    patience: Duration,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Engine {
    /// The engine whose merchant listener is at `base` (`http://HOST:PORT`). One that does not
    /// answer is asked again for as long as `patience` lasts.
    pub fn new(base: &str, token: &str, patience: Duration) -> Self {
        let agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WAIT)).build().into();
        Self { agent, base: base.trim_end_matches('/').to_owned(), token: token.to_owned(), patience }
    }

    /// What tells which data directory belongs to it.
    ///
    /// # Errors
    /// [`Trouble::Unable`].
    pub fn mark(&self) -> Result<String, Trouble> {
        let stats = self.get("/admin/stats")?.unwrap_or_default();
        stats["mark"].as_str().map(str::to_owned).ok_or_else(|| self.odd("no mark of its data directory"))
    }

    /// All items, ascending.
    ///
    /// # Errors
    /// [`Trouble::Unable`].
    pub fn items(&self) -> Result<Vec<ItemId>, Trouble> {
        let mut items: Vec<ItemId> = Vec::new();
        loop {
            let after = items.last().map_or_else(String::new, |last| format!("&after={last}"));
            let page = self.get(&format!("/admin/items?limit=1000{after}"))?.unwrap_or_default();
            let ids = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            if ids.is_empty() {
                return Ok(items);
            }
            for id in ids {
                let item = id["id"].as_u64().and_then(ItemId::new);
                items.push(item.ok_or_else(|| self.odd("an item without a number"))?);
            }
        }
    }

    /// An item's books and the digest of its orders above `after`; `None` if it has no such item.
    ///
    /// # Errors
    /// [`Trouble::Unable`].
    pub fn books(&self, item: ItemId, after: u32, limit: u32, rows: bool) -> Result<Option<Page>, Trouble> {
        let limit = limit.min(1000);
        let path = format!("/admin/items/{item}/books?after={after}&limit={limit}&rows={rows}");
        let Some(body) = self.get(&path)? else { return Ok(None) };
        read_page(&body).map(Some).ok_or_else(|| self.odd("books that cannot be understood"))
    }

    /// Pauses an item and raises an alarm; says what came of it.
    ///
    /// # Errors
    /// Why it is not paused.
    pub fn report(&self, item: ItemId, reason: &str) -> Result<(), String> {
        let body = serde_json::json!({ "reason": reason }).to_string();
        let path = format!("/admin/items/{item}/mismatch");
        let sent = self.patiently(|| {
            let post = self.agent.post(format!("{}{path}", self.base));
            post.header("Authorization", format!("Bearer {}", self.token)).send(&body)
        });
        match sent {
            Ok(_) => Ok(()),
            Err(ureq::Error::StatusCode(404)) => Err("the engine does not have it".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn get(&self, path: &str) -> Result<Option<Value>, Trouble> {
        let url = format!("{}{path}", self.base);
        let told = self.patiently(|| {
            let get = self.agent.get(&url).header("Authorization", format!("Bearer {}", self.token));
            get.call().and_then(|mut response| response.body_mut().read_json::<Value>())
        });
        match told {
            Ok(body) => Ok(Some(body)),
            Err(ureq::Error::StatusCode(404)) => Ok(None),
            Err(ureq::Error::StatusCode(401)) => Err(Trouble::Unable(format!(
                "{} does not take the admin token; give the settings that it was started with",
                self.base
            ))),
            Err(error) => {
                Err(Trouble::Unable(format!("the engine at {} does not answer ({error})", self.base)))
            }
        }
    }

    /// Once more while there is patience: an engine that starts again, or is busy.
    fn patiently<T>(&self, call: impl Fn() -> Result<T, ureq::Error>) -> Result<T, ureq::Error> {
        let deadline = Instant::now() + self.patience;
        loop {
            match call() {
                Err(ureq::Error::StatusCode(code)) if code != 503 => {
                    return Err(ureq::Error::StatusCode(code));
                }
                Err(_) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
                done => return done,
            }
        }
    }

    fn odd(&self, what: &str) -> Trouble {
        Trouble::Unable(format!("{} told {what}; is it the merchant listener of an engine?", self.base))
    }
}

fn read_page(body: &Value) -> Option<Page> {
    let number = |name: &str| body[name].as_u64();
    let narrow = |name: &str| number(name).and_then(|value| u32::try_from(value).ok());
    let rows = body["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    Some(Page {
        as_of: Lsn(number("as_of_lsn")?),
        piles: [number("granted")?, number("available")?, number("held")?, number("sold")?],
        last_seq: narrow("last_seq")?,
        range: (narrow("after")?, narrow("to")?),
        digest: RecordDigest {
            orders: number("orders")?,
            sum: u64::from_str_radix(body["digest"].as_str()?, 16).ok()?,
        },
        rows: rows.iter().map(read_row).collect::<Option<_>>()?,
    })
}

/// The names as [`Fields::of_record`] has them.
fn read_row(row: &Value) -> Option<Fields> {
    let text = |name: &str| row[name].as_str().map(str::to_owned);
    let number = |name: &str| row[name].as_u64().map(|value| value.to_string());
    let pairs = vec![
        ("buyer", text("buyer")?),
        ("quantity", number("quantity")?),
        ("state", text("state")?),
        ("lsn", number("state_lsn")?),
        ("placed_lsn", number("lsn")?),
        ("created_at_ms", number("created_at_ms")?),
        ("pay_by_ms", number("pay_by_ms")?),
        ("key_hash", text("key_hash")?),
        ("payment_ref_hash", text("payment_ref_hash")?),
        ("refund_ref_hash", text("refund_ref_hash")?),
        ("refunded", number("refunded")?),
        ("price", text("price")?),
    ];
    Some(Fields::of_pairs(row["order_id"].as_str()?.parse().ok()?, pairs))
}

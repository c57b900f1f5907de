//! Values into documents: each page is a template of `net/templates`, filled from a struct.
//!
//! The templates are compiled into the program: one that names a value or a text which does
//! not exist does not compile. All that they print is escaped, for elements and for attributes
//! in quotes. Times and states come in as values; nothing is asked for here.

use askama::Template;
use stampede_core::item::Payment;
use stampede_core::types::{ItemId, OrderId};

use super::format::{Utc, price};
use super::html::Html;
use super::words::{Lang, Words};
use crate::http::answer::{OrderView, Status};
use crate::http::assets;
use crate::http::problem::{Code, Problem};

/// Longest time before a "not open yet" notice returns to the sale, in seconds.
const EARLY_RENEW_S_MAX: u64 = 300;
/// Without script, a page refreshes after so many seconds while its order is being settled.
const SETTLE_S: u32 = 3;
/// And while its order waits for a payment.
const HOLD_S: u32 = 15;

fn rendered(page: &impl Template) -> Vec<u8> {
    // Writing into memory cannot fail.
    page.render().unwrap_or_default().into_bytes()
}

fn price_text(words: &Words, minor: u64, currency: [u8; 3]) -> String {
    if minor == 0 { words.free.to_owned() } else { price(minor, currency) }
}

// ---- an item ----

/// An item, as its page and the list show it. It holds nothing of a buyer.
#[derive(Clone, Copy, Debug, Template)]
#[template(path = "sale.html", whitespace = "minimize")]
pub struct SaleView<'a> {
    /// In which language.
    pub words: &'static Words,
    /// Which.
    pub item: ItemId,
    /// What the merchant calls it.
    pub name: &'a str,
    /// Price of one unit in minor units.
    pub price_minor: u64,
    /// ISO 4217 code.
    pub currency: [u8; 3],
    /// `upcoming`, `open`, `sold_out`, `paused` or `ended`.
    pub state: &'static str,
    /// `plenty`, `few`, `last` or `none`.
    pub band: &'static str,
    /// First moment of the sale, in Unix milliseconds.
    pub opens_at_ms: u64,
    /// First moment after it.
    pub closes_at_ms: u64,
    /// Most units per buyer.
    pub cap: u32,
    /// When stock is deducted.
    pub payment: Payment,
    /// How long an order waits for its payment, in milliseconds.
    pub hold_ms: u64,
    /// Until when the entries of a draw are taken, while they are.
    pub draws_at_ms: Option<u64>,
    /// How long the script waits before it reads the item again, in milliseconds.
    pub refresh_ms: u64,
    /// When the page refreshes without script, in seconds; 0 = not at all.
    pub renew_s: u32,
    /// The idempotency key of the form.
    pub key: &'a str,
    /// Whether this is the demo, which makes up buyers and payments.
    pub demo: bool,
}

impl SaleView<'_> {
    /// The page.
    pub fn page(&self) -> Vec<u8> {
        rendered(self)
    }

    fn price(&self) -> String {
        price_text(self.words, self.price_minor, self.currency)
    }

    fn cap_text(&self) -> String {
        self.words.cap.replace("{n}", &self.cap.to_string())
    }

    fn band_text(&self) -> &'static str {
        match self.band {
            "plenty" => self.words.band_plenty,
            "few" => self.words.band_few,
            "last" => self.words.band_last,
            _ => self.words.band_none,
        }
    }

    fn button_and_note(&self) -> (&'static str, &'static str) {
        match self.state {
            "open" if self.draws_at_ms.is_some() => (self.words.b_draw, self.words.n_draw),
            "sold_out" if self.payment == Payment::Hold => {
                (self.words.b_sold_out, self.words.n_sold_out_hold)
            }
            state => self.words.of_state(state),
        }
    }

    /// What happens next, and when.
    fn timer(&self) -> (&'static str, Utc) {
        match (self.state, self.draws_at_ms) {
            ("open", Some(draws_at_ms)) => (self.words.draws_at, Utc(draws_at_ms)),
            _ => self.begins_or_ends(),
        }
    }

    fn begins_or_ends(&self) -> (&'static str, Utc) {
        match self.state {
            "upcoming" => (self.words.opens_at, Utc(self.opens_at_ms)),
            _ => (self.words.closes_at, Utc(self.closes_at_ms)),
        }
    }

    fn next_hold(&self) -> String {
        self.words.next_hold.replace("{t}", &self.words.span(self.hold_ms))
    }

    /// The state in the list.
    fn state_text(&self) -> &'static str {
        match self.state {
            "upcoming" => self.words.s_upcoming,
            "open" => self.words.s_open,
            "sold_out" => self.words.s_sold_out,
            "paused" => self.words.s_paused,
            _ => self.words.s_ended,
        }
    }
}

#[derive(Template)]
#[template(path = "list.html", whitespace = "minimize")]
struct List<'a> {
    words: &'static Words,
    renew_s: u32,
    sales: Vec<SaleView<'a>>,
}

/// The page of all sales. It refreshes after `renew_s` seconds.
pub fn list<'v>(sales: impl IntoIterator<Item = SaleView<'v>>, renew_s: u32, lang: Lang) -> Vec<u8> {
    rendered(&List { words: lang.words(), renew_s, sales: sales.into_iter().collect() })
}

// ---- an order ----

/// An order and what it is of, as its buyer sees it.
#[derive(Clone, Copy, Debug)]
pub struct OrderPage<'a> {
    /// The order.
    pub order: OrderView,
    /// What the merchant calls the item.
    pub name: &'a str,
    /// Price of one unit in minor units.
    pub price_minor: u64,
    /// ISO 4217 code.
    pub currency: [u8; 3],
    /// Now, in Unix milliseconds.
    pub now_ms: u64,
    /// Whether this is the demo.
    pub demo: bool,
}

#[derive(Template)]
#[template(path = "order.html", whitespace = "minimize")]
struct Order<'a> {
    words: &'static Words,
    renew_s: u32,
    state: &'static str,
    item: ItemId,
    order: OrderId,
    name: &'a str,
    heading: &'static str,
    note: String,
    price: String,
    quantity: String,
    pay_by: Option<Utc>,
    can_pay: bool,
    can_cancel: bool,
    can_retry: bool,
}

/// The page of an order. Without script it refreshes for as long as the order may change.
pub fn order(page: &OrderPage<'_>, lang: Lang) -> Vec<u8> {
    let words = lang.words();
    let (view, state) = (&page.order, page.order.state.name());
    let (heading, note) = words.of_state(state);
    let waits = matches!(state, "held" | "pending");
    let pay_by_ms = Some(view.pay_by_ms.0).filter(|&ms| ms != 0 && waits);
    rendered(&Order {
        words,
        renew_s: match state {
            "accepted" | "entered" => SETTLE_S,
            "held" | "pending" => pay_by_ms.map_or(HOLD_S, |ms| due_s(ms, page.now_ms)),
            _ => 0,
        },
        // The state of the page's machine that the order's state is.
        state: match state {
            "confirmed" | "paid" => "won",
            "held" | "pending" => "held",
            "accepted" => "waiting",
            other => other,
        },
        item: view.order.item(),
        order: view.order,
        name: page.name,
        heading,
        note: if waits && !page.demo { format!("{note} {}", words.pay_shop) } else { note.to_owned() },
        price: price_text(words, page.price_minor, page.currency),
        quantity: match view.quantity.get() {
            1 => String::new(),
            many => words.quantity.replace("{n}", &many.to_string()),
        },
        pay_by: pay_by_ms.map(Utc),
        can_pay: waits && page.demo,
        can_cancel: waits,
        can_retry: matches!(state, "cancelled" | "expired"),
    })
}

/// Seconds until just after this moment, at most [`HOLD_S`]: a payment made elsewhere shows by then.
fn due_s(at_ms: u64, now_ms: u64) -> u32 {
    let left_s = at_ms.saturating_sub(now_ms) / 1_000 + 1;
    left_s.min(u64::from(HOLD_S)) as u32
}

// ---- the step before an order ----

/// A challenge to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChallengeView<'a> {
    /// Its name, which goes with the answer.
    pub challenge: &'a str,
    /// The drawing.
    pub svg: &'a str,
}

impl ChallengeView<'_> {
    /// The drawing for `<img>`: no script runs in an image.
    fn base64(&self) -> String {
        use base64::Engine as _;
        base64::prelude::BASE64_STANDARD.encode(self.svg)
    }
}

/// What a buyer without script is asked before the order.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// To confirm; this is the ticket.
    Confirm(&'a str),
    /// To solve a challenge; `true`: the last answer was wrong.
    Solve(ChallengeView<'a>, bool),
}

#[derive(Template)]
#[template(path = "confirm.html", whitespace = "minimize")]
struct Confirm<'a> {
    words: &'static Words,
    renew_s: u32,
    item: ItemId,
    key: &'a str,
    ask: Ask<'a>,
}

/// The page with the step before the order.
pub fn confirm(item: ItemId, key: &str, ask: Ask<'_>, lang: Lang) -> Vec<u8> {
    rendered(&Confirm { words: lang.words(), renew_s: 0, item, key, ask })
}

// ---- refusals ----

#[derive(Template)]
#[template(path = "notice.html", whitespace = "minimize")]
struct Notice<'a> {
    words: &'static Words,
    renew_s: u32,
    state: &'static str,
    heading: &'static str,
    note: &'a str,
    item: Option<ItemId>,
    order: Option<OrderId>,
}

/// The page that says why a request was refused, and what to do now.
pub fn refusal(problem: &Problem, item: Option<ItemId>, lang: Lang) -> Html {
    let words = lang.words();
    let (state, heading, note) = words.of_refusal(problem.code);
    let early = problem.opens_in_ms.map(|left_ms| words.n_early.replace("{t}", &words.span(left_ms)));
    let body = rendered(&Notice {
        words,
        // A buyer who came too early returns to the sale when it opens.
        renew_s: problem.opens_in_ms.map_or(0, |left_ms| (left_ms / 1_000 + 1).min(EARLY_RENEW_S_MAX) as u32),
        state,
        heading,
        note: early.as_deref().unwrap_or(note),
        item: item.filter(|_| problem.code != Code::NotFound),
        order: problem.order_id,
    });
    let retry_after_ms = problem.retry_after_ms.or(problem.code.retry_after_ms_default());
    Html { retry_after_ms, ..Html::private(problem.code.status(), body) }
}

/// The page for a browser that does not send back the session's cookie.
pub fn no_cookie(item: ItemId, lang: Lang) -> Html {
    let words = lang.words();
    let body = rendered(&Notice {
        words,
        renew_s: 0,
        state: "limited",
        heading: words.p_cookie,
        note: words.p_cookie_note,
        item: Some(item),
        order: None,
    });
    Html::private(Status::Unauthorized, body)
}

#[cfg(test)]
mod tests;

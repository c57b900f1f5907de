//! Values into documents: the pages of the sale, each a template with its gaps filled.
//!
//! Text is escaped by its type: only [`Markup`] goes in as it is, and only this file
//! makes any. Times and states come in as values; nothing is asked for here.

use stampede_core::item::Payment;
use stampede_core::types::{ItemId, OrderId};

use super::format::{iso, price, utc};
use super::html::Html;
use super::words::{Lang, Words};
use crate::http::answer::{OrderView, Status};
use crate::http::assets::{self, Asset};
use crate::http::problem::{Code, Problem};

/// HTML that was made here.
#[derive(Debug, Default)]
struct Markup(String);

/// What fills a gap.
enum Gap<'a> {
    /// Anything at all; escaped.
    Text(&'a str),
    /// A number.
    Number(u64),
    /// HTML that was made here.
    Markup(&'a Markup),
}

use Gap::{Number, Text};

impl Markup {
    /// Appends a template with its gaps `{{name}}` filled.
    fn fill(&mut self, template: &str, gaps: &[(&str, Gap<'_>)]) {
        let mut rest = template;
        while let Some((before, gap_on)) = rest.split_once("{{") {
            self.0.push_str(before);
            let (name, after) = gap_on.split_once("}}").unwrap_or((gap_on, ""));
            let gap = gaps.iter().find(|(known, _)| *known == name);
            debug_assert!(gap.is_some(), "nothing fills {name}");
            match gap {
                Some((_, Text(text))) => self.escape(text),
                Some((_, Number(number))) => self.0.push_str(itoa::Buffer::new().format(*number)),
                Some((_, Gap::Markup(markup))) => self.0.push_str(&markup.0),
                None => {}
            }
            rest = after;
        }
        self.0.push_str(rest);
    }

    fn filled(template: &str, gaps: &[(&str, Gap<'_>)]) -> Self {
        let mut markup = Self::default();
        markup.fill(template, gaps);
        markup
    }

    /// Appends text, safe within elements and within attributes in double quotes.
    fn escape(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                plain => self.0.push(plain),
            }
        }
    }
}

const FRAME: &str = include_str!("../../templates/frame.html");
const SALE: &str = include_str!("../../templates/sale.html");
const LIST: &str = include_str!("../../templates/list.html");
const ROW: &str = include_str!("../../templates/row.html");
const ORDER: &str = include_str!("../../templates/order.html");
const NOTICE: &str = include_str!("../../templates/notice.html");
const CONFIRM: &str = include_str!("../../templates/confirm.html");

/// Longest wait of a notice that came too early before it goes back to the sale, in seconds.
const EARLY_RENEW_S_MAX: u64 = 300;

/// Around a page: the script that it runs, and after how many seconds it renews itself
/// where no script runs; 0 = not at all.
fn frame(lang: Lang, title: &str, script: Option<&Asset>, renew_s: u32, main: &Markup) -> Vec<u8> {
    let words = lang.words();
    let mut head = Markup::default();
    if let Some(script) = script {
        let path = [("path", Text(script.path))];
        head.fill("<script type=\"module\" src=\"{{path}}\"></script>\n", &path);
    }
    if renew_s > 0 {
        let gaps = [("s", Number(u64::from(renew_s)))];
        head.fill("<noscript><meta http-equiv=\"refresh\" content=\"{{s}}\"></noscript>\n", &gaps);
    }
    let gaps = [
        ("lang", Text(lang.tag())),
        ("title", Text(title)),
        ("style", Text(assets::STYLE.path)),
        ("icon", Text(assets::ICON.path)),
        ("brand", Text(words.brand)),
        ("head", Gap::Markup(&head)),
        ("main", Gap::Markup(main)),
    ];
    Markup::filled(FRAME, &gaps).0.into_bytes()
}

/// An item, as its page shows it.
#[derive(Clone, Copy, Debug)]
pub struct SaleView<'a> {
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
    /// How long a script should wait before it asks again, in milliseconds.
    pub refresh_ms: u64,
    /// When a page without script renews itself, in seconds; 0 = not at all.
    pub renew_s: u32,
    /// The idempotency key of the form.
    pub key: &'a str,
    /// Whether this is the demo, in which buyers are made up and payments pretended.
    pub demo: bool,
}

/// The page of an item. It holds nothing of a buyer.
pub fn sale(view: &SaleView<'_>, lang: Lang) -> Vec<u8> {
    let words = lang.words();
    let draws = view.draws_at_ms.is_some() && view.state == "open";
    let (button, note) = match view.state {
        "open" if draws => (words.b_draw, words.n_draw),
        state => state_words(words, state),
    };
    let (timer_label, time) = match (view.state, view.draws_at_ms) {
        ("upcoming", _) => (words.opens_at, view.opens_at_ms),
        ("open", Some(draws_at_ms)) => (words.t_draws, draws_at_ms),
        _ => (words.closes_at, view.closes_at_ms),
    };
    let disabled = if view.state == "open" { "" } else { " aria-disabled=\"true\"" };
    let gaps = [
        ("state", Text(view.state)),
        ("item", Number(u64::from(view.item.get()))),
        ("opens", Number(view.opens_at_ms)),
        ("closes", Number(view.closes_at_ms)),
        ("payment", Text(view.payment.name())),
        ("refresh", Number(view.refresh_ms)),
        ("demo", Text(if view.demo { "true" } else { "false" })),
        ("words", Text(&String::from_utf8(words.for_script()).unwrap_or_default())),
        ("band", Text(view.band)),
        ("band_text", Text(band_words(words, view.band))),
        ("name", Text(view.name)),
        ("price", Text(&price_text(words, view.price_minor, view.currency))),
        ("cap", Text(&cap_text(words, view.cap))),
        ("timer_label", Text(timer_label)),
        ("iso", Text(&iso(time))),
        ("utc", Text(&utc(time))),
        ("key", Text(view.key)),
        ("drawing", Text(words.drawing)),
        ("answer_label", Text(words.answer_label)),
        ("pow", Text(words.pow)),
        ("disabled", Gap::Markup(&Markup(disabled.to_owned()))),
        ("button", Text(button)),
        ("note", Text(note)),
        ("pay", Text(words.pay)),
        ("cancel", Text(words.cancel)),
        ("next", Text(words.next)),
        ("steps", Gap::Markup(&steps(words, view))),
        ("reload", Text(words.reload)),
        ("all", Text(words.all)),
    ];
    let main = Markup::filled(SALE, &gaps);
    frame(lang, view.name, Some(&assets::SCRIPT), view.renew_s, &main)
}

fn steps(words: &Words, view: &SaleView<'_>) -> Markup {
    let (after, result) = match view.payment {
        Payment::OnOrder => (words.next_order.to_owned(), words.next_result),
        Payment::Hold => (words.next_hold.replace("{t}", &span(words, view.hold_ms)), words.next_result_hold),
        Payment::OnPayment => (words.next_pending.to_owned(), words.next_result),
    };
    let (first, after, result) = match view.draws_at_ms {
        Some(_) => (words.next_enter, words.next_drawn, words.next_check),
        None => (words.next_press, after.as_str(), result),
    };
    let mut steps = Markup::default();
    for step in [first, after, result] {
        steps.fill("<li>{{step}}</li>", &[("step", Text(step))]);
    }
    steps
}

/// A duration in words, by its two largest units.
fn span(words: &Words, ms: u64) -> String {
    let s = ms.div_ceil(1_000).max(1);
    let units =
        [(words.u_d, s / 86_400), (words.u_h, s / 3_600 % 24), (words.u_m, s / 60 % 60), (words.u_s, s % 60)];
    let parts = units.iter().filter(|(_, n)| *n > 0).take(2);
    parts.map(|(unit, n)| unit.replace("{n}", &n.to_string())).collect::<Vec<_>>().join(" ")
}

fn price_text(words: &Words, minor: u64, currency: [u8; 3]) -> String {
    if minor == 0 { words.free.to_owned() } else { price(minor, currency) }
}

fn cap_text(words: &Words, cap: u32) -> String {
    if cap == 1 { words.cap_one.to_owned() } else { words.cap_many.replace("{n}", &cap.to_string()) }
}

fn band_words(words: &Words, band: &str) -> &'static str {
    match band {
        "plenty" => words.band_plenty,
        "few" => words.band_few,
        "last" => words.band_last,
        _ => words.band_none,
    }
}

/// What the button and the line below it say in a state of an item or an order.
fn state_words(words: &Words, state: &str) -> (&'static str, &'static str) {
    match state {
        "upcoming" => (words.b_upcoming, words.n_upcoming),
        "open" => (words.b_open, words.n_open),
        "sold_out" => (words.b_sold_out, words.n_sold_out),
        "paused" => (words.b_paused, words.n_paused),
        "ended" => (words.b_ended, words.n_ended),
        "accepted" => (words.b_waiting, words.n_sending),
        "confirmed" => (words.b_won, words.n_won),
        "paid" => (words.b_won, words.n_paid),
        "held" => (words.b_held, words.n_held),
        "pending" => (words.b_held, words.n_pending),
        "entered" => (words.b_entered, words.n_entered),
        "lost" => (words.b_lost, words.n_lost),
        "expired" => (words.p_late, words.n_expired),
        "cancelled" => (words.b_ended, words.n_cancelled),
        _ => (words.b_ended, words.n_refunded),
    }
}

// ---- the list ----

/// The page of all sales. It renews itself after so many seconds.
pub fn list<'v>(views: impl IntoIterator<Item = SaleView<'v>>, renew_s: u32, lang: Lang) -> Vec<u8> {
    let words = lang.words();
    let mut rows = Markup::default();
    for view in views {
        let upcoming = view.state == "upcoming";
        let time = if upcoming { view.opens_at_ms } else { view.closes_at_ms };
        let gaps = [
            ("state", Text(view.state)),
            ("item", Number(u64::from(view.item.get()))),
            ("name", Text(view.name)),
            ("price", Text(&price_text(words, view.price_minor, view.currency))),
            ("state_text", Text(list_words(words, view.state))),
            ("when", Text(if upcoming { words.opens_at } else { words.closes_at })),
            ("iso", Text(&iso(time))),
            ("utc", Text(&utc(time))),
        ];
        rows.fill(ROW, &gaps);
    }
    let items = match rows.0.is_empty() {
        true => Markup::filled("<p>{{none}}</p>\n", &[("none", Text(words.no_sales))]),
        false => Markup::filled("<ul class=\"list\">\n{{rows}}</ul>\n", &[("rows", Gap::Markup(&rows))]),
    };
    let gaps = [
        ("sales", Text(words.sales)),
        ("lead", Text(words.sales_lead)),
        ("renew", Number(u64::from(renew_s))),
        ("items", Gap::Markup(&items)),
    ];
    frame(lang, words.sales, Some(&assets::PAGE_SCRIPT), renew_s, &Markup::filled(LIST, &gaps))
}

fn list_words(words: &Words, state: &str) -> &'static str {
    match state {
        "upcoming" => words.s_upcoming,
        "open" => words.s_open,
        "sold_out" => words.s_sold_out,
        "paused" => words.s_paused,
        _ => words.s_ended,
    }
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

/// Seconds after which a page renews itself that waits for an order to be settled.
const SETTLE_S: u32 = 3;
/// Seconds after which it does so while an order waits for its payment.
const HOLD_S: u32 = 15;

/// The page of an order. Without script: it renews itself while something may happen.
pub fn order(page: &OrderPage<'_>, lang: Lang) -> Vec<u8> {
    let words = lang.words();
    let (view, state) = (&page.order, page.order.state.name());
    let (heading, note) = state_words(words, state);
    let heading = if state == "cancelled" || state == "refunded" { note } else { heading };
    let waits = matches!(state, "held" | "pending");
    let pay_by_ms = Some(view.pay_by_ms.0).filter(|&ms| ms != 0 && waits);
    let deadline = pay_by_ms.map_or_else(Markup::default, |ms| deadline(words, ms));
    let note = if waits && !page.demo { format!("{note} {}", words.pay_shop) } else { note.to_owned() };
    let quantity = match view.quantity.get() {
        1 => String::new(),
        many => words.quantity.replace("{n}", &many.to_string()),
    };
    let renew_s = match state {
        "accepted" | "entered" => SETTLE_S,
        "held" | "pending" => pay_by_ms.map_or(HOLD_S, |ms| due_s(ms, page.now_ms)),
        _ => 0,
    };
    let gaps = [
        ("state", Text(shown_state(state))),
        ("renew", Number(u64::from(renew_s))),
        ("item", Number(u64::from(view.order.item().get()))),
        ("order", Number(view.order.get())),
        ("name", Text(page.name)),
        ("heading", Text(heading)),
        ("price", Text(&price_text(words, page.price_minor, page.currency))),
        ("quantity", Text(&quantity)),
        ("deadline", Gap::Markup(&deadline)),
        ("note", Text(&note)),
        ("order_text", Text(&words.order.replace("{n}", &view.order.get().to_string()))),
        ("forms", Gap::Markup(&order_forms(words, view, page.demo))),
        ("back", Text(words.back)),
    ];
    frame(lang, heading, Some(&assets::PAGE_SCRIPT), renew_s, &Markup::filled(ORDER, &gaps))
}

/// The state of the page's machine that an order's state is.
fn shown_state(state: &'static str) -> &'static str {
    match state {
        "confirmed" | "paid" => "won",
        "held" | "pending" => "held",
        "accepted" => "waiting",
        other => other,
    }
}

/// Seconds until just after this moment, but no more than a payment elsewhere may go unseen.
fn due_s(at_ms: u64, now_ms: u64) -> u32 {
    let left_s = at_ms.saturating_sub(now_ms) / 1_000 + 1;
    left_s.min(u64::from(HOLD_S)) as u32
}

fn deadline(words: &Words, ms: u64) -> Markup {
    let gaps = [("label", Text(words.pay_by)), ("iso", Text(&iso(ms))), ("utc", Text(&utc(ms)))];
    Markup::filled(
        "<p class=\"timer\" id=\"timer\">{{label}} <span class=\"clock\"><time datetime=\"{{iso}}\">{{utc}}</time></span></p>\n",
        &gaps,
    )
}

fn order_forms(words: &Words, view: &OrderView, demo: bool) -> Markup {
    let mut forms = Markup::default();
    let (item, order) = (u64::from(view.order.item().get()), view.order.get());
    let mut verb = |id: &str, class: &str, text: &str| {
        let gaps = [
            ("item", Number(item)),
            ("order", Number(order)),
            ("verb", Text(id)),
            ("class", Text(class)),
            ("text", Text(text)),
        ];
        forms.fill(
            "<form method=\"post\" action=\"/sale/{{item}}/order/{{order}}/{{verb}}\">\
             <button class=\"{{class}}\" id=\"{{verb}}\">{{text}}</button></form>\n",
            &gaps,
        );
    };
    match view.state.name() {
        "held" | "pending" => {
            if demo {
                verb("pay", "pay", words.pay);
            }
            verb("cancel", "plain", words.cancel);
        }
        "cancelled" | "expired" => {
            // A key of its own: the one of the page may be that of this very order.
            let key = format!("again-{order}");
            let gaps = [("item", Number(item)), ("key", Text(&key)), ("text", Text(words.again))];
            forms.fill(
                "<form method=\"post\" action=\"/sale/{{item}}\"><input type=\"hidden\" name=\"key\" value=\"{{key}}\">\
                 <button class=\"buy\" id=\"buy\">{{text}}</button></form>\n",
                &gaps,
            );
        }
        _ => {}
    }
    let row = [("forms", Gap::Markup(&forms))];
    if forms.0.is_empty() { forms } else { Markup::filled("<div class=\"row\">{{forms}}</div>", &row) }
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

/// What a form without script has to ask before it can buy.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// Nothing more: the ticket is there.
    Confirm(&'a str),
    /// The answer to a challenge; `true`: the last answer was wrong.
    Solve(ChallengeView<'a>, bool),
}

/// The page with the step before the order.
pub fn confirm(item: ItemId, key: &str, ask: Ask<'_>, lang: Lang) -> Vec<u8> {
    let words = lang.words();
    let (note, fields) = match ask {
        Ask::Confirm(ticket) => {
            let gaps = [("ticket", Text(ticket))];
            let field = "<input type=\"hidden\" name=\"ticket\" value=\"{{ticket}}\">\n";
            (words.confirm_lead.to_owned(), Markup::filled(field, &gaps))
        }
        Ask::Solve(challenge, again) => {
            let first = if again { words.challenge_again } else { words.n_challenge };
            (format!("{first} {}", words.pow_script), puzzle(words, challenge))
        }
    };
    let gaps = [
        ("item", Number(u64::from(item.get()))),
        ("heading", Text(words.confirm_title)),
        ("note", Text(&note)),
        ("key", Text(key)),
        ("fields", Gap::Markup(&fields)),
        ("button", Text(words.b_challenge)),
        ("back", Text(words.back)),
    ];
    frame(lang, words.confirm_title, None, 0, &Markup::filled(CONFIRM, &gaps))
}

fn puzzle(words: &Words, challenge: ChallengeView<'_>) -> Markup {
    use base64::Engine as _;
    // As an image it can do nothing but be seen.
    let drawing = base64::prelude::BASE64_STANDARD.encode(challenge.svg);
    let gaps = [
        ("challenge", Text(challenge.challenge)),
        ("svg", Text(&drawing)),
        ("drawing", Text(words.drawing)),
        ("label", Text(words.answer_label)),
    ];
    Markup::filled(
        "<div class=\"puzzle\"><input type=\"hidden\" name=\"challenge\" value=\"{{challenge}}\">\n\
         <img id=\"drawing\" src=\"data:image/svg+xml;base64,{{svg}}\" alt=\"{{drawing}}\">\n\
         <label for=\"answer\">{{label}}</label>\n\
         <input id=\"answer\" name=\"answer\" type=\"text\" inputmode=\"numeric\" autocomplete=\"off\" maxlength=\"16\" required></div>\n",
        &gaps,
    )
}

// ---- refusals ----

/// The page that says why something was refused, and what to do now.
pub fn refusal(problem: &Problem, item: Option<ItemId>, lang: Lang) -> Html {
    let words = lang.words();
    let (state, heading, note) = refusal_words(words, problem.code);
    let note = match problem.opens_in_ms {
        Some(left_ms) => words.n_early.replace("{t}", &span(words, left_ms)),
        None => note.to_owned(),
    };
    let mut links = Markup::default();
    let mut more = Markup::default();
    if let Some(item) = item.filter(|_| problem.code != Code::NotFound) {
        let gaps = [("item", Number(u64::from(item.get()))), ("text", Text(words.back))];
        links.fill("<a href=\"/sale/{{item}}\">{{text}}</a> ", &gaps);
    }
    links.fill("<a href=\"/\">{{all}}</a>", &[("all", Text(words.all))]);
    if let Some(order) = problem.order_id {
        more = order_link(words, order);
    }
    let gaps = [
        ("state", Text(state)),
        ("heading", Text(heading)),
        ("note", Text(&note)),
        ("more", Gap::Markup(&more)),
        ("links", Gap::Markup(&links)),
    ];
    // One that came too early goes back to the sale when that opens.
    let renew_s =
        problem.opens_in_ms.map_or(0, |left_ms| (left_ms / 1_000 + 1).min(EARLY_RENEW_S_MAX) as u32);
    let body = frame(lang, heading, None, renew_s, &Markup::filled(NOTICE, &gaps));
    let retry_after_ms = problem.retry_after_ms.or(problem.code.retry_after_ms_default());
    Html { retry_after_ms, ..Html::private(problem.code.status(), body) }
}

fn order_link(words: &Words, order: OrderId) -> Markup {
    let text = words.order.replace("{n}", &order.get().to_string());
    let item = u64::from(order.item().get());
    let gaps = [("item", Number(item)), ("order", Number(order.get())), ("text", Text(&text))];
    Markup::filled("<p><a class=\"button\" href=\"/sale/{{item}}/order/{{order}}\">{{text}}</a></p>\n", &gaps)
}

/// The page's state, the heading and the line below it.
fn refusal_words(words: &Words, code: Code) -> (&'static str, &'static str, &'static str) {
    let of_state = |state: &'static str| {
        let (heading, note) = state_words(words, state);
        (state, heading, note)
    };
    match code {
        Code::NotOpen => of_state("upcoming"),
        Code::SoldOut => of_state("sold_out"),
        Code::Ended => of_state("ended"),
        Code::Paused => of_state("paused"),
        Code::CapReached => ("limited", words.p_cap, words.p_cap_note),
        Code::RateLimited => ("limited", words.b_limited, words.p_busy_note),
        Code::Unauthenticated => ("limited", words.b_sign_in, words.n_sign_in),
        Code::NotEligible => ("limited", words.b_not_eligible, words.n_not_eligible),
        Code::NotFound => ("ended", words.p_missing, words.p_missing_note),
        Code::CrossSite => ("limited", words.p_foreign, words.p_foreign_note),
        Code::Overloaded | Code::LogFull | Code::Draining | Code::AwaitingDatabase => {
            ("waiting", words.p_busy, words.p_busy_note)
        }
        Code::HoldExpired => ("ended", words.p_late, words.n_expired),
        Code::NotCancellable | Code::AlreadyPaid => ("ended", words.p_fixed, words.p_fixed_note),
        _ => ("limited", words.p_failed, words.n_failed),
    }
}

/// The page for a browser that was sent a session and did not bring it back.
pub fn no_cookie(item: ItemId, lang: Lang) -> Html {
    let words = lang.words();
    let gaps = [("item", Number(u64::from(item.get()))), ("text", Text(words.back))];
    let links = Markup::filled("<a href=\"/sale/{{item}}\">{{text}}</a>", &gaps);
    let gaps = [
        ("state", Text("limited")),
        ("heading", Text(words.p_cookie)),
        ("note", Text(words.p_cookie_note)),
        ("more", Gap::Markup(&Markup::default())),
        ("links", Gap::Markup(&links)),
    ];
    let main = Markup::filled(NOTICE, &gaps);
    Html::private(Status::Unauthorized, frame(lang, words.p_cookie, None, 0, &main))
}

#[cfg(test)]
mod tests;

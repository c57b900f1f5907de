//! What browsers call: the sale page, its forms, and the demo's sessions.
//!
//! The page of an item is rendered once per change and language and sent to everybody; it
//! holds nothing of a buyer. A form goes the same way to the owner as a call of the API.
//! Next: [`crate::site`] for what the pages look like.

use std::collections::HashMap;

use stampede_core::gauge::{Gauge, ItemState, StockBand};
use stampede_core::item::TicketRule;
use stampede_core::types::{ItemId, OrderId, Quantity, UnixMillis};

use super::{Called, Caller, Home};
use crate::engine::ask::{Ask, OwnedItem, RareAsk};
use crate::engine::browser::{self, Browser};
use crate::engine::pages;
use crate::engine::render::{Call, Shown, problem_of};
use crate::http::answer::{Cache, Status};
use crate::http::assets::ICON;
use crate::http::body;
use crate::http::conn::Request;
use crate::http::field::Name;
use crate::http::negotiate::Wants;
use crate::http::page::{ListTag, Version};
use crate::http::problem::{Code, Problem};
use crate::http::route::Route;
use crate::http::route::site::{AGAIN, SiteCall};
use crate::identity::demo::{RANDOM_BYTES, Session};
use crate::site::form::{self, BuyForm};
use crate::site::html::Html;
use crate::site::render::{self, ChallengeView, SaleView};
use crate::site::words::Lang;

/// Items whose pages are kept; with one more, all are dropped and made again.
const PAGES_MAX: usize = 4_096;
/// How long the list of sales is kept before it is made anew, in milliseconds.
const LIST_MS: u64 = 1_000;
/// When the list renews itself where nothing opens sooner, in seconds.
const LIST_RENEW_S: u32 = 60;
/// Items that the list shows at most; what can be bought comes first.
const LIST_MAX: usize = 100;
/// For how long two loads of a page share the idempotency key of its form, in milliseconds.
const KEY_MS: u64 = 600_000;

/// What of a page changes by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shows {
    state: ItemState,
    band: StockBand,
    refresh_ms: u64,
    renew_s: u32,
    key: u64,
    /// When the draw is held that all who buy until then take part in.
    draws_at_ms: Option<u64>,
}

impl Shows {
    fn of(gauge: &Gauge, item: &OwnedItem, now: UnixMillis) -> Self {
        let state = gauge.state(now);
        let draws_at = item.get().draw.filter(|draw| draw.held.is_none()).map(|draw| draw.draws_at_ms);
        let left_ms = gauge.opens_at_ms().0.saturating_sub(now.0);
        Self {
            state,
            band: gauge.band(),
            refresh_ms: pages::refresh_ms(state, pages::is_soon(left_ms)),
            renew_s: renew_s(state, left_ms),
            key: now.0 / KEY_MS,
            draws_at_ms: draws_at.map(|at_ms| at_ms.0).filter(|&at_ms| now.0 < at_ms),
        }
    }
}

/// When a page without script renews itself: seldom at first, then just after the opening.
const fn renew_s(state: ItemState, left_ms: u64) -> u32 {
    match state {
        ItemState::Upcoming if left_ms > 600_000 => 300,
        ItemState::Upcoming if left_ms > 60_000 => 60,
        ItemState::Upcoming => (left_ms / 1_000) as u32 + 1,
        ItemState::SoldOut | ItemState::Paused => 15,
        ItemState::Open | ItemState::Ended => 0,
    }
}

/// The pages of one item.
struct Entry {
    item: OwnedItem,
    /// What its gauge showed, or less if the item has to be asked for anew.
    gauge_version: u32,
    version: Option<Version>,
    pages: [Option<(Shows, Html)>; Lang::ALL.len()],
}

/// The pages that one core has rendered.
#[derive(Default)]
pub(super) struct SitePages {
    sales: HashMap<ItemId, Entry>,
    lists: [Option<(u64, Html)>; Lang::ALL.len()],
}

impl SitePages {
    /// The page of an item as it is now, or `None` if its settings have to be asked for.
    fn sale(&mut self, gauge: &Gauge, now: UnixMillis, lang: Lang, demo: bool) -> Option<&Html> {
        let entry =
            self.sales.get_mut(&gauge.item()).filter(|entry| entry.gauge_version == gauge.version())?;
        let shows = Shows::of(gauge, &entry.item, now);
        let page = &mut entry.pages[lang as usize];
        if page.as_ref().is_none_or(|(shown, _)| *shown != shows) {
            *page = Some((shows, sale_html(&entry.item, entry.version, shows, (lang, demo))));
        }
        page.as_ref().map(|(_, html)| html)
    }

    fn put(&mut self, item: OwnedItem, version: Option<Version>) {
        if self.sales.len() >= PAGES_MAX {
            self.sales.clear();
        }
        // What is not durable counts as one of before, and is asked for anew.
        let (id, shown) = (item.get().item, item.get().shown_version);
        let gauge_version = shown.wrapping_sub(u32::from(version.is_none()));
        self.sales.insert(id, Entry { item, gauge_version, version, pages: [None, None] });
    }
}

fn sale_html(item: &OwnedItem, version: Option<Version>, shows: Shows, (lang, demo): (Lang, bool)) -> Html {
    let key = format!("page-{}", shows.key);
    let view = sale_view(item, shows, &key, demo);
    let tag = tag(view.item, version, shows).map(|tag| format!("\"{tag}-{}-{}\"", shows.key, lang.tag()));
    Html::shared(tag, render::sale(&view, lang))
}

/// What tells the states of an item's page apart: the fact that made it so, and what changes by itself.
fn tag(item: ItemId, version: Option<Version>, shows: Shows) -> Option<String> {
    let Version { log, lsn } = version?;
    let Shows { state, band, refresh_ms, renew_s, draws_at_ms, key: _ } = shows;
    let (state, band, waits) = (state.name(), band.name(), u8::from(draws_at_ms.is_some()));
    Some(format!("{log:08x}-{item}-{lsn}-{state}-{band}-{refresh_ms}-{renew_s}-{waits}"))
}

fn sale_view<'a>(item: &'a OwnedItem, shows: Shows, key: &'a str, demo: bool) -> SaleView<'a> {
    let view = item.get();
    SaleView {
        item: view.item,
        name: item.name(),
        price_minor: view.spec.price_minor,
        currency: view.spec.currency,
        state: shows.state.name(),
        band: shows.band.name(),
        opens_at_ms: view.spec.opens_at_ms.0,
        closes_at_ms: view.spec.closes_at_ms.0,
        cap: view.spec.cap,
        payment: view.spec.payment,
        hold_ms: view.spec.hold_ms,
        draws_at_ms: shows.draws_at_ms,
        refresh_ms: shows.refresh_ms,
        renew_s: shows.renew_s,
        key,
        demo,
    }
}

impl Home {
    /// Answers a call of the sale page; a refusal is a page, too.
    pub(super) fn site(&mut self, call: SiteCall, caller: &mut Caller<'_>) -> Called {
        let (request, manner) = (caller.request, caller.manner);
        let browser = self.browser(call, request);
        let done = match call {
            // These two are calls of the API, and are answered like one.
            SiteCall::Session => return self.demo_session(caller),
            SiteCall::PayOwn(order) => {
                body::empty(caller.request.body)?;
                return self.pay_own(order, Call::MoveOrder, caller);
            }
            SiteCall::Asset(asset) => {
                let wants = Wants::of(&request.head);
                let date = self.date;
                self.connections.answer_bytes(caller, |out| {
                    asset.answer(out, wants, Cache::FileForEver, manner, &date);
                });
                Ok(())
            }
            SiteCall::Favicon => {
                let wants = Wants::of(&request.head);
                let date = self.date;
                self.connections.answer_bytes(caller, |out| {
                    ICON.answer(out, wants, Cache::File, manner, &date);
                });
                Ok(())
            }
            SiteCall::List => self.sales_page(browser, caller),
            SiteCall::Sale(item) => self.sale_page(item, browser, caller),
            SiteCall::Buy { item, again } => self.buy_form((item, again), browser, caller),
            SiteCall::Order(order) => self.order_page(order, browser, caller),
            SiteCall::Cancel(order) => self.cancel_form(order, browser, caller),
            SiteCall::Pay(order) => self.pay_form(order, browser, caller),
        };
        if let Err(problem) = done {
            let shown = Shown::Problem(problem);
            self.answer(caller.token, caller.out, manner, Call::Browser(browser), shown);
        }
        Ok(())
    }

    /// How the browser that made a call is answered.
    fn browser(&self, call: SiteCall, request: &Request<'_>) -> Browser {
        let (item, buys) = match call {
            SiteCall::Sale(item) => (Some(item), false),
            SiteCall::Buy { item, .. } => (Some(item), true),
            SiteCall::Order(order) | SiteCall::Cancel(order) | SiteCall::Pay(order) => {
                (Some(order.item()), false)
            }
            _ => (None, false),
        };
        let lang = Lang::choose(request.head.field(Name::AcceptLanguage));
        let gzip = Wants::of(&request.head).gzip;
        Browser { lang, item, buys, demo: self.shared.demo.is_some(), gzip }
    }

    /// Refuses what a page of somebody else has sent: a form with a page, a call of the API as such.
    pub(super) fn refuse_foreign(
        &mut self,
        route: &Route,
        problem: Problem,
        caller: &mut Caller<'_>,
    ) -> Called {
        let Route::Site(call @ (SiteCall::Buy { .. } | SiteCall::Cancel(_) | SiteCall::Pay(_))) = *route
        else {
            return Err(problem);
        };
        let call = Call::Browser(self.browser(call, caller.request));
        self.answer(caller.token, caller.out, caller.manner, call, Shown::Problem(problem));
        Ok(())
    }

    // ---- pages for everybody ----

    fn sale_page(&mut self, item: ItemId, browser: Browser, caller: &mut Caller<'_>) -> Called {
        let (request, manner) = (caller.request, caller.manner);
        let shared = self.shared.clone();
        let gauge = shared.catalogue.find(item).ok_or(Code::NotFound.problem())?;
        let (now, date) = (self.now.sale, self.date);
        if let Some(html) = self.site.sale(gauge, now, browser.lang, browser.demo) {
            let wants = Wants::of(&request.head);
            self.connections.answer_bytes(caller, |out| html.answer(out, wants, manner, &date));
            return Ok(());
        }
        self.ask(item, Call::Browser(browser), Ask::Rare(Box::new(RareAsk::Item(item))), caller)
    }

    /// The settings of an item have come: keeps them and answers with the page.
    pub(super) fn sale_reply(&mut self, item: OwnedItem, browser: Browser) -> Shown {
        let shared = self.shared.clone();
        let Some(gauge) = shared.catalogue.find(item.get().item) else {
            return Shown::Problem(Code::NotFound.problem());
        };
        // The item may have changed again meanwhile: then what came is shown once, and the
        // next request asks anew.
        let shows = Shows::of(gauge, &item, self.now.sale);
        let version = pages::version(&shared, &item);
        let html = sale_html(&item, version, shows, (browser.lang, browser.demo));
        self.site.put(item, version);
        Shown::Html(Box::new(html))
    }

    fn sales_page(&mut self, browser: Browser, caller: &mut Caller<'_>) -> Called {
        let (request, manner) = (caller.request, caller.manner);
        if let Some((until_ms, html)) = &self.site.lists[browser.lang as usize]
            && *until_ms > self.now.mono_ms
        {
            let (wants, date) = (Wants::of(&request.head), &self.date);
            self.connections.answer_bytes(caller, |out| html.answer(out, wants, manner, date));
            return Ok(());
        }
        self.rate_address(caller)?;
        self.gather_sales(browser, caller);
        Ok(())
    }

    /// The items have come: keeps their page for a second.
    pub(super) fn sales_reply(&mut self, items: &[OwnedItem], browser: Browser) -> Shown {
        let shared = self.shared.clone();
        let now = self.now.sale;
        let gauge = |item: &OwnedItem| shared.catalogue.find(item.get().item);
        let mut shown: Vec<_> =
            items.iter().filter_map(|item| Some((item, Shows::of(gauge(item)?, item, now)))).collect();
        shown.sort_by_key(|(_, shows)| match shows.state {
            ItemState::Open => 0,
            ItemState::Upcoming => 1,
            ItemState::SoldOut => 2,
            ItemState::Paused => 3,
            ItemState::Ended => 4,
        });
        shown.truncate(LIST_MAX);
        let upcoming = shown.iter().filter(|(_, shows)| shows.state == ItemState::Upcoming);
        let renew_s =
            upcoming.map(|(_, shows)| shows.renew_s).min().unwrap_or(LIST_RENEW_S).min(LIST_RENEW_S);
        let views = shown.iter().map(|(item, shows)| sale_view(item, *shows, "", browser.demo));
        let mut tags = ListTag::new(pages::log_number(&shared));
        for (item, shows) in &shown {
            let version = pages::version(&shared, item);
            tags.add(version, tag(item.get().item, version, *shows).as_deref());
        }
        let tag = tags.finish(&format!("sales-{renew_s}-{}", browser.lang.tag()));
        let html = Html::shared(tag, render::list(views, renew_s, browser.lang));
        self.site.lists[browser.lang as usize] = Some((self.now.mono_ms + LIST_MS, html.clone()));
        Shown::Html(Box::new(html))
    }

    // ---- forms ----

    fn buy_form(
        &mut self,
        (item, again): (ItemId, bool),
        browser: Browser,
        caller: &mut Caller<'_>,
    ) -> Called {
        let (request, manner) = (caller.request, caller.manner);
        let form = BuyForm::parse(&request.head, request.body)?;
        let shared = self.shared.clone();
        let gauge = shared.catalogue.find(item).ok_or(Code::NotFound.problem())?;
        let who = match self.identify(caller) {
            Ok(who) => who,
            Err(problem) if problem.code == Code::Unauthenticated && browser.demo => {
                let shown = self.lend_session((item, again), browser.lang, caller)?;
                self.answer(caller.token, caller.out, manner, Call::Browser(browser), shown);
                return Ok(());
            }
            Err(problem) => return Err(problem),
        };
        let mut ticket = form.ticket.clone();
        if ticket.is_none() && gauge.rules().ticket() == TicketRule::Required {
            match self.step_before(item, &form, caller, browser.lang)? {
                Step::Ticket(given) => ticket = Some(given),
                Step::Page(html) => {
                    let shown = Shown::Html(Box::new(html));
                    self.answer(caller.token, caller.out, manner, Call::Browser(browser), shown);
                    return Ok(());
                }
            }
        }
        let purchase = body::Purchase { quantity: Quantity::ONE, ticket: ticket.as_deref() };
        let key = form.key.as_deref().unwrap_or_default().as_bytes();
        self.place(item, who, (&purchase, key), Call::Browser(browser), caller)
    }

    /// The ticket, or the page with what has to be done for it.
    fn step_before(
        &mut self,
        item: ItemId,
        form: &BuyForm,
        caller: &mut Caller<'_>,
        lang: Lang,
    ) -> Result<Step, Problem> {
        let key = form.key.as_deref().unwrap_or_default();
        let solved = form.solved();
        match self.issue(item, solved, caller) {
            Ok(ticket) if solved.is_some() => Ok(Step::Ticket(ticket.text)),
            Ok(ticket) => Ok(Step::Page(Html::private(
                Status::Ok,
                render::confirm(item, key, render::Ask::Confirm(&ticket.text), lang),
            ))),
            Err(problem) if matches!(problem.code, Code::ChallengeRequired | Code::ChallengeFailed) => {
                let posed = self.pose(item, caller)?;
                let challenge = ChallengeView { challenge: &posed.text, svg: &posed.svg };
                let again = problem.code == Code::ChallengeFailed;
                let page = render::confirm(item, key, render::Ask::Solve(challenge, again), lang);
                Ok(Step::Page(Html::private(Status::Ok, page)))
            }
            Err(problem) => Err(problem),
        }
    }

    fn order_page(&mut self, order: OrderId, browser: Browser, caller: &mut Caller<'_>) -> Called {
        let (_, buyer) = self.identify(caller)?;
        let ask = RareAsk::OrderPage(order, buyer.hash);
        self.ask(order.item(), Call::Browser(browser), Ask::Rare(Box::new(ask)), caller)
    }

    fn cancel_form(&mut self, order: OrderId, browser: Browser, caller: &mut Caller<'_>) -> Called {
        let request = caller.request;
        form::empty(&request.head, request.body)?;
        let (_, buyer) = self.identify(caller)?;
        let ask = Ask::CancelOwn(order, buyer.hash);
        self.ask(order.item(), Call::Browser(browser), ask, caller)
    }

    fn pay_form(&mut self, order: OrderId, browser: Browser, caller: &mut Caller<'_>) -> Called {
        let request = caller.request;
        form::empty(&request.head, request.body)?;
        self.pay_own(order, Call::Browser(browser), caller)
    }

    // ---- the demo ----

    /// Pretends a payment of the buyer's own order.
    fn pay_own(&mut self, order: OrderId, call: Call, caller: &mut Caller<'_>) -> Called {
        if self.shared.demo.is_none() {
            return Err(Code::NotFound.problem());
        }
        let (_, buyer) = self.identify(caller)?;
        let ask = RareAsk::PayOwn(order, buyer.hash);
        self.ask(order.item(), call, Ask::Rare(Box::new(ask)), caller)
    }

    fn demo_session(&mut self, caller: &mut Caller<'_>) -> Called {
        let (request, manner) = (caller.request, caller.manner);
        body::empty(request.body)?;
        let session = self.new_session(caller)?;
        let date = self.date;
        self.connections.answer_bytes(caller, |out| browser::session(out, &session, manner, &date));
        Ok(())
    }

    /// A session for somebody who has none, and the request to send the form once more.
    fn lend_session(
        &mut self,
        (item, again): (ItemId, bool),
        lang: Lang,
        caller: &Caller<'_>,
    ) -> Result<Shown, Problem> {
        if again {
            return Ok(Shown::Html(Box::new(render::no_cookie(item, lang))));
        }
        let cookie = self.new_session(caller)?.cookie;
        Ok(Shown::SendAgain(format!("/sale/{item}?{AGAIN}"), cookie))
    }

    /// To sign is as dear as to verify: the address pays for it.
    fn new_session(&mut self, caller: &Caller<'_>) -> Result<Session, Problem> {
        let address = self.keeper.counts_addresses().then(|| self.address(caller));
        let limited = |refusal| problem_of(refusal, Call::Other);
        self.keeper.rate_address(address, self.now.mono_ms).map_err(limited)?;
        let demo = self.shared.demo.as_ref().ok_or(Code::NotFound.problem())?;
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|_| Code::Internal.problem())?;
        demo.session(&random, self.now.sale).map_err(|_| Code::Internal.problem())
    }
}

/// What comes before an order.
enum Step {
    /// Nothing: this is the ticket.
    Ticket(String),
    /// A page to answer.
    Page(Html),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_script_comes_back_just_after_the_opening() {
        let upcoming = |left_ms| renew_s(ItemState::Upcoming, left_ms);
        assert_eq!([0, 1, 999, 1_000, 59_999, 60_000].map(upcoming), [1, 1, 1, 2, 60, 61]);
        assert_eq!([60_001, 600_000, 600_001, u64::MAX].map(upcoming), [60, 60, 300, 300]);
        assert_eq!(renew_s(ItemState::Open, 0), 0);
    }
}

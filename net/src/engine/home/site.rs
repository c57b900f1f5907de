//! Requests from browsers: the sale pages, their forms, and the demo's sessions.
//!
//! The page of an item is rendered once per change and language and sent to everybody; it
//! holds nothing of a buyer. A form takes the same way to the owner as an API request.
//! Next: [`crate::site`] for the pages themselves.

use stampede_core::gauge::ItemState;
use stampede_core::item::TicketRule;
use stampede_core::types::{ItemId, OrderId, Quantity};

use super::site_pages::{Shows, sale_html, sale_view, tag};
use super::state::{Caller, Handled, Home};
use crate::engine::ask::{Ask, OwnedItem, RareAsk};
use crate::engine::browser;
use crate::engine::pages;
use crate::engine::render::problem_of;
use crate::engine::response::Browser;
use crate::engine::response::{RequestKind, Response};
use crate::http::answer::{Cache, Status};
use crate::http::assets::ICON;
use crate::http::body;
use crate::http::conn::Request;
use crate::http::field::Name;
use crate::http::negotiate::Wants;
use crate::http::page::ListTag;
use crate::http::problem::{Code, Problem};
use crate::http::route::Route;
use crate::http::route::site::{AGAIN, SiteCall};
use crate::identity::demo::{RANDOM_BYTES, Session};
use crate::site::form::{self, BuyForm};
use crate::site::html::Html;
use crate::site::render::{self, ChallengeView};
use crate::site::words::Lang;

/// How long the list of sales is cached, in milliseconds.
const LIST_MS: u64 = 1_000;
/// When the list refreshes, in seconds, unless a sale opens sooner.
const LIST_RENEW_S: u32 = 60;
/// Most items in the list; those that can be bought come first.
const LIST_MAX: usize = 100;

impl Home {
    /// Answers a request for the site. A refusal is a page, too.
    pub(super) fn site(&mut self, call: SiteCall, caller: &mut Caller<'_>) -> Handled {
        let (request, mode) = (caller.request, caller.mode);
        let browser = self.browser(call, request);
        let done = match call {
            // These two belong to the API and are answered in JSON.
            SiteCall::Session => return self.demo_session(caller),
            SiteCall::PayOwn(order) => {
                body::empty(caller.request.body)?;
                return self.pay_own(order, RequestKind::MoveOrder, caller);
            }
            SiteCall::Asset(asset) => {
                let wants = Wants::of(&request.head);
                let date = self.date;
                self.connections.answer_bytes(caller, |out| {
                    asset.answer(out, wants, Cache::FileForEver, mode, &date);
                });
                Ok(())
            }
            SiteCall::Favicon => {
                let wants = Wants::of(&request.head);
                let date = self.date;
                self.connections.answer_bytes(caller, |out| {
                    ICON.answer(out, wants, Cache::File, mode, &date);
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
            let response = Response::Problem(problem);
            self.answer(caller.conn, caller.out, mode, RequestKind::Browser(browser), response);
        }
        Ok(())
    }

    /// How to answer the browser.
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

    /// Refuses a cross-site request: a form with a page, an API request in JSON.
    pub(super) fn refuse_foreign(
        &mut self,
        route: &Route,
        problem: Problem,
        caller: &mut Caller<'_>,
    ) -> Handled {
        let Route::Site(call @ (SiteCall::Buy { .. } | SiteCall::Cancel(_) | SiteCall::Pay(_))) = *route
        else {
            return Err(problem);
        };
        let kind = RequestKind::Browser(self.browser(call, caller.request));
        self.answer(caller.conn, caller.out, caller.mode, kind, Response::Problem(problem));
        Ok(())
    }

    // ---- pages for everybody ----

    fn sale_page(&mut self, item: ItemId, browser: Browser, caller: &mut Caller<'_>) -> Handled {
        let (request, mode) = (caller.request, caller.mode);
        let shared = self.shared.clone();
        let gauge = shared.catalogue.find(item).ok_or(Code::NotFound.problem())?;
        let (now, date) = (self.now.sale, self.date);
        if let Some(html) = self.site.sale(gauge, now, browser.lang, browser.demo) {
            let wants = Wants::of(&request.head);
            self.connections.answer_bytes(caller, |out| html.answer(out, wants, mode, &date));
            return Ok(());
        }
        self.ask(item, RequestKind::Browser(browser), Ask::Rare(Box::new(RareAsk::Item(item))), caller)
    }

    /// The owner has sent the item's settings: caches them and answers with the page.
    pub(super) fn sale_reply(&mut self, item: OwnedItem, browser: Browser) -> Response {
        let shared = self.shared.clone();
        let Some(gauge) = shared.catalogue.find(item.get().item) else {
            return Response::Problem(Code::NotFound.problem());
        };
        // The item may have changed again since: then this page is shown once, and the next
        // request asks the owner again.
        let shows = Shows::of(gauge, &item, self.now.sale);
        let version = pages::version(&shared, &item);
        let html = sale_html(&item, version, shows, (browser.lang, browser.demo));
        self.site.put(item, version);
        Response::Html(Box::new(html))
    }

    fn sales_page(&mut self, browser: Browser, caller: &mut Caller<'_>) -> Handled {
        let (request, mode) = (caller.request, caller.mode);
        if let Some((until_ms, html)) = &self.site.lists[browser.lang as usize]
            && *until_ms > self.now.mono_ms
        {
            let (wants, date) = (Wants::of(&request.head), &self.date);
            self.connections.answer_bytes(caller, |out| html.answer(out, wants, mode, date));
            return Ok(());
        }
        self.rate_address(caller)?;
        self.gather_sales(browser, caller);
        Ok(())
    }

    /// The owners have sent the items: caches their page for a second.
    pub(super) fn sales_reply(&mut self, items: &[OwnedItem], browser: Browser) -> Response {
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
        let views =
            shown.iter().map(|(item, shows)| sale_view(item, *shows, "", (browser.lang, browser.demo)));
        let mut tags = ListTag::new(pages::log_number(&shared));
        for (item, shows) in &shown {
            let version = pages::version(&shared, item);
            tags.add(version, tag(item.get().item, version, *shows).as_deref());
        }
        let tag = tags.finish(&format!("sales-{renew_s}-{}", browser.lang.tag()));
        let html = Html::shared(tag, render::list(views, renew_s, browser.lang));
        self.site.lists[browser.lang as usize] = Some((self.now.mono_ms + LIST_MS, html.clone()));
        Response::Html(Box::new(html))
    }

    // ---- forms ----

    fn buy_form(
        &mut self,
        (item, again): (ItemId, bool),
        browser: Browser,
        caller: &mut Caller<'_>,
    ) -> Handled {
        let (request, mode) = (caller.request, caller.mode);
        let form = BuyForm::parse(&request.head, request.body)?;
        let shared = self.shared.clone();
        let gauge = shared.catalogue.find(item).ok_or(Code::NotFound.problem())?;
        let who = match self.identify(caller) {
            Ok(who) => who,
            Err(problem) if problem.code == Code::Unauthenticated && browser.demo => {
                let response = self.lend_session((item, again), browser.lang, caller)?;
                self.answer(caller.conn, caller.out, mode, RequestKind::Browser(browser), response);
                return Ok(());
            }
            Err(problem) => return Err(problem),
        };
        let mut ticket = form.ticket.clone();
        if ticket.is_none() && gauge.rules().ticket() == TicketRule::Required {
            match self.step_before(item, &form, caller, browser.lang)? {
                Step::Ticket(given) => ticket = Some(given),
                Step::Page(html) => {
                    let response = Response::Html(Box::new(html));
                    self.answer(caller.conn, caller.out, mode, RequestKind::Browser(browser), response);
                    return Ok(());
                }
            }
        }
        let purchase = body::Purchase { quantity: Quantity::ONE, ticket: ticket.as_deref() };
        let key = form.key.as_deref().unwrap_or_default().as_bytes();
        self.place(item, who, (&purchase, key), RequestKind::Browser(browser), caller)
    }

    /// The ticket, or the page that asks for what it needs.
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

    fn order_page(&mut self, order: OrderId, browser: Browser, caller: &mut Caller<'_>) -> Handled {
        let (_, buyer) = self.identify(caller)?;
        let ask = RareAsk::OrderPage(order, buyer.hash);
        self.ask(order.item(), RequestKind::Browser(browser), Ask::Rare(Box::new(ask)), caller)
    }

    fn cancel_form(&mut self, order: OrderId, browser: Browser, caller: &mut Caller<'_>) -> Handled {
        let request = caller.request;
        form::empty(&request.head, request.body)?;
        let (_, buyer) = self.identify(caller)?;
        let ask = Ask::CancelOwn(order, buyer.hash);
        self.ask(order.item(), RequestKind::Browser(browser), ask, caller)
    }

    fn pay_form(&mut self, order: OrderId, browser: Browser, caller: &mut Caller<'_>) -> Handled {
        let request = caller.request;
        form::empty(&request.head, request.body)?;
        self.pay_own(order, RequestKind::Browser(browser), caller)
    }

    // ---- the demo ----

    /// Simulates the payment of the buyer's own order.
    fn pay_own(&mut self, order: OrderId, kind: RequestKind, caller: &mut Caller<'_>) -> Handled {
        if self.shared.demo.is_none() {
            return Err(Code::NotFound.problem());
        }
        let (_, buyer) = self.identify(caller)?;
        let ask = RareAsk::PayOwn(order, buyer.hash);
        self.ask(order.item(), kind, Ask::Rare(Box::new(ask)), caller)
    }

    fn demo_session(&mut self, caller: &mut Caller<'_>) -> Handled {
        let (request, mode) = (caller.request, caller.mode);
        body::empty(request.body)?;
        let session = self.new_session(caller)?;
        let date = self.date;
        self.connections.answer_bytes(caller, |out| browser::session(out, &session, mode, &date));
        Ok(())
    }

    /// A session for a browser that has none, and a redirect that sends the form again.
    fn lend_session(
        &mut self,
        (item, again): (ItemId, bool),
        lang: Lang,
        caller: &Caller<'_>,
    ) -> Result<Response, Problem> {
        if again {
            return Ok(Response::Html(Box::new(render::no_cookie(item, lang))));
        }
        let cookie = self.new_session(caller)?.cookie;
        Ok(Response::SendAgain(format!("/sale/{item}?{AGAIN}"), cookie))
    }

    /// A new session. Signing costs as much as verifying, so it counts for the address's rate.
    fn new_session(&mut self, caller: &Caller<'_>) -> Result<Session, Problem> {
        let address = self.limits.counts_addresses().then(|| self.address(caller));
        let limited = |refusal| problem_of(refusal, RequestKind::Other);
        self.limits.rate_address(address, self.now.mono_ms).map_err(limited)?;
        let demo = self.shared.demo.as_ref().ok_or(Code::NotFound.problem())?;
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|_| Code::Internal.problem())?;
        demo.session(&random, self.now.sale).map_err(|_| Code::Internal.problem())
    }
}

/// What a purchase with a ticket needs next.
enum Step {
    /// Nothing more: this is the ticket.
    Ticket(String),
    /// The buyer's answer to this page.
    Page(Html),
}

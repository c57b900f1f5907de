//! Answers to browsers: what was decided, as pages and redirections.
//!
//! The JSON of the same values is in [`super::render`]. Which page is asked for, and in
//! which language, travels with the request as [`Browser`].

use super::ask::OrderOf;
use super::render::{Moment, Shown};
use crate::http::answer::{self, Manner, Status};
use crate::http::field::Field;
use crate::http::negotiate::Wants;
use crate::site::html::{Html, see_order, send_again};
use crate::site::render;
use crate::site::words::Lang;
use stampede_core::types::ItemId;

/// How a browser is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Browser {
    /// In which language.
    pub lang: Lang,
    /// The item that it is about, if it is about one.
    pub item: Option<ItemId>,
    /// Whether the answer places an order.
    pub buys: bool,
    /// Whether this is the demo.
    pub demo: bool,
    /// Whether it takes a compressed page.
    pub gzip: bool,
}

impl Browser {
    /// The form of an answer that comes later than the request's head is kept: what the
    /// client holds already is not known any more.
    const fn wants(self) -> Wants<'static> {
        Wants { gzip: self.gzip, held: Field::Absent }
    }
}

/// Appends the answer if it is one for browsers alone.
pub(super) fn write(
    out: &mut Vec<u8>,
    shown: &Shown,
    browser: Browser,
    manner: Manner,
    at: &Moment<'_>,
) -> bool {
    match shown {
        Shown::Problem(problem) => {
            render::refusal(problem, browser.item, browser.lang).answer(
                out,
                Wants::default(),
                manner,
                at.date,
            );
        }
        Shown::Order { view, .. } => see_order(out, view.order, manner, at.date),
        Shown::OrderPage(page) => {
            order_page(page, browser, at).answer(out, Wants::default(), manner, at.date);
        }
        Shown::Html(html) => html.answer(out, browser.wants(), manner, at.date),
        Shown::SendAgain(path, cookie) => send_again(out, (path, cookie), manner, at.date),
        _ => return false,
    }
    true
}

fn order_page(page: &OrderOf, browser: Browser, at: &Moment<'_>) -> Html {
    let item = page.item.get();
    let view = render::OrderPage {
        order: super::render::order_view(&page.order, at.shown),
        name: item.spec.name,
        price_minor: item.spec.price_minor,
        currency: item.spec.currency,
        now_ms: at.now.0,
        demo: browser.demo,
    };
    Html::private(Status::Ok, render::order(&view, browser.lang))
}

/// Appends the answer to a client that asked for a session of the demo.
pub(super) fn session(
    out: &mut Vec<u8>,
    session: &crate::identity::demo::Session,
    manner: Manner,
    date: &answer::Date,
) {
    let answer = answer::Answer::begin(out, Status::Created, answer::Cache::Never, manner, date);
    let answer = answer.push(&["Set-Cookie: ", &session.cookie, "\r\n"]);
    answer.body(answer::Media::Json, |out| {
        crate::http::json_out::object(out, |object| {
            object.text("token", &session.token).text("sub", &session.sub);
        });
    });
}

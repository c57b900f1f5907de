//! Responses to browsers: outcomes as pages and redirects.
//!
//! [`super::render`] writes the same outcomes as JSON. [`Browser`], which travels with the
//! request, says which page the browser wants, and in which language.

use super::ask::OrderOf;
use super::shown::{Browser, Moment, Shown, order_view};
use crate::http::answer::{self, Manner, Status};
use crate::http::negotiate::Wants;
use crate::site::html::{Html, see_order, send_again};
use crate::site::render;

/// Appends the response; `false` if this outcome has none for browsers.
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
        order: order_view(&page.order, at.shown),
        name: item.spec.name,
        price_minor: item.spec.price_minor,
        currency: item.spec.currency,
        now_ms: at.now.0,
        demo: browser.demo,
    };
    Html::private(Status::Ok, render::order(&view, browser.lang))
}

/// Appends the response to a client that asked for a demo session.
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

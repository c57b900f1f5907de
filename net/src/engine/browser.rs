//! Responses to browsers: outcomes as pages and redirects.
//!
//! [`super::render`] writes the same outcomes as JSON. [`Browser`], which travels with the
//! request, says which page the browser wants, and in which language.

use super::ask::OrderOf;
use super::response::{Browser, RenderContext, Response, order_view};
use crate::http::answer::{self, ResponseMode, Status};
use crate::http::negotiate::Wants;
use crate::site::html::{Html, see_order, send_again};
use crate::site::render;

/// Appends the response; `false` if this outcome has none for browsers.
pub(super) fn write(
    out: &mut Vec<u8>,
    response: &Response,
    browser: Browser,
    mode: ResponseMode,
    context: &RenderContext<'_>,
) -> bool {
    match response {
        Response::Problem(problem) => {
            render::refusal(problem, browser.item, browser.lang).answer(
                out,
                Wants::default(),
                mode,
                context.date,
            );
        }
        Response::Order { view, .. } => see_order(out, view.order, mode, context.date),
        Response::OrderPage(page) => {
            order_page(page, browser, context).answer(out, Wants::default(), mode, context.date);
        }
        Response::Html(html) => html.answer(out, browser.wants(), mode, context.date),
        Response::SendAgain(path, cookie) => send_again(out, (path, cookie), mode, context.date),
        _ => return false,
    }
    true
}

fn order_page(page: &OrderOf, browser: Browser, context: &RenderContext<'_>) -> Html {
    let item = page.item.get();
    let view = render::OrderPage {
        order: order_view(&page.order, context.shown),
        name: item.spec.name,
        price_minor: item.spec.price_minor,
        currency: item.spec.currency,
        now_ms: context.now.0,
        demo: browser.demo,
    };
    Html::private(Status::Ok, render::order(&view, browser.lang))
}

/// Appends the response to a client that asked for a demo session.
pub(super) fn session(
    out: &mut Vec<u8>,
    session: &crate::identity::demo::Session,
    mode: ResponseMode,
    date: &answer::Date,
) {
    let answer = answer::Answer::begin(out, Status::Created, answer::Cache::Never, mode, date);
    let answer = answer.push(&["Set-Cookie: ", &session.cookie, "\r\n"]);
    answer.body(answer::Media::Json, |out| {
        crate::http::json_out::object(out, |object| {
            object.text("token", &session.token).text("sub", &session.sub);
        });
    });
}

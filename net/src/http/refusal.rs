//! Renders a refusal as `application/problem+json` (RFC 9457).
//!
//! Next: [`crate::http::templates`], which copies the frequent ones instead.

use stampede_core::types::OrderId;

use crate::http::json_out::{self, Object};
use crate::http::problem::{Code, FieldName, Problem};
use crate::http::response::{Answer, Cache, Date, Media, ResponseMode};

pub(crate) fn render_problem(out: &mut Vec<u8>, problem: &Problem, mode: ResponseMode, date: &Date) {
    let retry_after_ms = problem.retry_after_ms.or(problem.code.retry_after_ms_default());
    let mut answer = Answer::begin(out, problem.code.status(), Cache::Never, mode, date);
    if problem.code == Code::Unauthenticated {
        answer = answer.header("WWW-Authenticate", "Bearer");
    }
    if problem.code == Code::UnsupportedMediaType {
        // RFC 7694 section 3: which codings of a body are read.
        answer = answer.header("Accept-Encoding", "identity");
    }
    if let Some(methods) = problem.allow {
        answer = answer.header("Allow", methods);
    }
    if let Some(wait_ms) = retry_after_ms {
        answer = answer.header_number("Retry-After", wait_ms.div_ceil(1_000).max(1));
    }
    answer.body(Media::Problem, |out| {
        json_out::object(out, |object| fill_problem(object, problem, retry_after_ms));
    });
}

fn fill_problem(object: &mut Object<'_>, problem: &Problem, retry_after_ms: Option<u64>) {
    let code = problem.code;
    object.number("status", code.status().number()).text("code", code.name()).text("title", code.title());
    object
        .text_if("detail", problem.detail)
        .text_if("field", problem.field.as_ref().map(FieldName::as_str))
        .number_if("retry_after_ms", retry_after_ms)
        .number_if("opens_in_ms", problem.opens_in_ms)
        .quoted_if("order_id", problem.order_id.map(OrderId::get));
}

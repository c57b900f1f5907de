//! The hot refusals, rendered once and copied from then on.
//!
//! A template is a whole response but for what [`begin_shared`] writes in front of it. Where it
//! has one, its one varying value lies in a place that is written over, as
//! wide as the widest value and filled up with spaces, which JSON allows behind
//! a value, and HTTP behind that of a header: the seconds of `Retry-After` follow from
//! the value. The tests hold each template against the slow rendering.

use std::sync::LazyLock;

use crate::http::problem::{Code, Problem};
use crate::http::refusal::render_problem;
use crate::http::response::{Date, KeepAlive, ResponseMode, begin_shared, date_line};
use crate::http::status::Status;
use stampede_core::types::OrderId;

/// Widest value: an order id in quotes.
const VALUE_BYTES: usize = 22;

/// Widest wait that a template can say, in milliseconds; more than any limiter asks for.
const WAIT_MS_WIDEST: u64 = 999_999_999;
/// The digits of its seconds.
const SECONDS_BYTES: usize = 7;
const RETRY_AFTER: &[u8] = b"Retry-After: ";

/// The refusals that a sale answers by the million.
const HOT: [Code; 10] = [
    Code::NotEligible,
    Code::TicketRequired,
    Code::TicketInvalid,
    Code::SoldOut,
    Code::NotOpen,
    Code::Ended,
    Code::Paused,
    Code::CapReached,
    Code::RateLimited,
    Code::Overloaded,
];

const KEEP_ALIVES: [KeepAlive; 3] = [KeepAlive::Keep, KeepAlive::KeepSaid, KeepAlive::Close];

static TEMPLATES: LazyLock<Vec<[Template; 3]>> = LazyLock::new(|| {
    HOT.iter().map(|&code| KEEP_ALIVES.map(|keep_alive| Template::new(code, keep_alive))).collect()
});

struct Template {
    status: Status,
    /// All that stands behind what is written in front.
    bytes: Vec<u8>,
    body_at: usize,
    value_at: Option<usize>,
    /// Where the seconds of `Retry-After` stand, if they follow from the value.
    seconds_at: Option<usize>,
}

/// Appends the whole response if there is a template that says all of it.
pub(crate) fn write(out: &mut Vec<u8>, problem: &Problem, manner: ResponseMode, date: &Date) -> bool {
    let plain = problem.detail.is_none() && problem.field.is_none() && problem.allow.is_none();
    let Some(index) = HOT.iter().position(|&code| code == problem.code).filter(|_| plain) else {
        return false;
    };
    if *problem != expected(problem) {
        return false;
    }
    TEMPLATES[index][manner.keep_alive as usize].write(out, problem, manner, date);
    true
}

/// What a problem with this code has to look like for the template to say it all.
fn expected(problem: &Problem) -> Problem {
    let mut expected = problem.code.problem();
    match problem.code {
        Code::NotOpen => expected.opens_in_ms = problem.opens_in_ms.or(Some(0)),
        Code::CapReached => expected.order_id = problem.order_id.or(OrderId::from_u64(1 << 32 | 1)),
        Code::RateLimited => {
            expected.retry_after_ms = problem.retry_after_ms.filter(|&ms| ms <= WAIT_MS_WIDEST).or(Some(0));
        }
        _ => {}
    }
    expected
}

impl Template {
    fn new(code: Code, keep_alive: KeepAlive) -> Self {
        let (date, manner) = (date_line(0), ResponseMode { keep_alive, ..ResponseMode::KEEP });
        let mut sample = code.problem();
        let widest = OrderId::from_u64(i64::MAX as u64);
        match code {
            Code::NotOpen => sample.opens_in_ms = Some(u64::MAX),
            Code::CapReached => sample.order_id = widest,
            Code::RateLimited => sample.retry_after_ms = Some(WAIT_MS_WIDEST),
            _ => {}
        }
        let has_value = sample != code.problem();
        let (mut bytes, mut front, status) = (Vec::new(), Vec::new(), code.status());
        render_problem(&mut bytes, &sample, manner, &date);
        begin_shared(&mut front, status, manner, &date);
        bytes.drain(..front.len());
        let find = |needle: &[u8]| memchr::memmem::find(&bytes, needle).unwrap_or_default();
        let body_at = find(b"\r\n\r\n") + 4;
        let value_at = has_value.then(|| memchr::memrchr(b':', &bytes).unwrap_or_default() + 1);
        let seconds_at = sample.retry_after_ms.map(|_| find(RETRY_AFTER) + RETRY_AFTER.len());
        Self { status, bytes, body_at, value_at, seconds_at }
    }

    fn write(&self, out: &mut Vec<u8>, problem: &Problem, manner: ResponseMode, date: &Date) {
        begin_shared(out, self.status, manner, date);
        let base = out.len();
        let len = if manner.bodiless { self.body_at } else { self.bytes.len() };
        out.extend_from_slice(&self.bytes[..len]);
        if let Some(seconds_at) = self.seconds_at {
            let seconds = problem.retry_after_ms.unwrap_or(0).div_ceil(1_000).max(1);
            write_digits(&mut out[base + seconds_at..][..SECONDS_BYTES], seconds);
        }
        if let Some(value_at) = self.value_at.filter(|_| !manner.bodiless) {
            let mut room = [b' '; VALUE_BYTES];
            write_value(&mut room, problem);
            let width = len - 1 - value_at;
            out[base + value_at..][..width].copy_from_slice(&room[..width]);
        }
    }
}

fn write_value(room: &mut [u8; VALUE_BYTES], problem: &Problem) {
    if let Some(order) = problem.order_id {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(order.get()).as_bytes();
        room[0] = b'"';
        room[1..=digits.len()].copy_from_slice(digits);
        room[digits.len() + 1] = b'"';
    } else if let Some(wait_ms) = problem.opens_in_ms.or(problem.retry_after_ms) {
        write_digits(room, wait_ms);
    }
}

/// Writes a number that fits, and fills up with spaces.
fn write_digits(room: &mut [u8], value: u64) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(value).as_bytes();
    room.fill(b' ');
    room[..digits.len()].copy_from_slice(digits);
}

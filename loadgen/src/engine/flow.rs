//! A buyer's flow to an order: which request follows which response.
//!
//! ```text
//!  State ─▶ Challenge ─▶ Solve ─▶ Ticket ──▶ Purchase ──▶ Wait ──▶ decided ──▶ Pay | Cancel
//!    │          ▲                   │  ▲         ▲                    │   ▲     (a winner's fate)
//!    │          │                   │  │         │            entered └▶ Draw
//!    └──────────┴───────────────────┴──┴─────────┘  what the item does not require is left out
//! ```
//!
//! Pure values: bytes in, the next step out; no socket, no clock. Next: `engine/worker.rs`, and
//! [`super::solver`] for proofs of work.

use super::solver::Puzzle;
use super::step::Step;
use crate::meaning::{
    Acked, Class, Code, Meaning, is_accepted, is_in_state, meaning_of, meaning_of_step, number_after,
    text_after,
};

/// Longest `wait_ms` of one request for an order.
pub(crate) const WAIT_MS: u64 = 2_000;
/// Hardest proof of work that is tried: a million hashes or so; beyond it the buyer gives up.
const POW_BITS_MAX: u32 = 20;

/// What follows a response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// The purchase has come to an end.
    Decided(Meaning),
    /// Nobody knows what came of this request: the same once more.
    Doubt(Code),
    /// On to another request.
    Then(Then),
    /// On to a ticket, once this is solved.
    Solve(Puzzle),
}

/// The next request of a flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Then {
    pub(crate) step: Step,
    /// How long the buyer waits for the opening before it, in milliseconds.
    pub(crate) opens_in_ms: u64,
    /// How long until the item's draw is held, in milliseconds; 0 = it has none.
    pub(crate) draws_in_ms: u64,
    /// The order that is waited for; 0 = none.
    pub(crate) order_id: u64,
    /// The solved challenge or the ticket that goes with it.
    pub(crate) text: Option<Box<str>>,
}

impl Then {
    pub(crate) const fn step(step: Step) -> Self {
        Self { step, opens_in_ms: 0, draws_in_ms: 0, order_id: 0, text: None }
    }
}

/// A response to a request of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) replay: bool,
    pub(crate) body: &'a [u8],
}

/// What follows this response to `step`; `solved` tells whether a challenge was solved before.
pub(crate) fn next(step: Step, response: Response<'_>, solved: bool) -> Next {
    match step {
        Step::Purchase => after_purchase(response),
        Step::Wait => after_wait(response),
        _ => match meaning_of_step(response.status, response.body) {
            Code::Ok => after_success(step, response.body),
            Code::ChallengeRequired if step == Step::Ticket && !solved => {
                Next::Then(Then::step(Step::Challenge))
            }
            code if code.class() == Class::Unknown => Next::Doubt(code),
            code => refused(code),
        },
    }
}

const fn refused(code: Code) -> Next {
    Next::Decided(Meaning { code, acked: Acked { order_id: 0, quantity: 0, created_at_ms: 0 } })
}

fn after_success(step: Step, body: &[u8]) -> Next {
    match step {
        Step::State => after_page(body),
        Step::Challenge => puzzle(body).map_or(refused(Code::ChallengeRequired), Next::Solve),
        Step::Ticket => match text_after(body, b"\"ticket\":\"") {
            Some(ticket) => Next::Then(Then { text: Some(ticket.into()), ..Then::step(Step::Purchase) }),
            None => Next::Doubt(Code::BadAnswer),
        },
        _ => Next::Doubt(Code::BadAnswer),
    }
}

/// The item's page tells whether it is worth while to go on, how, and when.
fn after_page(body: &[u8]) -> Next {
    let has = |text: &[u8]| memchr::memmem::find(body, text).is_some();
    let step = match (has(b"\"challenge\":\"always\""), has(b"\"ticket_required\":true")) {
        (true, _) => Step::Challenge,
        (false, true) => Step::Ticket,
        (false, false) => Step::Purchase,
    };
    let now_ms = number_after(body, b"\"now_ms\":").unwrap_or(0);
    let until = |name: &[u8]| number_after(body, name).unwrap_or(0).saturating_sub(now_ms);
    let draws_in_ms = until(b"\"draws_at_ms\":");
    match text_after(body, b"\"state\":\"") {
        Some("open") => Next::Then(Then { draws_in_ms, ..Then::step(step) }),
        Some("upcoming") => {
            let opens_in_ms = until(b"\"opens_at_ms\":");
            Next::Then(Then { opens_in_ms, draws_in_ms, ..Then::step(step) })
        }
        Some("sold_out") => refused(Code::SoldOut),
        Some("paused") => refused(Code::Paused),
        Some("ended") => refused(Code::Ended),
        _ => Next::Doubt(Code::BadAnswer),
    }
}

fn after_purchase(response: Response<'_>) -> Next {
    let meaning = meaning_of(response.status, response.replay, response.body);
    if meaning.code.class() == Class::Winner && is_accepted(response.body) {
        let order_id = meaning.acked.order_id;
        return Next::Then(Then { order_id, ..Then::step(Step::Wait) });
    }
    match meaning.code.class() {
        Class::Unknown => Next::Doubt(meaning.code),
        _ => Next::Decided(meaning),
    }
}

/// An order that was only accepted may be gone after a crash: then the purchase is sent again. A
/// refused request for it says nothing about it.
fn after_wait(response: Response<'_>) -> Next {
    let meaning = meaning_of(response.status, response.replay, response.body);
    match meaning.code {
        Code::NotFound => Next::Then(Then::step(Step::Purchase)),
        code if code.class() == Class::Winner && is_accepted(response.body) => {
            let order_id = meaning.acked.order_id;
            Next::Then(Then { order_id, ..Then::step(Step::Wait) })
        }
        code if code.class() == Class::Winner => Next::Decided(meaning),
        code => Next::Doubt(code),
    }
}

/// What an entry's own page says of the draw; `None` as long as it was not drawn.
pub(crate) fn after_draw(response: Response<'_>) -> Option<Meaning> {
    let meaning = meaning_of(response.status, false, response.body);
    match meaning.code {
        Code::Entered if is_in_state(response.body, "lost") => Some(Meaning { code: Code::Lost, ..meaning }),
        Code::Entered => None,
        _ => Some(meaning),
    }
}

/// The proof of work that stands beside a drawn challenge; `None` if there is none that can be done.
fn puzzle(body: &[u8]) -> Option<Puzzle> {
    let challenge = text_after(body, b"\"challenge\":\"")?;
    let bits = u32::try_from(number_after(body, b"\"bits\":")?).ok().filter(|&bits| bits <= POW_BITS_MAX)?;
    Some(Puzzle { challenge: challenge.into(), bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(step: Step, status: u16, body: &str) -> Next {
        next(step, Response { status, replay: false, body: body.as_bytes() }, false)
    }
    fn then(step: Step) -> Next {
        Next::Then(Then::step(step))
    }
    fn page(state: &str, ticket: bool, challenge: &str) -> String {
        format!(
            r#"{{"id":1,"state":"{state}","opens_at_ms":5000,"ticket_required":{ticket},"challenge":"{challenge}","now_ms":3500}}"#
        )
    }
    fn order(state: &str) -> String {
        format!(r#"{{"order_id":"8","item_id":1,"quantity":1,"state":"{state}","created_at_ms":7}}"#)
    }

    #[test]
    fn the_page_shows_the_way() {
        let open = |ticket, challenge| after(Step::State, 200, &page("open", ticket, challenge));
        assert_eq!(open(false, "never"), then(Step::Purchase));
        assert_eq!(open(true, "suspicious"), then(Step::Ticket));
        assert_eq!(open(true, "always"), then(Step::Challenge));
        let drawn =
            page("open", false, "never").replace("\"now_ms\"", "\"draw\":{\"draws_at_ms\":4500},\"now_ms\"");
        let waits = Then { draws_in_ms: 1_000, ..Then::step(Step::Purchase) };
        assert_eq!(after(Step::State, 200, &drawn), Next::Then(waits));
        let early = Then { opens_in_ms: 1_500, ..Then::step(Step::Purchase) };
        assert_eq!(after(Step::State, 200, &page("upcoming", false, "never")), Next::Then(early));
        assert_eq!(after(Step::State, 200, &page("sold_out", false, "never")), refused(Code::SoldOut));
        assert_eq!(after(Step::State, 404, r#"{"code":"not_found"}"#), refused(Code::NotFound));
        assert_eq!(after(Step::State, 200, "{}"), Next::Doubt(Code::BadAnswer));
        assert_eq!(after(Step::State, 503, r#"{"code":"draining"}"#), Next::Doubt(Code::Draining));
    }

    #[test]
    fn an_entry_waits_for_the_draw() {
        let Next::Decided(meaning) = after(Step::Purchase, 202, &order("entered")) else {
            panic!("undecided")
        };
        assert_eq!((meaning.code, meaning.acked.order_id), (Code::Entered, 8));
        let drawn = |status, body: &str| {
            after_draw(Response { status, replay: false, body: body.as_bytes() }).map(|meaning| meaning.code)
        };
        assert_eq!(drawn(200, &order("entered")), None);
        assert_eq!(drawn(200, &order("lost")), Some(Code::Lost));
        assert_eq!(drawn(200, &order("held")), Some(Code::Won));
        assert_eq!(drawn(503, r#"{"code":"draining"}"#), Some(Code::Draining));
    }

    #[test]
    fn a_ticket_is_carried_on_and_a_challenge_is_met_once() {
        let ticket = Then { text: Some("t.1".into()), ..Then::step(Step::Purchase) };
        assert_eq!(after(Step::Ticket, 201, r#"{"ticket":"t.1","expires_at_ms":9}"#), Next::Then(ticket));
        let body = r#"{"status":403,"code":"challenge_required"}"#;
        assert_eq!(after(Step::Ticket, 403, body), then(Step::Challenge));
        let again = next(Step::Ticket, Response { status: 403, replay: false, body: body.as_bytes() }, true);
        assert_eq!(again, refused(Code::ChallengeRequired));
    }

    #[test]
    fn a_proof_of_work_is_found() {
        let body = r#"{"challenge":"abc","svg":"<svg/>","pow":{"bits":9},"expires_at_ms":9}"#;
        let puzzle = Puzzle { challenge: "abc".into(), bits: 9 };
        assert_eq!(after(Step::Challenge, 200, body), Next::Solve(puzzle));
        // Without one, or with one that is too hard, this client cannot go on.
        for body in [r#"{"challenge":"abc"}"#, r#"{"challenge":"abc","pow":{"bits":60}}"#] {
            assert_eq!(after(Step::Challenge, 200, body), refused(Code::ChallengeRequired));
        }
    }

    #[test]
    fn only_a_durable_order_is_an_ack() {
        let wait = Then { order_id: 8, ..Then::step(Step::Wait) };
        assert_eq!(after(Step::Purchase, 202, &order("accepted")), Next::Then(wait.clone()));
        assert_eq!(after(Step::Wait, 200, &order("accepted")), Next::Then(wait));
        for (step, status) in [(Step::Purchase, 201), (Step::Wait, 200)] {
            let Next::Decided(meaning) = after(step, status, &order("held")) else { panic!("{step:?}") };
            assert_eq!((meaning.code, meaning.acked.order_id), (Code::Won, 8));
        }
        // Gone after a crash: sent again with the same key.
        assert_eq!(after(Step::Wait, 404, r#"{"code":"not_found"}"#), then(Step::Purchase));
        assert_eq!(after(Step::Purchase, 409, r#"{"code":"sold_out"}"#), refused(Code::SoldOut));
        assert_eq!(after(Step::Purchase, 500, ""), Next::Doubt(Code::ServerError));
    }
}

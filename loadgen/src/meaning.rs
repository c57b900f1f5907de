//! What a response means: the closed list of everything that can come of a request.
//!
//! Pure bytes to value; it never waits. Next: [`crate::response`] for where an
//! response begins and ends, [`crate::history`] for where it is kept.

use memchr::memmem;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// What came of one purchase (or, in raw mode, of one request).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Code { $($(#[$doc])* $variant),+ }

        impl Code {
            /// All of them, in the order in which reports show them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
            /// Its name: for a refusal the server's own `code`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
            fn from_name(name: &[u8]) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.name().as_bytes() == name && code.is_refusal())
            }
        }
    };
}

codes! {
    /// 201 (or 202): a new order.
    Won = "won",
    /// 201 with `Idempotent-Replay: true`: the same order again.
    Replayed = "replayed",
    /// 202 (again or for the first time): an entry in a draw.
    Entered = "entered",
    /// The draw is over, and the entry was not among those that won.
    Lost = "lost",
    /// Any 2xx in raw mode.
    Ok = "ok",
    /// Refused: no stock left.
    SoldOut = "sold_out",
    /// Refused: the buyer has all that one may have.
    CapReached = "cap_reached",
    /// Refused: too early.
    NotOpen = "not_open",
    /// Refused: too late.
    Ended = "ended",
    /// Refused: paused.
    Paused = "paused",
    /// Refused: over the rate.
    RateLimited = "rate_limited",
    /// Refused: the server is busy.
    Overloaded = "overloaded",
    /// Refused: the log has no room.
    LogFull = "log_full",
    /// Refused: the server is going down.
    Draining = "draining",
    /// Refused: who are you?
    Unauthenticated = "unauthenticated",
    /// Refused: not this buyer.
    NotEligible = "not_eligible",
    /// Refused: needs a ticket.
    TicketRequired = "ticket_required",
    /// Refused: bad ticket.
    TicketInvalid = "ticket_invalid",
    /// Refused: needs a challenge.
    ChallengeRequired = "challenge_required",
    /// Refused: wrong answer to the challenge.
    ChallengeFailed = "challenge_failed",
    /// Refused: no such item.
    NotFound = "not_found",
    /// Refused: the same key with another payload.
    KeyReused = "idempotency_key_reused",
    /// Not decided: the first request with this key is still under way.
    KeyRunning = "idempotency_key_running",
    /// Refused: malformed.
    BadRequest = "bad_request",
    /// Refused: malformed body.
    BadJson = "bad_json",
    /// Refused: malformed quantity.
    BadQuantity = "bad_quantity",
    /// Refused: the hold expired before the payment.
    HoldExpired = "hold_expired",
    /// Refused: too late to cancel the order.
    NotCancellable = "not_cancellable",
    /// Refused: paid already, under another reference.
    AlreadyPaid = "already_paid",
    /// Refused: an entry was to be paid before the draw.
    NotDrawn = "not_drawn",
    /// Refused: somebody else changed the row first (a design with optimistic versions).
    VersionConflict = "version_conflict",
    /// Refused with a code that this list does not have.
    OtherRefusal = "other_refusal",
    /// A status of 500 or above without one of the codes above.
    ServerError = "server_error",
    /// No response in time.
    TimedOut = "timed_out",
    /// The connection broke before the response.
    Reset = "reset",
    /// What came was not a response.
    BadAnswer = "bad_answer",
    /// Due, but never sent: the run ended first.
    Unsent = "unsent",
}

/// How many codes there are.
pub const CODES: usize = Code::ALL.len();

/// What kind of end a purchase came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// It got an order (or the page that was requested).
    Winner,
    /// The server said no.
    Refusal,
    /// Nobody knows: sent again with the same key before it counts.
    Unknown,
    /// It never left.
    Unsent,
}

impl Code {
    /// The kind of end.
    pub const fn class(self) -> Class {
        match self {
            // An entry has its order as any other; who won the draw is seen later.
            Self::Won | Self::Replayed | Self::Entered | Self::Ok => Class::Winner,
            Self::TimedOut | Self::Reset | Self::BadAnswer | Self::ServerError => Class::Unknown,
            Self::Overloaded | Self::LogFull | Self::Draining | Self::KeyRunning => Class::Unknown,
            Self::Unsent => Class::Unsent,
            _ => Class::Refusal,
        }
    }
    /// Whether it says that this purchase has no order: the sale itself refused it.
    /// All other refusals are told before the key is looked at.
    pub const fn denies_order(self) -> bool {
        matches!(self, Self::SoldOut | Self::CapReached | Self::KeyReused)
    }
    /// Whether it is about the window or a ticket, which some servers check on a retry, too.
    pub const fn is_before_the_sale(self) -> bool {
        matches!(
            self,
            Self::NotOpen
                | Self::Ended
                | Self::TicketRequired
                | Self::TicketInvalid
                | Self::ChallengeRequired
                | Self::ChallengeFailed
        )
    }
    /// Whether the request got as far as the sale, which sold to it or said why not.
    pub const fn is_let_in(self) -> bool {
        matches!(self.class(), Class::Winner) || self.denies_order() || matches!(self, Self::VersionConflict)
    }
    const fn is_refusal(self) -> bool {
        let named = !matches!(self, Self::OtherRefusal | Self::ServerError | Self::Lost);
        let transport = matches!(self, Self::TimedOut | Self::Reset | Self::BadAnswer | Self::Unsent);
        named && !transport && !matches!(self.class(), Class::Winner)
    }
}

/// An order as a response tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Acked {
    /// Its number; 0 = none was told.
    pub order_id: u64,
    /// Its units.
    pub quantity: u32,
    /// When it was placed, in Unix milliseconds.
    pub created_at_ms: u64,
}

/// The meaning of one response to a purchase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meaning {
    /// What came of it.
    pub code: Code,
    /// The order, for [`Class::Winner`].
    pub acked: Acked,
}

/// Reads the response to a purchase. A success without a readable order is [`Code::BadAnswer`].
/// A 202 tells an order that is not durable yet, which is not an ack: see [`is_accepted`].
pub fn meaning_of(status: u16, replay: bool, body: &[u8]) -> Meaning {
    let refused = |code| Meaning { code, acked: Acked::default() };
    match status {
        200..=202 => match acked(body) {
            // Lost or not yet drawn: it has its order and no units.
            Some(acked) if is_in_state(body, "entered") || is_in_state(body, "lost") => {
                Meaning { code: Code::Entered, acked }
            }
            Some(acked) => Meaning { code: if replay { Code::Replayed } else { Code::Won }, acked },
            None => refused(Code::BadAnswer),
        },
        500.. => {
            refused(named(body).filter(|code| code.class() == Class::Unknown).unwrap_or(Code::ServerError))
        }
        _ => refused(named(body).unwrap_or(Code::OtherRefusal)),
    }
}

/// Whether a body shows an order that was decided and is not durable yet.
pub fn is_accepted(body: &[u8]) -> bool {
    is_in_state(body, "accepted")
}

/// Whether a body shows an order in this state.
pub(crate) fn is_in_state(body: &[u8], state: &str) -> bool {
    text_after(body, b"\"state\":\"") == Some(state)
}

/// The meaning of a response to a request around a purchase, where every 2xx is well.
pub fn meaning_of_step(status: u16, body: &[u8]) -> Code {
    match status {
        200..=299 => Code::Ok,
        500.. => named(body).filter(|code| code.class() == Class::Unknown).unwrap_or(Code::ServerError),
        _ => named(body).unwrap_or(Code::OtherRefusal),
    }
}

/// The meaning of one response in raw mode, where bodies are not looked at.
pub const fn meaning_of_status(status: u16) -> Code {
    match status {
        200..=299 => Code::Ok,
        500.. => Code::ServerError,
        404 => Code::NotFound,
        429 => Code::RateLimited,
        _ => Code::OtherRefusal,
    }
}

/// The order in a success body: `order_id` (a string of digits), `quantity`, `created_at_ms`.
fn acked(body: &[u8]) -> Option<Acked> {
    let order_id = number_after(body, b"\"order_id\":\"")?;
    let quantity = u32::try_from(number_after(body, b"\"quantity\":")?).ok()?;
    let created_at_ms = number_after(body, b"\"created_at_ms\":").unwrap_or(0);
    (order_id > 0).then_some(Acked { order_id, quantity, created_at_ms })
}

/// The `code` in a refusal's body, if it is one that we know.
fn named(body: &[u8]) -> Option<Code> {
    let rest = after(body, b"\"code\":\"")?;
    Code::from_name(&rest[..memchr::memchr(b'"', rest)?])
}

/// The number after `name` (as `"pay_by_ms":`), if it is there.
pub(crate) fn number_after(body: &[u8], name: &[u8]) -> Option<u64> {
    let rest = after(body, name)?;
    let end = rest.iter().position(|b| !b.is_ascii_digit())?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// The text after `name` up to the next quote; escapes are not undone.
pub(crate) fn text_after<'a>(body: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let rest = after(body, name)?;
    std::str::from_utf8(&rest[..memchr::memchr(b'"', rest)?]).ok()
}

fn after<'a>(body: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    memmem::find(body, name).map(|at| &body[at + name.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        let body = br#"{"order_id":"4294967297","item_id":1,"quantity":2,"state":"confirmed","created_at_ms":7,"lsn":1}"#;
        let acked = Acked { order_id: 4_294_967_297, quantity: 2, created_at_ms: 7 };
        assert_eq!(meaning_of(201, false, body), Meaning { code: Code::Won, acked });
        assert_eq!(meaning_of(201, true, body), Meaning { code: Code::Replayed, acked });
        let entry = String::from_utf8_lossy(body).replace("confirmed", "entered");
        for replay in [false, true] {
            let meaning = meaning_of(202, replay, entry.as_bytes());
            assert_eq!(meaning, Meaning { code: Code::Entered, acked });
        }
    }

    #[test]
    fn every_refusal_is_found_by_its_name() {
        for &code in Code::ALL.iter().filter(|code| code.is_refusal()) {
            let body = format!(r#"{{"status":409,"code":"{}","title":"x"}}"#, code.name());
            assert_eq!(meaning_of(409, false, body.as_bytes()).code, code);
        }
    }

    #[test]
    fn doubtful_answers_do_not_count_as_wins_or_refusals() {
        for body in [
            "",
            "{}",
            r#"{"order_id":"x","quantity":1}"#,
            r#"{"order_id":"1""#,
            r#"{"order_id":"0","quantity":1}"#,
        ] {
            assert_eq!(meaning_of(201, false, body.as_bytes()).code, Code::BadAnswer, "{body}");
        }
        assert_eq!(meaning_of(500, false, b"").code.class(), Class::Unknown);
        assert_eq!(meaning_of(503, false, br#"{"code":"sold_out"}"#).code, Code::ServerError);
        assert_eq!(meaning_of(503, false, br#"{"code":"draining"}"#).code.class(), Class::Unknown);
        assert_eq!(meaning_of(409, false, br#"{"code":"won"}"#).code, Code::OtherRefusal);
    }
}

//! Problem codes: everything that can be wrong with a request, as the client is told.
//!
//! [`Code`] is closed and stable: clients match on its names. A [`Problem`] is
//! a plain value; it never carries bytes of a client into a header. It is
//! rendered by [`crate::http::answer`].

use stampede_core::command::Refusal;
use stampede_core::item::FieldError;
use stampede_core::types::OrderId;

use crate::http::limits::FIELD_NAME_BYTES_MAX;
use crate::http::status::Status;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $status:ident $name:literal $title:literal,)+) => {
        /// Every reason for which a request is refused.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Code { $(#[doc = $title] $(#[$doc])* $variant),+ }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The status of the response.
            pub const fn status(self) -> Status {
                match self { $(Self::$variant => Status::$status),+ }
            }
            /// The stable name that clients match on.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
            /// One sentence for a human.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }
        }
    };
}

codes! {
    /// Its framing may leave doubt.
    BadRequest = BadRequest "bad_request" "The request is malformed.",
    BadJson = BadRequest "bad_json" "The body is not a valid JSON object.",
    BadQuantity = BadRequest "bad_quantity" "The quantity must be an integer from 1 to 1000000.",
    UnknownField = BadRequest "unknown_field" "The body has a field that this call does not know.",
    BadHeader = BadRequest "bad_header" "A header is malformed or repeated.",
    Unauthenticated = Unauthorized "unauthenticated" "A valid token is required.",
    NotOpen = Forbidden "not_open" "The sale is not open yet.",
    Ended = Forbidden "ended" "The sale has ended.",
    TicketRequired = Forbidden "ticket_required" "A ticket is required.",
    TicketInvalid = Forbidden "ticket_invalid" "The ticket is not valid.",
    ChallengeRequired = Forbidden "challenge_required" "A challenge has to be solved first.",
    ChallengeFailed = Forbidden "challenge_failed" "The challenge was not solved.",
    NotEligible = Forbidden "not_eligible" "This account may not buy this item.",
    /// The caller is identified by a cookie, and nothing shows that one of our pages sent the request (CSRF).
    CrossSite = Forbidden "cross_site" "The request did not come from a page of this site.",
    /// There is no such thing, or not for this caller.
    NotFound = NotFound "not_found" "There is nothing here.",
    MethodNotAllowed = MethodNotAllowed "method_not_allowed" "This method is not allowed here.",
    BodyTooLarge = BodyTooLarge "body_too_large" "The body is too large.",
    /// Longer than 2 KiB.
    TargetTooLong = TargetTooLong "target_too_long" "The request target is too long.",
    /// The head is longer than `limits.head_bytes` or has more than 64 fields.
    HeadersTooLarge = HeadersTooLarge "headers_too_large" "The request head is too large.",
    UnsupportedMediaType = UnsupportedMediaType "unsupported_media_type" "The body is of a type or coding that is not read here.",
    ExpectationFailed = ExpectationFailed "expectation_failed" "Nothing but 100-continue, once, can be expected.",
    /// A method or a transfer coding that this server does not implement.
    NotImplemented = NotImplemented "not_implemented" "This is not implemented.",
    VersionNotSupported = VersionNotSupported "version_not_supported" "Only HTTP/1.1 and HTTP/1.0 are spoken here.",
    SoldOut = Conflict "sold_out" "Sold out.",
    CapReached = Conflict "cap_reached" "The limit per buyer is reached.",
    Paused = Conflict "paused" "The sale is paused.",
    /// The hold expired before the payment came.
    HoldExpired = Conflict "hold_expired" "The hold has expired.",
    NotCancellable = Conflict "not_cancellable" "The order cannot be cancelled any more.",
    /// The first request with this key has not been answered yet.
    IdempotencyKeyRunning = Conflict "idempotency_key_running" "A request with this key is still running.",
    AlreadyPaid = Conflict "already_paid" "The order was paid with another reference.",
    AlreadyRefunded = Conflict "already_refunded" "This payment was refunded already: nothing is left to be given back.",
    OtherPayment = Conflict "other_payment" "The order was not paid with this payment.",
    /// The order does not wait for a payment with a deadline.
    NotExtendable = Conflict "not_extendable" "The order does not wait for its payment.",
    PreconditionFailed = PreconditionFailed "precondition_failed" "The item was changed meanwhile; read it again.",
    NotDrawn = Conflict "not_drawn" "The entry has not been drawn yet.",
    NotRefundable = Conflict "not_refundable" "The order cannot be refunded.",
    /// Fewer units are available than were to be withdrawn, or more than can be were to be granted.
    StockOutOfRange = Conflict "stock_out_of_range" "The stock cannot be changed by that much.",
    IdempotencyKeyReused = Unprocessable "idempotency_key_reused" "The key was used for another request.",
    InvalidField = Unprocessable "invalid_field" "A field has a value that it cannot have.",
    RateLimited = TooManyRequests "rate_limited" "Too many requests.",
    Internal = Internal "internal" "An unforeseen error.",
    Overloaded = Unavailable "overloaded" "Too busy at the moment.",
    /// The log's disk budget is used up.
    LogFull = Unavailable "log_full" "No order can be recorded at the moment.",
    /// The database was never reached, and may hold what is asked for.
    AwaitingDatabase = Unavailable "awaiting_database" "The shop is not open yet: it waits for its database.",
    Draining = Unavailable "draining" "The server is shutting down.",
}

impl Code {
    /// The same, as a problem that says nothing more.
    pub const fn problem(self) -> Problem {
        Problem::new(self)
    }
    /// What `retry_after_ms` is where the problem does not say it: every 429 and 503 has one.
    pub(crate) const fn retry_after_ms_default(self) -> Option<u64> {
        match self.status() {
            Status::TooManyRequests | Status::Unavailable => Some(1_000),
            _ => None,
        }
    }
}

/// Why a request is refused, with what helps the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The reason.
    pub code: Code,
    /// Details for a human.
    pub detail: Option<&'static str>,
    /// Which field.
    pub field: Option<FieldName>,
    /// How long until the sale opens, in milliseconds.
    pub opens_in_ms: Option<u64>,
    /// When to retry, in milliseconds; 429 and 503 say 1000 where it is `None`.
    pub retry_after_ms: Option<u64>,
    /// The order that used up the cap.
    pub order_id: Option<OrderId>,
    /// With 405: the methods of the path, as `Allow` lists them.
    pub allow: Option<&'static str>,
}

impl Problem {
    /// A problem that says nothing but its code.
    pub const fn new(code: Code) -> Self {
        Self {
            code,
            detail: None,
            field: None,
            opens_in_ms: None,
            retry_after_ms: None,
            order_id: None,
            allow: None,
        }
    }
    /// The same, saying what exactly is wrong.
    pub const fn detail(self, detail: &'static str) -> Self {
        Self { detail: Some(detail), ..self }
    }
    /// The same, naming the field. A name that is long or has unusual characters is left out.
    pub fn field(self, name: &str) -> Self {
        Self { field: FieldName::new(name), ..self }
    }
    /// `not_open`, and how long until it is.
    pub const fn not_open(opens_in_ms: u64) -> Self {
        Self { opens_in_ms: Some(opens_in_ms), ..Self::new(Code::NotOpen) }
    }
    /// `cap_reached`, and the order that used it up.
    pub const fn cap_reached(order: OrderId) -> Self {
        Self { order_id: Some(order), ..Self::new(Code::CapReached) }
    }
    /// `rate_limited`, and when to retry.
    pub const fn rate_limited(retry_after_ms: u64) -> Self {
        Self { retry_after_ms: Some(retry_after_ms), ..Self::new(Code::RateLimited) }
    }
    /// `method_not_allowed`, and the methods of the path.
    pub const fn not_allowed(methods: &'static str) -> Self {
        Self { allow: Some(methods), ..Self::new(Code::MethodNotAllowed) }
    }
    /// `invalid_field`: which, and why.
    pub fn invalid_field(name: &str, reason: &'static str) -> Self {
        Self::new(Code::InvalidField).field(name).detail(reason)
    }
}

impl Problem {
    /// The problem for a refusal by the core; `is_refund`: the request was for a refund.
    pub fn of(refusal: Refusal, is_refund: bool) -> Self {
        match refusal {
            Refusal::NotFound => Code::NotFound.problem(),
            Refusal::NotEligible => Code::NotEligible.problem(),
            Refusal::NotOpen { opens_in_ms } => Self::not_open(opens_in_ms),
            Refusal::Ended => Code::Ended.problem(),
            Refusal::Paused => Code::Paused.problem(),
            Refusal::RateLimited { retry_after_ms } => Self::rate_limited(retry_after_ms),
            Refusal::TicketRequired => Code::TicketRequired.problem(),
            Refusal::TicketInvalid => Code::TicketInvalid.problem(),
            Refusal::BadQuantity => Code::BadQuantity.problem().detail("more than the cap of this item"),
            Refusal::SoldOut => Code::SoldOut.problem(),
            Refusal::CapReached { order: Some(order) } => Self::cap_reached(order),
            Refusal::CapReached { order: None } => Code::CapReached.problem(),
            Refusal::OrdersUsedUp => {
                Code::CapReached.problem().detail("as many orders of this item as one buyer may place")
            }
            Refusal::KeyReused => Code::IdempotencyKeyReused.problem(),
            Refusal::NotCancellable if is_refund => Code::NotRefundable.problem(),
            Refusal::NotCancellable => Code::NotCancellable.problem(),
            Refusal::HoldExpired => Code::HoldExpired.problem(),
            Refusal::AlreadyPaid => Code::AlreadyPaid.problem(),
            Refusal::AlreadyRefunded => Code::AlreadyRefunded.problem(),
            Refusal::OtherPayment => Code::OtherPayment.problem(),
            Refusal::NotExtendable => Code::NotExtendable.problem(),
            Refusal::NotDrawn => Code::NotDrawn.problem(),
            Refusal::StockInUse { .. } => {
                Code::StockOutOfRange.problem().detail("fewer units are available than were to be withdrawn")
            }
            Refusal::Invalid(error) => Self::from(error),
            Refusal::Overloaded => Code::Overloaded.problem(),
        }
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Self {
        Self::invalid_field(error.field, error.reason)
    }
}

/// The name of a field, kept by value: 1 to 32 characters of `A-Z a-z 0-9 _ - .`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FieldName {
    len: u8,
    bytes: [u8; FIELD_NAME_BYTES_MAX],
}

impl FieldName {
    /// The name, or `None` if it is not fit to be repeated.
    pub fn new(name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > FIELD_NAME_BYTES_MAX || !name.bytes().all(plain) {
            return None;
        }
        let mut bytes = [0; FIELD_NAME_BYTES_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Some(Self { len: name.len() as u8, bytes })
    }
    /// The name as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl std::fmt::Debug for FieldName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

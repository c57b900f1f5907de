//! What an item is: its settings, its rules, the states of its orders.
//!
//! Pure values and their checks. Next: [`crate::fact`].

use crate::limits::{
    CURRENCY_BYTES, DRAW_MS_MAX, DRAW_MS_MIN, HOLD_MS_MAX, ITEM_NAME_CHARS_MAX, PRICE_MINOR_MAX,
    QUANTITY_MAX, UNIX_MILLIS_MAX,
};
use crate::types::UnixMillis;

/// When the stock of an item is deducted. Fixed for the life of the item.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Payment {
    /// At the order, which is `confirmed` at once.
    OnOrder = 0,
    /// At the order, which is `held` until `pay_by_ms`; unpaid, it then gives its units back.
    Hold = 1,
    /// At the payment; the order is `pending` until then.
    OnPayment = 2,
}

/// Whether a purchase needs a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum TicketRule {
    /// No.
    Never = 0,
    /// Yes.
    Required = 1,
}

/// Whether a ticket needs a solved challenge.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ChallengeRule {
    /// No.
    Never = 0,
    /// From an address that looks suspicious.
    Suspicious = 1,
    /// Always.
    Always = 2,
}

macro_rules! coded {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// The stable number, as the log stores it.
            pub const fn code(self) -> u8 {
                self as u8
            }
            /// The value with this stable number.
            pub const fn from_code(code: u8) -> Option<Self> {
                $(if code == Self::$variant as u8 { return Some(Self::$variant); })+
                None
            }
            /// The name, as HTTP and Postgres show it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
            /// The value with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}
pub(crate) use coded;

coded!(Payment { OnOrder = "on_order", Hold = "hold", OnPayment = "on_payment" });
coded!(TicketRule { Never = "never", Required = "required" });
coded!(ChallengeRule { Never = "never", Suspicious = "suspicious", Always = "always" });

/// Where an order stands.
///
/// ```text
///            on_order ─▶ confirmed ──┐
/// purchase ─ hold ─────▶ held ───────┼─▶ paid ─▶ refunded
///     ▲      on_payment ▶ pending ───┘
///     │ won                │ any of the three: cancelled
///     │                    │ held, pending:    expired
/// purchase in a draw ─▶ entered ─▶ lost
///                          │ before the draw:  cancelled
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum OrderState {
    /// Bought; units sold.
    Confirmed = 0,
    /// Units reserved until it is paid.
    Held = 1,
    /// No units yet; they are taken when it is paid.
    Pending = 2,
    /// Paid; units sold.
    Paid = 3,
    /// Cancelled before payment; units given back.
    Cancelled = 4,
    /// Not paid in time; units given back.
    Expired = 5,
    /// Paid and refunded; units given back.
    Refunded = 6,
    /// An entry in a draw; no units yet.
    Entered = 7,
    /// Drawn, and no units were left for it.
    Lost = 8,
}

coded!(OrderState {
    Confirmed = "confirmed",
    Held = "held",
    Pending = "pending",
    Paid = "paid",
    Cancelled = "cancelled",
    Expired = "expired",
    Refunded = "refunded",
    Entered = "entered",
    Lost = "lost",
});

/// Which of an item's three piles holds the units of an order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pile {
    /// None of the order's units are taken.
    Available,
    /// They are reserved.
    Held,
    /// They are sold.
    Sold,
}

impl OrderState {
    /// How many states there are; their codes are below it.
    pub const COUNT: usize = 9;

    /// The first state of an order of an item with this payment kind.
    pub const fn initial(payment: Payment) -> Self {
        match payment {
            Payment::OnOrder => Self::Confirmed,
            Payment::Hold => Self::Held,
            Payment::OnPayment => Self::Pending,
        }
    }
    /// Where the units of such an order are.
    pub const fn pile(self) -> Pile {
        match self {
            Self::Confirmed | Self::Paid => Pile::Sold,
            Self::Held => Pile::Held,
            Self::Pending | Self::Cancelled | Self::Expired | Self::Refunded | Self::Entered | Self::Lost => {
                Pile::Available
            }
        }
    }
    /// Whether it counts against the buyer's cap.
    pub const fn counts_to_cap(self) -> bool {
        matches!(self, Self::Confirmed | Self::Held | Self::Pending | Self::Paid | Self::Entered)
    }
}

/// The settings of an item, as the merchant gives them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ItemSpec<'a> {
    /// What buyers see; 1 to [`ITEM_NAME_CHARS_MAX`] bytes, no control characters.
    pub name: &'a str,
    /// Price of one unit in minor units of the currency.
    pub price_minor: u64,
    /// ISO 4217 code, three upper-case letters.
    pub currency: [u8; CURRENCY_BYTES],
    /// First moment of the sale.
    pub opens_at_ms: UnixMillis,
    /// First moment after the sale.
    pub closes_at_ms: UnixMillis,
    /// Most units per buyer.
    pub cap: u32,
    /// When stock is deducted.
    pub payment: Payment,
    /// How long a held or pending order waits for its payment, in milliseconds; 0 = for ever
    /// (not allowed for [`Payment::Hold`], no meaning for [`Payment::OnOrder`]).
    pub hold_ms: u64,
    /// Whether a purchase needs a ticket.
    pub ticket: TicketRule,
    /// Whether a ticket needs a challenge; anything but `never` only with a ticket.
    pub challenge: ChallengeRule,
    /// Least account level of a buyer.
    pub min_level: u8,
    /// Least account age of a buyer, in seconds.
    pub min_account_age_s: u32,
    /// Purchases admitted per second; 0 = no limit.
    pub admit_per_s: u32,
    /// For how long after the opening purchases are entries in a draw, in milliseconds; 0 = no draw.
    pub draw_ms: u32,
}

impl ItemSpec<'_> {
    /// When the draw is held, if there is one: the first moment after its entries.
    pub const fn draws_at_ms(&self) -> UnixMillis {
        UnixMillis(self.opens_at_ms.0 + self.draw_ms as u64)
    }

    /// Checks each setting by itself and against the others.
    ///
    /// # Errors
    /// The name of the first field that is wrong, and why.
    pub fn check(&self) -> Result<(), FieldError> {
        let ensure = |ok: bool, field, reason| if ok { Ok(()) } else { Err(FieldError { field, reason }) };
        let name = self.name;
        ensure(!name.trim().is_empty(), "name", "must not be empty")?;
        ensure(name.chars().count() <= ITEM_NAME_CHARS_MAX, "name", "longer than 200 characters")?;
        ensure(!name.chars().any(char::is_control), "name", "has a control character")?;
        ensure(self.price_minor <= PRICE_MINOR_MAX, "price_minor", "above 2^53")?;
        let letters = self.currency.iter().all(u8::is_ascii_uppercase);
        ensure(letters, "currency", "must be three upper-case letters")?;
        ensure(self.closes_at_ms.0 <= UNIX_MILLIS_MAX, "closes_at_ms", "beyond the year 9999")?;
        ensure(self.opens_at_ms < self.closes_at_ms, "closes_at_ms", "must be after opens_at_ms")?;
        ensure((1..=QUANTITY_MAX).contains(&self.cap), "cap", "must be 1 to 1000000")?;
        ensure(self.hold_ms <= HOLD_MS_MAX, "hold_ms", "longer than 30 days")?;
        let draw_fits = matches!(self.draw_ms, 0 | DRAW_MS_MIN..=DRAW_MS_MAX);
        ensure(draw_fits, "draw_ms", "must be 0, or 1000 to 604800000 (7 days)")?;
        let drawn_in_time = self.draw_ms == 0 || self.draws_at_ms() < self.closes_at_ms;
        ensure(drawn_in_time, "draw_ms", "the draw must be held before closes_at_ms")?;
        let hold_given = self.payment != Payment::Hold || self.hold_ms > 0;
        ensure(hold_given, "hold_ms", "must be above 0 when payment is hold")?;
        // A challenge stands before a ticket; without one it would do nothing.
        let challenged = self.challenge != ChallengeRule::Never;
        let ticketed = self.ticket == TicketRule::Required;
        ensure(ticketed || !challenged, "challenge", "needs ticket to be \"required\"")
    }
}

/// An invalid setting, and why.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FieldError {
    /// The field, as HTTP names it.
    pub field: &'static str,
    /// What is wrong, as a clause.
    pub reason: &'static str,
}

//! Encodes the answer to each record: 40 bytes each, or a line of JSON.
//!
//! An answer is a small value of fixed size, whatever the format, so that a batch's answers can
//! wait for the disk in bounded memory. How long all of them are together is counted by the same
//! code that writes them. docs/BATCH.md draws both formats.

use stampede_core::command::{OrderView, Outcome, Refusal};
use stampede_core::item::OrderState;
use stampede_core::types::{OrderId, UnixMillis};

use super::Format;
use super::binary::{HEADER_BYTES, VERSION};
use crate::http::answer::VisibleState;
use crate::http::problem::{Code, Problem};

/// Bytes of a binary answer.
pub const ANSWER_BYTES: usize = 40;
/// How a binary answer to a batch begins.
pub const MAGIC: [u8; 4] = *b"SBAN";
/// Bit 7 of a binary answer's fourth byte: this purchase was placed by an earlier record.
pub const REPLAY: u8 = 0x80;

/// The line of the most frequent answer of a sale.
const SOLD_OUT: &str = "{\"status\":409,\"code\":\"sold_out\"}\n";
/// More than any line of an answer has.
const LINE_BYTES_MAX: usize = 256;

/// The stable numbers of the codes that a record can be answered with.
const NUMBERS: [(u8, Code); 28] = [
    (1, Code::BadRequest),
    (2, Code::BadJson),
    (3, Code::BadQuantity),
    (4, Code::UnknownField),
    (5, Code::InvalidField),
    (6, Code::NotFound),
    (7, Code::NotEligible),
    (8, Code::NotOpen),
    (9, Code::Ended),
    (10, Code::Paused),
    (11, Code::RateLimited),
    (12, Code::TicketRequired),
    (13, Code::TicketInvalid),
    (14, Code::SoldOut),
    (15, Code::CapReached),
    (16, Code::IdempotencyKeyReused),
    (17, Code::HoldExpired),
    (18, Code::NotCancellable),
    (19, Code::NotRefundable),
    (20, Code::AlreadyPaid),
    (21, Code::NotDrawn),
    (22, Code::Overloaded),
    (23, Code::LogFull),
    (24, Code::Draining),
    (25, Code::Internal),
    (26, Code::StockOutOfRange),
    (27, Code::AlreadyRefunded),
    (28, Code::OtherPayment),
];

/// The stable number of a code in a binary answer; a code that no record gets is `internal`'s.
pub fn number(code: Code) -> u8 {
    let found = NUMBERS.iter().find(|(_, known)| *known == code);
    found.map_or(25, |&(number, _)| number)
}

/// The answer to one record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordAnswer {
    /// Nothing yet.
    Open,
    /// An order; `replay`: it was placed before.
    Order {
        /// The order and its state.
        view: OrderFields,
        /// 200, 201 or 202.
        status: u16,
        /// Whether this answer was given before.
        replay: bool,
    },
    /// A refusal.
    Refused {
        /// Why.
        code: Code,
        /// The order that used the cap.
        order: Option<OrderId>,
        /// When to retry, or how long until the opening, in milliseconds; `code` says which.
        wait_ms: u64,
    },
}

/// An order in an answer, without what its number tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrderFields {
    order: OrderId,
    lsn: u64,
    created_at_ms: UnixMillis,
    pay_by_ms: UnixMillis,
    quantity: u32,
    state: OrderState,
}

const _: () = assert!(size_of::<RecordAnswer>() <= 56, "a batch keeps one for each record");

impl RecordAnswer {
    /// The answer to an owner's decision; `refund`: whether the record asked for a refund.
    pub fn of(outcome: &Outcome, refund: bool) -> Self {
        match outcome {
            Outcome::Placed(view) if view.state == OrderState::Entered => Self::order(view, 202, false),
            Outcome::Placed(view) => Self::order(view, 201, false),
            Outcome::Replayed(view) if view.state == OrderState::Entered => Self::order(view, 202, true),
            Outcome::Replayed(view) => Self::order(view, 201, true),
            Outcome::Moved(view) => Self::order(view, 200, false),
            Outcome::Refused(Refusal::SoldOut) => Self::code(Code::SoldOut),
            Outcome::Refused(Refusal::NotCancellable) if refund => Self::code(Code::NotRefundable),
            Outcome::Refused(refusal) | Outcome::Noted(refusal, _) => Self::refused(*refusal),
            Outcome::Done { .. } => Self::code(Code::Internal),
        }
    }

    fn order(view: &OrderView, status: u16, replay: bool) -> Self {
        let view = OrderFields {
            order: view.order,
            lsn: view.lsn.0,
            created_at_ms: view.created_at_ms,
            pay_by_ms: view.pay_by_ms,
            quantity: view.quantity.get(),
            state: view.state,
        };
        Self::Order { view, status, replay }
    }

    /// A refusal, with what the code alone does not tell.
    pub fn refused(refusal: Refusal) -> Self {
        if refusal == Refusal::SoldOut {
            return Self::code(Code::SoldOut);
        }
        Self::problem(&Problem::of(refusal, false))
    }

    /// The same, as the answer to a single request would put it.
    pub fn problem(problem: &Problem) -> Self {
        let retry_after_ms = problem.retry_after_ms.or(problem.code.retry_after_ms_default());
        let wait_ms = problem.opens_in_ms.or(retry_after_ms).unwrap_or(0);
        Self::Refused { code: problem.code, order: problem.order_id, wait_ms }
    }

    /// A refusal that says nothing but its code.
    pub const fn code(code: Code) -> Self {
        let wait_ms = match code.retry_after_ms_default() {
            Some(wait_ms) => wait_ms,
            None => 0,
        };
        Self::Refused { code, order: None, wait_ms }
    }
}

/// Bytes of a whole answer body: all records in this format.
pub fn body_len(format: Format, answers: &[RecordAnswer]) -> usize {
    match format {
        Format::Binary => HEADER_BYTES + answers.len() * ANSWER_BYTES,
        Format::Lines => {
            let mut counted = Counted(0);
            answers.iter().for_each(|answer| line(&mut counted, answer));
            counted.0
        }
    }
}

/// Appends what stands before the first answer.
pub fn begin(out: &mut Vec<u8>, format: Format, records: usize) {
    if format == Format::Binary {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        header[4] = VERSION;
        header[8..12].copy_from_slice(&(records as u32).to_le_bytes());
        out.extend_from_slice(&header);
    }
}

/// Appends answers.
pub fn write(out: &mut Vec<u8>, format: Format, answers: &[RecordAnswer]) {
    match format {
        Format::Binary => answers.iter().for_each(|answer| out.extend_from_slice(&binary(answer))),
        Format::Lines => {
            let mut line = Line { bytes: [0; LINE_BYTES_MAX], len: 0 };
            for answer in answers {
                let bytes = match answer {
                    RecordAnswer::Refused { code: Code::SoldOut, .. } => SOLD_OUT.as_bytes(),
                    answer => line.of(answer),
                };
                out.extend_from_slice(bytes);
            }
        }
    }
}

fn binary(answer: &RecordAnswer) -> [u8; ANSWER_BYTES] {
    let mut out = [0; ANSWER_BYTES];
    match answer {
        RecordAnswer::Open => {}
        RecordAnswer::Order { view, status, replay } => {
            out[0..2].copy_from_slice(&status.to_le_bytes());
            out[3] = view.state.code() | if *replay { REPLAY } else { 0 };
            out[4..8].copy_from_slice(&view.quantity.to_le_bytes());
            out[8..16].copy_from_slice(&view.order.get().to_le_bytes());
            out[16..24].copy_from_slice(&view.lsn.to_le_bytes());
            out[24..32].copy_from_slice(&view.created_at_ms.0.to_le_bytes());
            out[32..40].copy_from_slice(&view.pay_by_ms.0.to_le_bytes());
        }
        RecordAnswer::Refused { code, order, wait_ms } => {
            out[0..2].copy_from_slice(&code.status().number().to_le_bytes());
            out[2] = number(*code);
            out[8..16].copy_from_slice(&order.map_or(0, OrderId::get).to_le_bytes());
            out[24..32].copy_from_slice(&wait_ms.to_le_bytes());
        }
    }
    out
}

/// Where a line goes: into the buffer, or only into a count of bytes.
trait Sink {
    fn text(&mut self, text: &'static str);
    fn number(&mut self, value: u64);
}

/// One line that is being written. It has room for the longest, so that capacity is not checked
/// for each of a dozen parts.
struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    len: usize,
}

impl Line {
    /// Writes this answer over the last one.
    fn of(&mut self, answer: &RecordAnswer) -> &[u8] {
        self.len = 0;
        line(self, answer);
        &self.bytes[..self.len]
    }
}

impl Sink for Line {
    #[inline]
    fn text(&mut self, text: &'static str) {
        self.bytes[self.len..][..text.len()].copy_from_slice(text.as_bytes());
        self.len += text.len();
    }

    #[inline]
    fn number(&mut self, value: u64) {
        let end = self.len + digits(value);
        let (mut left, mut at) = (value, end);
        while left >= 100 {
            at -= 2;
            self.bytes[at..at + 2].copy_from_slice(&PAIRS[(left % 100) as usize]);
            left /= 100;
        }
        let [tens, ones] = PAIRS[left as usize];
        self.bytes[at - 1] = ones;
        if left >= 10 {
            self.bytes[at - 2] = tens;
        }
        self.len = end;
    }
}

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let (mut pairs, mut at) = ([[b'0'; 2]; 100], 0);
    while at < pairs.len() {
        pairs[at] = [b'0' + (at / 10) as u8, b'0' + (at % 10) as u8];
        at += 1;
    }
    pairs
};

fn digits(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

struct Counted(usize);

impl Sink for Counted {
    #[inline]
    fn text(&mut self, text: &'static str) {
        self.0 += text.len();
    }
    #[inline]
    fn number(&mut self, value: u64) {
        self.0 += digits(value);
    }
}

fn line(out: &mut impl Sink, answer: &RecordAnswer) {
    match answer {
        RecordAnswer::Open => out.text("{}\n"),
        RecordAnswer::Order { view, status, replay } => {
            out.text("{\"status\":");
            out.number(u64::from(*status));
            out.text(",\"order_id\":\"");
            out.number(view.order.get());
            out.text("\",\"item_id\":");
            out.number(u64::from(view.order.item().get()));
            out.text(",\"quantity\":");
            out.number(u64::from(view.quantity));
            out.text(",\"state\":\"");
            out.text(VisibleState::Durable(view.state).name());
            out.text("\",\"created_at_ms\":");
            out.number(view.created_at_ms.0);
            out.text(",\"pay_by_ms\":");
            match view.pay_by_ms.0 {
                0 => out.text("null"),
                pay_by_ms => out.number(pay_by_ms),
            }
            out.text(",\"lsn\":");
            out.number(view.lsn);
            out.text(if *replay { ",\"replay\":true}\n" } else { "}\n" });
        }
        RecordAnswer::Refused { code: Code::SoldOut, .. } => {
            out.text(SOLD_OUT);
        }
        RecordAnswer::Refused { code, order, wait_ms } => {
            out.text("{\"status\":");
            out.number(u64::from(code.status().number()));
            out.text(",\"code\":\"");
            out.text(code.name());
            out.text("\"");
            if let Some(order) = order {
                out.text(",\"order_id\":\"");
                out.number(order.get());
                out.text("\"");
            }
            if *code == Code::NotOpen {
                out.text(",\"opens_in_ms\":");
                out.number(*wait_ms);
            } else if *wait_ms != 0 {
                out.text(",\"retry_after_ms\":");
                out.number(*wait_ms);
            }
            out.text("}\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stampede_core::types::{ItemId, Lsn, Quantity};

    fn answers() -> Vec<RecordAnswer> {
        let view = OrderView {
            order: OrderId::new(ItemId::new(7).unwrap(), 3),
            quantity: Quantity::new(2).unwrap(),
            state: OrderState::Held,
            created_at_ms: UnixMillis(1_000),
            pay_by_ms: UnixMillis(9_000),
            lsn: Lsn(10),
            state_lsn: Lsn(10),
            price: stampede_core::money::Price::UNKNOWN,
            refunded: 0,
        };
        let paid = OrderView { state: OrderState::Paid, pay_by_ms: UnixMillis(0), ..view };
        let refused = |refusal| Outcome::Refused(refusal);
        [
            Outcome::Placed(view),
            Outcome::Replayed(view),
            Outcome::Moved(paid),
            refused(Refusal::SoldOut),
            refused(Refusal::CapReached { order: Some(view.order) }),
            refused(Refusal::NotOpen { opens_in_ms: 1_234 }),
            refused(Refusal::RateLimited { retry_after_ms: 99 }),
            refused(Refusal::Overloaded),
            refused(Refusal::NotCancellable),
        ]
        .iter()
        .map(|outcome| RecordAnswer::of(outcome, true))
        .collect()
    }

    #[test]
    fn lines_say_what_a_single_answer_says() {
        let (answers, mut out) = (answers(), Vec::new());
        write(&mut out, Format::Lines, &answers);
        let order = r#""order_id":"30064771075","item_id":7,"quantity":2"#;
        let expected = [
            &format!(
                r#"{{"status":201,{order},"state":"held","created_at_ms":1000,"pay_by_ms":9000,"lsn":10}}"#
            ),
            &format!(
                r#"{{"status":201,{order},"state":"held","created_at_ms":1000,"pay_by_ms":9000,"lsn":10,"replay":true}}"#
            ),
            &format!(
                r#"{{"status":200,{order},"state":"paid","created_at_ms":1000,"pay_by_ms":null,"lsn":10}}"#
            ),
            r#"{"status":409,"code":"sold_out"}"#,
            r#"{"status":409,"code":"cap_reached","order_id":"30064771075"}"#,
            r#"{"status":403,"code":"not_open","opens_in_ms":1234}"#,
            r#"{"status":429,"code":"rate_limited","retry_after_ms":99}"#,
            r#"{"status":503,"code":"overloaded","retry_after_ms":1000}"#,
            r#"{"status":409,"code":"not_refundable"}"#,
        ];
        assert_eq!(str::from_utf8(&out).unwrap().lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn binary_answers_are_as_drawn() {
        let (answers, mut out) = (answers(), Vec::new());
        begin(&mut out, Format::Binary, answers.len());
        write(&mut out, Format::Binary, &answers);
        assert_eq!(out[..16], *b"SBAN\x01\0\0\0\x09\0\0\0\0\0\0\0");
        let first = &out[16..56];
        assert_eq!(first[..8], [201, 0, 0, OrderState::Held.code(), 2, 0, 0, 0]);
        let numbers: Vec<u64> =
            first[8..].chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
        assert_eq!(numbers, [7 << 32 | 3, 10, 1_000, 9_000]);
        assert_eq!(out[56 + 3], OrderState::Held.code() | REPLAY);
        let sold_out = &out[16 + 3 * 40..16 + 4 * 40];
        assert_eq!(sold_out[..3], [0x99, 1, 14], "409, number 14");
        assert!(sold_out[3..].iter().all(|&byte| byte == 0));
    }

    /// No number is too long for a line.
    #[test]
    fn the_longest_line_fits() {
        let order = OrderId::from_u64((1 << 63) - 1).expect("the last one");
        let [lsn, time, quantity] = [u64::MAX, u64::MAX, u64::from(u32::MAX)];
        let (created_at_ms, pay_by_ms) = (UnixMillis(time), UnixMillis(time));
        for state in (0..=u8::MAX).filter_map(OrderState::from_code) {
            let view = OrderFields { order, lsn, created_at_ms, pay_by_ms, quantity: quantity as u32, state };
            let (mut out, answer) = (Vec::new(), RecordAnswer::Order { view, status: 201, replay: true });
            write(&mut out, Format::Lines, &[answer]);
            assert!(out.len() == body_len(Format::Lines, &[answer]) && out.ends_with(b"true}\n"));
        }
        for &code in Code::ALL {
            let (mut out, wait_ms) = (Vec::new(), u64::MAX);
            write(&mut out, Format::Lines, &[RecordAnswer::Refused { code, order: Some(order), wait_ms }]);
            assert!(out.ends_with(b"}\n"));
        }
    }

    #[test]
    fn numbers_are_written_whatever_was_there() {
        let mut line = Line { bytes: [b'x'; LINE_BYTES_MAX], len: 0 };
        let near = |power: u32| [10u64.pow(power) - 1, 10u64.pow(power), 10u64.pow(power) + 1];
        for number in (0..20).flat_map(near).chain([u64::MAX, 42]) {
            line.len = 3;
            line.number(number);
            assert_eq!(line.bytes[3..line.len], *number.to_string().as_bytes());
        }
    }

    /// The length goes out before the body: it has to be right for every answer.
    #[test]
    fn the_length_is_counted_right() {
        let mut all = answers();
        all.extend(Code::ALL.iter().map(|&code| RecordAnswer::code(code)));
        for format in [Format::Binary, Format::Lines] {
            for answers in (0..=all.len()).map(|n| &all[..n]) {
                let mut out = Vec::new();
                begin(&mut out, format, answers.len());
                write(&mut out, format, answers);
                assert_eq!(out.len(), body_len(format, answers), "{format:?}");
            }
        }
    }

    #[test]
    fn numbers_are_told_apart() {
        let mut numbers: Vec<u8> = NUMBERS.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), NUMBERS.len());
        assert_eq!((number(Code::SoldOut), number(Code::Unauthenticated)), (14, 25));
    }
}

//! JSON lines from the client's side: records by patching a line, answers by comparison.
//!
//! A gateway that sends a million lines a second does not put each together from pieces, nor does
//! it read each answer as if it had never seen one. What is not as expected is read by the rules of
//! JSON, and every answer is looked at. Next: [`super::wire`].

use serde_json::Value;

use super::answer::Answer;

/// Bytes of a buyer's name.
pub(super) const SUBJECT_BYTES: usize = 16;
/// Bytes of a key and of a payment's reference.
pub(super) const REFERENCE_BYTES: usize = 8;

/// A line around a number, in which only what differs from the last one is written anew.
struct Line {
    bytes: Vec<u8>,
    head: &'static [u8],
    tail: &'static [u8],
}

impl Line {
    fn new(head: &'static [u8], tail: &'static [u8]) -> Self {
        Self { bytes: [head, tail].concat(), head, tail }
    }

    /// Writes the number; gives what follows it.
    fn set(&mut self, number: u64) -> &mut [u8] {
        let digits = number.checked_ilog10().map_or(1, |log| log as usize + 1);
        let tail_at = self.head.len() + digits;
        if self.bytes.len() != tail_at + self.tail.len() {
            self.bytes.resize(tail_at, b'0');
            self.bytes.extend_from_slice(self.tail);
        }
        let (front, tail) = self.bytes.split_at_mut(tail_at);
        let mut left = number;
        for digit in front[self.head.len()..].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        tail
    }
}

/// A line with a purchase.
pub(super) struct Purchase(Line);

impl Purchase {
    pub(super) fn new() -> Self {
        Self(Line::new(b"{\"item_id\":", b",\"buyer\":\"0123456789abcdef\",\"key\":\"01234567\"}\n"))
    }

    /// The line of this purchase.
    pub(super) fn of(
        &mut self,
        item: u32,
        subject: &[u8; SUBJECT_BYTES],
        key: &[u8; REFERENCE_BYTES],
    ) -> &[u8] {
        const SUBJECT_AT: usize = b",\"buyer\":\"".len();
        const KEY_AT: usize = SUBJECT_AT + SUBJECT_BYTES + b"\",\"key\":\"".len();
        let tail = self.0.set(u64::from(item));
        tail[SUBJECT_AT..SUBJECT_AT + SUBJECT_BYTES].copy_from_slice(subject);
        tail[KEY_AT..KEY_AT + REFERENCE_BYTES].copy_from_slice(key);
        &self.0.bytes
    }
}

/// A line with a payment.
pub(super) struct Payment(Line);

impl Payment {
    pub(super) fn new() -> Self {
        Self(Line::new(b"{\"kind\":\"pay\",\"order_id\":\"", b"\",\"payment_ref\":\"01234567\"}\n"))
    }

    /// The line of this payment.
    pub(super) fn of(&mut self, order: u64, reference: &[u8; REFERENCE_BYTES]) -> &[u8] {
        const REFERENCE_AT: usize = b"\",\"payment_ref\":\"".len();
        let tail = self.0.set(order);
        tail[REFERENCE_AT..REFERENCE_AT + REFERENCE_BYTES].copy_from_slice(reference);
        &self.0.bytes
    }
}

/// The answer at the start of what has come, and the length of its line; `None` if that has not
/// come whole.
pub(super) fn read(come: &[u8]) -> Option<(Answer, usize)> {
    const SOLD_OUT: &[u8] = b"{\"status\":409,\"code\":\"sold_out\"}\n";
    if come.starts_with(SOLD_OUT) {
        return Some((Answer::SoldOut, SOLD_OUT.len()));
    }
    let expected = expected_order(come);
    let seen = expected.as_ref().map_or(0, |(_, len)| *len);
    let len = seen + memchr::memchr(b'\n', &come[seen..])? + 1;
    let answer = expected.map_or_else(|| by_rules(&come[..len]), |(answer, _)| answer);
    Some((answer, len))
}

/// An order of one unit that is written as this server writes it, and how far it was read.
fn expected_order(come: &[u8]) -> Option<(Answer, usize)> {
    let (status, rest) = number(come.strip_prefix(b"{\"status\":")?);
    let (order, rest) = number(rest.strip_prefix(b",\"order_id\":\"")?);
    let (item, rest) = number(rest.strip_prefix(b"\",\"item_id\":")?);
    let rest = rest.strip_prefix(b",\"quantity\":1,\"state\":\"")?;
    let paid = rest.starts_with(b"paid\",\"created_at_ms\":");
    let other =
        rest.starts_with(b"confirmed\",\"created_at_ms\":") || rest.starts_with(b"held\",\"created_at_ms\":");
    let is_order = matches!(status, 200..=202) && item == order >> 32 && (paid || other);
    is_order.then(|| (Answer::Order { status: status as u16, order, paid }, come.len() - rest.len()))
}

/// The digits at the start as a number, and what follows them.
fn number(bytes: &[u8]) -> (u64, &[u8]) {
    let (mut value, mut len) = (0u64, 0);
    while let Some(digit) = bytes.get(len).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        len += 1;
    }
    (value, &bytes[len..])
}

fn by_rules(line: &[u8]) -> Answer {
    let other = || Answer::Other(String::from_utf8_lossy(line).into_owned());
    let Ok(said) = serde_json::from_slice::<Value>(line) else { return other() };
    let order = said["order_id"].as_str().and_then(|order| order.parse::<u64>().ok());
    match (said["status"].as_u64(), order) {
        (Some(409), None) if said["code"] == "sold_out" => Answer::SoldOut,
        (Some(status @ 200..=202), Some(order)) if said["item_id"] == order >> 32 => {
            Answer::Order { status: status as u16, order, paid: said["state"] == "paid" }
        }
        _ => other(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_patched_whatever_was_in_them() {
        let (mut purchase, mut payment) = (Purchase::new(), Payment::new());
        for item in [7, 123, 45, 0, u32::MAX, 1_000, 1_001] {
            let line =
                format!("{{\"item_id\":{item},\"buyer\":\"00ab00000000001f\",\"key\":\"0000001f\"}}\n");
            assert_eq!(purchase.of(item, b"00ab00000000001f", b"0000001f"), line.as_bytes());
        }
        for order in [30_064_771_073, 1, u64::MAX] {
            let line =
                format!("{{\"kind\":\"pay\",\"order_id\":\"{order}\",\"payment_ref\":\"0000001f\"}}\n");
            assert_eq!(payment.of(order, b"0000001f"), line.as_bytes());
        }
    }

    #[test]
    fn what_is_expected_is_read_as_by_the_rules() {
        let order = |status, state| {
            format!(
                r#"{{"status":{status},"order_id":"30064771073","item_id":7,"quantity":1,"state":"{state}","created_at_ms":9,"pay_by_ms":null,"lsn":3}}"#
            )
        };
        let is = |status, paid| Answer::Order { status, order: 30_064_771_073, paid };
        let cases = [
            (order(201, "confirmed"), is(201, false)),
            (order(201, "held"), is(201, false)),
            (order(200, "paid"), is(200, true)),
            (order(200, "paid").replace(":1,", ": 1,"), is(200, true)),
            (order(202, "entered"), is(202, false)),
            (r#"{"status":409,"code":"sold_out"}"#.to_owned(), Answer::SoldOut),
            (r#"{"code":"sold_out", "status":409}"#.to_owned(), Answer::SoldOut),
        ];
        for (text, expected) in cases {
            let line = format!("{text}\n");
            let cut = line.len() - 1;
            assert_eq!(by_rules(line.as_bytes()), expected, "{text}");
            assert_eq!(read(format!("{line}{{\"").as_bytes()), Some((expected, line.len())), "{text}");
            (0..=cut).for_each(|cut| assert_eq!(read(&line.as_bytes()[..cut]), None, "{cut} of {text}"));
        }
    }

    #[test]
    fn what_is_not_expected_is_not_counted() {
        for text in [
            r#"{"status":409,"code":"paused"}"#,
            r#"{"status":409,"code":"sold_out""#,
            r#"{"status":409,"code":"cap_reached","order_id":"30064771073"}"#,
            r#"{"status":500,"order_id":"30064771073","item_id":7,"quantity":1,"state":"paid","created_at_ms":9}"#,
            r#"{"status":201,"order_id":"30064771073","item_id":8,"quantity":1,"state":"paid","created_at_ms":9}"#,
            "",
        ] {
            let answer = read(format!("{text}\n").as_bytes());
            assert!(matches!(answer, Some((Answer::Other(_), _))), "{text}: {answer:?}");
        }
    }
}

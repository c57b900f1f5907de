//! Times as tokens carry them: NumericDate of RFC 7519 section 2, seconds since 1970 as any JSON number.
//!
//! They may have a fraction (Python's `time.time()`) or an exponent, or be negative. They are read exactly,
//! without floating point, in milliseconds; the caller chooses how finer parts are rounded.

/// Which way a fraction of a millisecond goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Round {
    Down,
    Up,
}

/// Milliseconds since 1970 of a JSON number of seconds; 0 for earlier times, `u64::MAX` for times beyond its
/// range. The text has to be a number as in RFC 8259.
pub(super) fn millis(number: &str, round: Round) -> u64 {
    if number.starts_with('-') {
        return 0;
    }
    let at = number.find(['e', 'E']).unwrap_or(number.len());
    let (mantissa, exponent) = (&number[..at], number.get(at + 1..).unwrap_or_default());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // How many digits are before the point, in milliseconds.
    let point = (whole.len() as i64 + 3).saturating_add(exponent_of(exponent));
    let (mut value, mut rest) = (0u64, false);
    let mut places = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if places < point {
            value = value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
            places += 1;
        } else {
            rest |= digit != b'0';
        }
    }
    while places < point && value != 0 && value != u64::MAX {
        value = value.saturating_mul(10);
        places += 1;
    }
    if rest && round == Round::Up { value.saturating_add(1) } else { value }
}

/// The exponent after `e`, limited to a value beyond any that matters.
fn exponent_of(text: &str) -> i64 {
    const FAR: i64 = 1 << 32;
    let digits = text.trim_start_matches(['+', '-']);
    let value = digits.bytes().fold(0i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(FAR));
    if text.starts_with('-') { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_json_number_is_a_time() {
        let cases = [
            ("0", 0, 0),
            ("1700000001", 1_700_000_001_000, 1_700_000_001_000),
            ("1700000001.0", 1_700_000_001_000, 1_700_000_001_000),
            ("1700000001.5", 1_700_000_001_500, 1_700_000_001_500),
            ("1700000001.123456", 1_700_000_001_123, 1_700_000_001_124),
            ("1700000001.123000", 1_700_000_001_123, 1_700_000_001_123),
            ("1.7e9", 1_700_000_000_000, 1_700_000_000_000),
            ("1.7E+9", 1_700_000_000_000, 1_700_000_000_000),
            ("17000000010e-1", 1_700_000_001_000, 1_700_000_001_000),
            ("1e-4", 0, 1),
            ("1e-99999999999999999999", 0, 1),
            ("0e99999999999999999999", 0, 0),
            ("0.0001e4", 1_000, 1_000),
            ("-1", 0, 0),
            ("-0.5e3", 0, 0),
            ("18446744073709551616", u64::MAX, u64::MAX),
            ("1e400", u64::MAX, u64::MAX),
            ("1e99999999999999999999", u64::MAX, u64::MAX),
        ];
        for (text, down, up) in cases {
            assert_eq!((millis(text, Round::Down), millis(text, Round::Up)), (down, up), "{text}");
        }
    }
}

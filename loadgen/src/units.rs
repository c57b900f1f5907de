//! Numbers as people type them: `10k`, `1m`, `30s`, `250ms`.
//!
//! Pure text to number. Next: [`crate::cli`], which uses it for its flags.

use std::time::Duration;

/// Text that is no number of that kind, and what would be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnitError {
    /// Not a count.
    #[error("`{0}` is not a count; write for example 500, 10k or 1m")]
    Count(String),
    /// Not a length of time.
    #[error("`{0}` is not a length of time; write for example 500ms, 30s, 2m or 1h")]
    Time(String),
    /// Not a share.
    #[error("`{0}` is not a share; write for example 0.2 or 20%")]
    Share(String),
}

/// Reads a count with an optional suffix `k` (thousand) or `m` (million), fractions allowed (`1.5k`).
///
/// # Errors
/// [`UnitError::Count`] for anything else, for a count that is not whole, and above 10¹⁵.
pub fn count(text: &str) -> Result<u64, UnitError> {
    let wrong = || UnitError::Count(text.to_owned());
    let (digits, scale) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let value = plain(digits).ok_or_else(wrong)? * scale;
    if value > 1e15 || value.fract() != 0.0 { Err(wrong()) } else { Ok(value as u64) }
}

/// Reads a length of time with suffix `us`, `ms`, `s`, `m` or `h`; without one it means seconds, as in wrk.
///
/// # Errors
/// [`UnitError::Time`] for anything else and above a year.
pub fn time(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError::Time(text.to_owned());
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let scale = match &text[split..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let seconds = plain(&text[..split]).ok_or_else(wrong)? * scale;
    if seconds > 366.0 * 86400.0 { Err(wrong()) } else { Ok(Duration::from_secs_f64(seconds)) }
}

/// Reads a share of one: `0.2` or `20%`.
///
/// # Errors
/// [`UnitError::Share`] for anything else and outside 0 to 1.
pub fn share(text: &str) -> Result<f64, UnitError> {
    let wrong = || UnitError::Share(text.to_owned());
    let value = match text.strip_suffix('%') {
        Some(percent) => plain(percent).ok_or_else(wrong)? / 100.0,
        None => plain(text).ok_or_else(wrong)?,
    };
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(wrong()) }
}

/// Digits with at most one point: no sign, exponent, `inf` or `nan`, which `f64` would take.
fn plain(text: &str) -> Option<f64> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let clean = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if clean && digits > 0 { text.parse().ok() } else { None }
}

/// Writes a time in nanoseconds the way people read it: three figures and a unit.
pub fn show_ns(ns: u64) -> String {
    let value = ns as f64;
    let (scaled, unit) = match ns {
        0..1_000 => (value, "ns"),
        1_000..1_000_000 => (value / 1e3, "us"),
        1_000_000..1_000_000_000 => (value / 1e6, "ms"),
        _ => (value / 1e9, "s"),
    };
    let decimals = if scaled < 10.0 { 2 } else { usize::from(scaled < 100.0) };
    format!("{scaled:.decimals$}{unit}")
}

/// Writes a count with thousands set apart: `1 234 567`.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (text, value) in
            [("0", 0), ("500", 500), ("10k", 10_000), ("1.5K", 1_500), ("1m", 1_000_000), ("2M", 2_000_000)]
        {
            assert_eq!(count(text), Ok(value), "{text}");
        }
        for text in ["", "k", "-1", "1e3", "nan", "inf", "0.5", "1.2345k", "10g", ".", "1..2", "9999999999m"]
        {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, ms) in
            [("30", 30_000), ("30s", 30_000), ("250ms", 250), ("1.5m", 90_000), ("1h", 3_600_000)]
        {
            assert_eq!(time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "s1", "1 s", "inf"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares() {
        assert_eq!(share("20%"), Ok(0.2));
        assert_eq!(share("0.5"), Ok(0.5));
        assert!(share("1.01").is_err() && share("-0.1").is_err() && share("101%").is_err());
    }

    #[test]
    fn shown() {
        assert_eq!(show_ns(999), "999ns");
        assert_eq!(show_ns(1_234_000), "1.23ms");
        assert_eq!(show_ns(12_340_000_000), "12.3s");
        assert_eq!(show_count(1_234_567), "1 234 567");
        assert_eq!(show_count(123), "123");
    }
}

//! Prices and times as people read them.
//!
//! Times are in UTC: the engine does not know the reader's time zone. The script shows the
//! reader's local time.

use std::fmt;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// A price: minor units and an ISO 4217 code into `¥4,999.00` or `CHF 12.50`.
pub fn price(minor: u64, currency: [u8; 3]) -> String {
    let code = str::from_utf8(&currency).unwrap_or_default();
    let digits = match code {
        "JPY" | "KRW" | "VND" | "CLP" | "ISK" | "UGX" | "XAF" | "XOF" | "XPF" | "PYG" | "RWF" => 0,
        "KWD" | "BHD" | "OMR" | "JOD" | "TND" | "IQD" | "LYD" => 3,
        _ => 2,
    };
    let unit = 10u64.pow(digits);
    let symbol = match code {
        "CNY" | "JPY" => "¥",
        "USD" => "$",
        "EUR" => "€",
        "GBP" => "£",
        "KRW" => "₩",
        "INR" => "₹",
        _ => "",
    };
    let mut text = if symbol.is_empty() { format!("{code} ") } else { symbol.to_owned() };
    push_grouped(&mut text, minor / unit);
    if digits > 0 {
        let width = digits as usize;
        text.push_str(&format!(".{:0width$}", minor % unit));
    }
    text
}

fn push_grouped(text: &mut String, number: u64) {
    let digits = number.to_string();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
}

/// A moment, in Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Utc(pub u64);

impl Utc {
    /// As HTML's `datetime` wants it: `2026-11-11T20:00:00Z`.
    pub fn iso(self) -> String {
        let ((year, month, day), (hour, minute, second)) = civil(self.0);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// As people read it: `2026-11-11 20:00:00 UTC`.
impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((year, month, day), (hour, minute, second)) = civil(self.0);
        write!(f, "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

type Triple = (u64, u64, u64);

/// Date and time of day. Howard Hinnant's `civil_from_days`, for times from 1970 on: the
/// year is taken to begin in March, so that the leap day comes last.
fn civil(ms: u64) -> (Triple, Triple) {
    let (days, rest_s) = (ms / DAY_MS, ms % DAY_MS / 1_000);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    ((year, month, day), (rest_s / 3_600, rest_s / 60 % 60, rest_s % 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_as_people_write_them() {
        let shown = |minor, currency: &[u8; 3]| price(minor, *currency);
        assert_eq!(shown(499_900, b"CNY"), "¥4,999.00");
        assert_eq!(shown(5, b"USD"), "$0.05");
        assert_eq!(shown(100_000_000, b"EUR"), "€1,000,000.00");
        assert_eq!(shown(1_250, b"CHF"), "CHF 12.50");
        assert_eq!(shown(12_345, b"JPY"), "¥12,345");
        assert_eq!(shown(12_345, b"KWD"), "KWD 12.345");
        assert_eq!(shown(0, b"CNY"), "¥0.00");
    }

    /// Against the calendar of another implementation, over leap days and centuries.
    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(Utc(0).to_string(), "1970-01-01 00:00:00 UTC");
        for day in (0..400 * 366).step_by(17) {
            let s = day * 86_400 + day % 86_400;
            let http = httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(s));
            let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            let ours = Utc(s * 1_000).iso();
            let month: usize = ours[5..7].parse().expect("a month");
            let again = format!("{} {} {} {}", &ours[8..10], months[month - 1], &ours[..4], &ours[11..19]);
            assert_eq!(&http[5..25], again, "{s}");
        }
    }
}

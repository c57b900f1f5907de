//! Numbers for readers, and the middle of several.

/// Two decimals, below 0.1 two digits; none, and groups of three, from 1,000 on.
#[must_use]
pub fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.abs() < 0.1 {
        let zeros = -value.abs().log10().floor();
        return format!("{value:.*}", zeros as usize + 1);
    }
    if value.abs() < 1_000.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digit.is_ascii_digit() && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The one in the middle; of an even number the mean of the two.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len().is_multiple_of(2) { f64::midpoint(values[half - 1], values[half]) } else { values[half] }
}

#[cfg(test)]
mod tests {
    use super::{median, number};

    #[test]
    fn numbers_are_short() {
        let known = [
            (0.0, "0"),
            (0.000_26, "0.00026"),
            (0.0404, "0.040"),
            (0.1, "0.10"),
            (7.056, "7.06"),
            (999.0, "999.00"),
        ];
        for (value, words) in known {
            assert_eq!(number(value), words);
        }
        assert_eq!(number(1_150_791.4), "1,150,791");
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!((median([3.0, 1.0, 2.0]), median([4.0, 1.0, 2.0, 3.0]), median([5.0])), (2.0, 2.5, 5.0));
    }
}

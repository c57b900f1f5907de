//! From figures to places on paper: axes, their ticks, and the words on them.
//!
//! Plain arithmetic. Next: `report/html/chart.rs`, which draws with it.

/// How values map to a length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Equal steps are equal lengths.
    Linear,
    /// Equal ratios are equal lengths.
    Log,
}

/// An axis: which values it holds and where they lie.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
    begin: f64,
    end: f64,
}

impl Scale {
    /// From 0 to `high`, rounded up to a tick where `round` says so.
    pub(super) fn linear(high: f64, round: bool, (begin, end): (f64, f64), ticks: usize) -> Self {
        let high = if high > 0.0 { high } else { 1.0 };
        let step = nice_step(high, ticks);
        let high = if round { (high / step - 1e-9).ceil() * step } else { high };
        Self { kind: Kind::Linear, low: 0.0, high, begin, end }
    }

    /// From `low` (taken as 1 if it is less) to `high`, each rounded outwards to 1, 2 or 5 times a power of ten.
    pub(super) fn log(low: f64, high: f64, (begin, end): (f64, f64)) -> Self {
        let low = low.max(1.0);
        let (low, high) = (outwards(low, false), outwards(high.max(low), true));
        let high = if high > low { high } else { low * 10.0 };
        Self { kind: Kind::Log, low, high, begin, end }
    }

    /// From `low` to `high` as they are.
    pub(super) const fn log_exact(low: f64, high: f64, (begin, end): (f64, f64)) -> Self {
        Self { kind: Kind::Log, low, high, begin, end }
    }

    /// Where a value lies; one beyond the axis lies at its end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        let share = match self.kind {
            Kind::Linear => (value - self.low) / (self.high - self.low),
            Kind::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        self.begin + share * (self.end - self.begin)
    }

    /// Values worth a line and a label: at most about `wanted`.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<f64> {
        match self.kind {
            Kind::Linear => {
                let step = nice_step(self.high - self.low, wanted);
                let count = ((self.high - self.low) / step + 1e-9) as u32;
                (0..=count).map(|index| self.low + f64::from(index) * step).collect()
            }
            Kind::Log => self.log_ticks(wanted),
        }
    }

    /// Powers of ten; if these are few 2 and 5 between them, if they are many each n-th.
    fn log_ticks(&self, wanted: usize) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let inside = |value: &f64| *value >= self.low * 0.999 && *value <= self.high * 1.001;
        let of = |digits: &[f64], every: i32| -> Vec<f64> {
            let powers = (first..=last).filter(|power| (power - first) % every == 0);
            let each = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
            each.filter(inside).collect()
        };
        let finer = of(&[1.0, 2.0, 5.0], 1);
        if finer.len() <= wanted {
            return finer;
        }
        let tens = of(&[1.0], 1);
        if tens.len() <= wanted || tens.len() < 4 { tens } else { of(&[1.0], 2) }
    }
}

/// 1, 2 or 5 times a power of ten, so that `wanted` of them, or slightly more, make `length`.
fn nice_step(length: f64, wanted: usize) -> f64 {
    let raw = length / wanted.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let digit = [1.0, 2.0, 5.0, 10.0].into_iter().find(|digit| digit * power >= raw * 0.9);
    digit.unwrap_or(10.0) * power
}

/// The next of 1, 2, 5 times a power of ten, upwards or downwards.
fn outwards(value: f64, up: bool) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let digits = [1.0, 2.0, 5.0, 10.0];
    let digit = if up {
        digits.into_iter().find(|digit| digit * power >= value * 0.999)
    } else {
        digits.into_iter().rev().find(|digit| digit * power <= value * 1.001)
    };
    digit.unwrap_or(1.0) * power
}

/// A number for an axis: `0`, `250`, `1.5k`, `20k`, `1.2M`.
pub(super) fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    format!("{}{unit}", trimmed(scaled))
}

/// A time in nanoseconds for an axis: `200 µs`, `5 ms`, `1 s`.
pub(super) fn short_ns(ns: f64) -> String {
    let (scaled, unit) = match ns {
        v if v >= 1e9 * 0.999 => (v / 1e9, "s"),
        v if v >= 1e6 * 0.999 => (v / 1e6, "ms"),
        v if v >= 1e3 * 0.999 => (v / 1e3, "µs"),
        v => (v, "ns"),
    };
    format!("{}\u{202f}{unit}", trimmed(scaled))
}

/// At most three decimals, none for show.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for high in [0.001, 0.7, 1.0, 3.0, 9.9, 10.0, 47.0, 980.0, 123_456.0, 1e9] {
            let scale = Scale::linear(high, true, (0.0, 100.0), 5);
            let ticks = scale.ticks(5);
            assert!((2..=7).contains(&ticks.len()), "{high}: {ticks:?}");
            assert!(scale.high >= high && (scale.at(scale.high) - 100.0).abs() < 1e-9);
            assert!((ticks.last().unwrap() - scale.high).abs() < 1e-6 * scale.high, "{high}: {ticks:?}");
        }
        assert_eq!(
            Scale::linear(980.0, true, (0.0, 1.0), 5).ticks(5),
            [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]
        );
    }

    #[test]
    fn log_ticks_cover_the_values() {
        for (low, high) in [(1.0, 1.0), (3e5, 4e6), (1e3, 6e9), (128.0, 3.6e12), (0.0, 5.0)] {
            let scale = Scale::log(low, high, (100.0, 0.0));
            let ticks = scale.ticks(8);
            assert!((2..=13).contains(&ticks.len()), "{low} to {high}: {ticks:?}");
            assert!(scale.at(high) >= 0.0 && scale.at(low) <= 100.0 && scale.at(high).is_finite());
        }
        assert_eq!(Scale::log(3e5, 4e6, (0.0, 1.0)).ticks(8), [2e5, 5e5, 1e6, 2e6, 5e6]);
    }

    #[test]
    fn words_on_axes_are_short() {
        let shorts = [0.0, 250.0, 1_500.0, 20_000.0, 1_200_000.0].map(short);
        assert_eq!(shorts, ["0", "250", "1.5k", "20k", "1.2M"]);
        let times = [500.0, 2e5, 5e6, 1e9].map(short_ns);
        assert_eq!(times, ["500\u{202f}ns", "200\u{202f}µs", "5\u{202f}ms", "1\u{202f}s"]);
    }
}

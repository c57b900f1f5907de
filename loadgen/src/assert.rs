//! What is asserted of a run: `p99<5ms`, `errors<0.1%`, `winners==1000`.
//!
//! Text to a checked value, and the value compared with a [`Record`]; it decides no exit
//! code. A metric that measured nothing never holds, since it shows nothing. Next:
//! [`crate::record`] for the figures.

use std::fmt;

use crate::meaning::{Class, Code};
use crate::record::{AssertionRecord, LATENCY_NAMES, Latency, Record};
use crate::units;

/// Text that asserts nothing, and what would.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AssertError {
    /// It has no comparison.
    #[error("`{0}` is not an assertion; write METRIC OP VALUE with < <= > >= or ==, for example 'p99<5ms'")]
    Shape(String),
    /// There is no such metric.
    #[error(
        "`{0}` is not a metric; take p50 p75 p90 p95 p99 p99.9 p99.99 max or mean (also winners.p99, refusals.p99), \
         errors, winners, an outcome such as sold_out, rate or lag"
    )]
    Metric(String),
    /// The value does not suit the metric.
    #[error("`{text}` is not a value for {metric}; write {wanted}")]
    Value {
        /// The value as it was given.
        text: String,
        /// The metric.
        metric: String,
        /// What would be right.
        wanted: &'static str,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
}

/// Longer signs first: `<=` begins with `<`.
const OPS: [(&str, Op); 5] =
    [("<=", Op::AtMost), (">=", Op::AtLeast), ("==", Op::Equal), ("<", Op::Below), (">", Op::Above)];

impl Op {
    fn sign(self) -> &'static str {
        OPS.iter().find(|(_, op)| *op == self).map_or("", |(sign, _)| sign)
    }
    fn holds(self, measured: f64, value: f64) -> bool {
        match self {
            Self::Below => measured < value,
            Self::AtMost => measured <= value,
            Self::Above => measured > value,
            Self::AtLeast => measured >= value,
            Self::Equal => measured == value,
        }
    }
}

/// Whose latencies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    All,
    Winners,
    Refusals,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Metric {
    Latency { of: Of, name: &'static str },
    Errors,
    Winners,
    Outcome(Code),
    Rate,
    Lag,
}

/// How a metric is counted, and so what its value may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Nanoseconds,
    Count,
    Share,
    PerSecond,
}

/// One thing that is asserted of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Assertion {
    metric: Metric,
    op: Op,
    value: f64,
    unit: Unit,
    /// Metric and value as they were written.
    words: (String, String),
}

impl Assertion {
    /// Reads `METRIC OP VALUE`, with or without spaces.
    ///
    /// Latencies (`p50` to `p99.99`, `max`, `mean`, each also as `winners.…` and `refusals.…`) and
    /// `lag` take a time with its unit; `errors`, `winners` and outcomes by name a count (`10k`) or a
    /// share (`0.1%`); `rate` a count per second.
    ///
    /// # Errors
    /// [`AssertError`] says in one line what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, AssertError> {
        let shape = || AssertError::Shape(text.to_owned());
        let at = text.find(['<', '>', '=']).ok_or_else(shape)?;
        let (sign, op) = *OPS.iter().find(|(sign, _)| text[at..].starts_with(sign)).ok_or_else(shape)?;
        let (name, value) = (text[..at].trim(), text[at + sign.len()..].trim());
        if name.is_empty() || value.is_empty() {
            return Err(shape());
        }
        let metric = Metric::named(name).ok_or_else(|| AssertError::Metric(name.to_owned()))?;
        let (number, unit) = metric.value(value).ok_or_else(|| AssertError::Value {
            text: value.to_owned(),
            metric: name.to_owned(),
            wanted: metric.wanted(),
        })?;
        Ok(Self { metric, op, value: number, unit, words: (name.to_owned(), value.to_owned()) })
    }

    /// What the record has for it: nanoseconds, a count, a share of one or a rate per second, as
    /// the asserted value is; `None` if nothing of the kind was measured.
    pub fn measure(&self, record: &Record) -> Option<f64> {
        let count = |count: u64| {
            let total = record.total();
            let share = self.unit == Unit::Share;
            (total > 0).then(|| if share { count as f64 / total as f64 } else { count as f64 })
        };
        match self.metric {
            Metric::Latency { of, name } => self.quantile(of.latency(record)?, name),
            Metric::Errors => count(record.errors()),
            Metric::Winners => count(record.class_count(Class::Winner)),
            Metric::Outcome(code) => count(record.count(code.name())),
            Metric::Rate => (record.total() > 0).then_some(record.achieved_per_s),
            Metric::Lag => self.quantile(record.generator.send_lag_ns.as_ref()?, "p99"),
        }
    }

    /// Whether it holds; what measured nothing does not.
    pub fn holds(&self, record: &Record) -> bool {
        self.measure(record).is_some_and(|measured| self.op.holds(measured, self.value))
    }

    /// Holds it against a record.
    pub fn check(&self, record: &Record) -> Checked {
        let measured = self.measure(record);
        let words = measured.map_or_else(|| self.why_nothing(record).to_owned(), |value| self.show(value));
        Checked { text: self.to_string(), holds: self.holds(record), measured, words }
    }

    /// The quantile, if their number supports it. Where it has to stay below something, the maximum
    /// stands for it otherwise: it cannot be above that.
    fn quantile(&self, latency: &Latency, name: &str) -> Option<f64> {
        let bound = matches!(self.op, Op::Below | Op::AtMost).then_some(latency.max);
        latency.named(name).or(bound).map(|ns| ns as f64)
    }

    /// Why there is no figure: nothing was measured, or too little for this quantile.
    fn why_nothing(&self, record: &Record) -> &'static str {
        let latency = match self.metric {
            Metric::Latency { of, .. } => of.latency(record),
            Metric::Lag => record.generator.send_lag_ns.as_ref(),
            _ => None,
        };
        if latency.is_some() {
            "too few were measured for this quantile"
        } else {
            "nothing of it was measured"
        }
    }

    fn show(&self, measured: f64) -> String {
        match self.unit {
            Unit::Nanoseconds => units::show_ns(measured as u64),
            Unit::Count => units::show_count(measured as u64),
            // Down to a hundredth of a thousandth: `errors<0.001%` is a fair demand.
            Unit::Share => format!("{:.4}%", measured * 100.0),
            Unit::PerSecond => format!("{}/s", units::show_count(measured.round() as u64)),
        }
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.words.0, self.op.sign(), self.words.1)
    }
}

/// What came of an assertion.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked {
    /// What was asserted.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was measured, in the unit of [`Assertion::measure`].
    pub measured: Option<f64>,
    /// The same in words.
    pub words: String,
}

impl From<&Checked> for AssertionRecord {
    fn from(checked: &Checked) -> Self {
        Self { text: checked.text.clone(), holds: checked.holds, measured: checked.words.clone() }
    }
}

impl Of {
    const fn latency(self, record: &Record) -> Option<&Latency> {
        match self {
            Self::All => record.latency_ns.all.as_ref(),
            Self::Winners => record.latency_ns.winners.as_ref(),
            Self::Refusals => record.latency_ns.refusals.as_ref(),
        }
    }
}

impl Metric {
    fn named(text: &str) -> Option<Self> {
        let (of, rest) = match text.split_once('.') {
            Some(("winners", rest)) => (Of::Winners, rest),
            Some(("refusals", rest)) => (Of::Refusals, rest),
            _ => (Of::All, text),
        };
        if let Some(&name) = LATENCY_NAMES.iter().find(|&&name| name == rest) {
            return Some(Self::Latency { of, name });
        }
        match text {
            "errors" => Some(Self::Errors),
            "winners" => Some(Self::Winners),
            "rate" => Some(Self::Rate),
            "lag" => Some(Self::Lag),
            _ => Code::ALL.iter().find(|code| code.name() == text).map(|&code| Self::Outcome(code)),
        }
    }

    fn value(self, text: &str) -> Option<(f64, Unit)> {
        match self {
            Self::Latency { .. } | Self::Lag => {
                // Without its unit "5" would mean seconds, and an assertion that always holds.
                let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic()) || text == "0";
                let time = units::time(text).ok().filter(|_| has_unit)?;
                Some((time.as_nanos() as f64, Unit::Nanoseconds))
            }
            Self::Errors | Self::Winners | Self::Outcome(_) if text.ends_with('%') => {
                units::share(text).ok().map(|share| (share, Unit::Share))
            }
            Self::Errors | Self::Winners | Self::Outcome(_) => {
                units::count(text).ok().map(|count| (count as f64, Unit::Count))
            }
            Self::Rate => {
                let count = units::count(text.strip_suffix("/s").unwrap_or(text)).ok()?;
                Some((count as f64, Unit::PerSecond))
            }
        }
    }

    const fn wanted(self) -> &'static str {
        match self {
            Self::Latency { .. } | Self::Lag => "a time with its unit, for example 5ms or 250us",
            Self::Rate => "a count per second, for example 50k",
            _ => "a count or a share, for example 100, 10k or 0.1%",
        }
    }
}

impl Record {
    /// Takes up what was asserted and what came of it.
    pub fn assert(&mut self, assertions: &[Assertion]) {
        let checked: Vec<_> = assertions.iter().map(|assertion| assertion.check(self)).collect();
        self.assertions = checked.iter().map(AssertionRecord::from).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    fn checked(text: &str) -> Checked {
        Assertion::parse(text).unwrap_or_else(|error| panic!("{error}")).check(&sample())
    }

    #[test]
    fn what_holds_holds_and_what_does_not_does_not() {
        // The sample: 900 won, 80 sold out, 15 timed out, 5 unsent; p99 4 ms, of winners 3 ms.
        for text in [
            "p99<5ms",
            "p99 <= 4ms",
            "p99 == 4ms",
            "p99>3999us",
            "p50<p",
            "winners.p99<3500us",
            "errors==20",
            "errors<=2%",
            "errors < 2.1%",
            "winners>=900",
            "sold_out==8%",
            "cap_reached==0",
            "rate>=100",
            "rate<1k/s",
            "lag<1ms",
            "max<1s",
            "mean>1us",
            "timed_out>14",
            "unsent<6",
            "won==900",
        ] {
            if text == "p50<p" {
                assert!(Assertion::parse(text).is_err());
                continue;
            }
            assert!(checked(text).holds, "{text}: {}", checked(text).words);
        }
        for text in ["p99<4ms", "p99>4ms", "errors<20", "errors<2%", "winners>900", "rate<100", "lag>1ms"] {
            assert!(!checked(text).holds, "{text}: {}", checked(text).words);
        }
    }

    #[test]
    fn what_was_not_measured_does_not_hold_and_says_so() {
        let mut record = sample();
        record.latency_ns.winners = None;
        for text in ["winners.p99<1h", "winners.p99>0"] {
            let checked = Assertion::parse(text).unwrap().check(&record);
            assert!(!checked.holds && checked.measured.is_none(), "{text}");
            assert_eq!(checked.words, "nothing of it was measured");
        }
        record.outcomes.clear();
        assert!(!Assertion::parse("errors<1").unwrap().holds(&record), "an empty run shows nothing");
    }

    #[test]
    fn it_is_shown_as_it_was_written() {
        let checked = checked("winners.p99<5ms");
        assert_eq!((checked.text.as_str(), checked.words.as_str()), ("winners.p99 < 5ms", "3.00ms"));
        assert_eq!(self::checked("errors<0.1%").words, "2.0000%");
    }

    #[test]
    fn nonsense_gets_one_line_that_helps() {
        for (text, words) in [
            ("", "is not an assertion"),
            ("p99", "is not an assertion"),
            ("p99=5ms", "is not an assertion"),
            ("<5ms", "is not an assertion"),
            ("p99<", "is not an assertion"),
            ("p98<5ms", "is not a metric; take p50 p75"),
            ("winner.p99<5ms", "is not a metric"),
            ("winners.errors<1", "is not a metric"),
            ("latency<5ms", "is not a metric"),
            ("p99<5", "a time with its unit"),
            ("p99<5%", "a time with its unit"),
            ("p99<=>5ms", "a time with its unit"),
            ("lag<-1ms", "a time with its unit"),
            ("errors<5ms", "a count or a share"),
            ("errors<200%", "a count or a share"),
            ("rate>5%", "a count per second"),
        ] {
            let error = Assertion::parse(text).expect_err(text).to_string();
            assert!(error.contains(words) && !error.contains('\n'), "`{text}` said: {error}");
        }
    }
}

//! `--shape`: from its text to a schedule.
//!
//! Next: [`crate::engine::Schedule`].

use std::time::Duration;

use crate::engine::{Schedule, Segment};
use crate::program::UsageError;
use crate::units;

/// Requests per second of a run that is told no rate.
const RATE_DEFAULT: u64 = 1_000;
/// How long a spike is looked at if nothing else is said.
const SPIKE_LENGTH: Duration = Duration::from_secs(10);

/// A shape as it was written; rates are requests per second.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Shape {
    /// `-R` all the time.
    Constant,
    /// A straight line over the whole run; without rates from 0 to `-R`.
    Ramp(Option<(u64, u64)>),
    /// One rate before, another from then on, or for a length only.
    Spike { from: u64, to: u64, at: Duration, length: Option<Duration> },
    /// Straight lines from rate to rate, the first from 0.
    Stages(Vec<(Duration, u64)>),
}

impl Shape {
    /// Reads `constant`, `ramp`, `ramp:A->B`, `spike:A->B@T`, `spike:A->B@T+LENGTH` or `stages:FILE`.
    ///
    /// # Errors
    /// [`UsageError`] tells how it is written.
    pub(super) fn parse(text: &str) -> Result<Self, UsageError> {
        let wrong = |why: &str| {
            UsageError(format!(
                "--shape `{text}` {why}; write constant, ramp, ramp:1k->50k, spike:0->200k@5s, \
                 spike:1k->200k@5s+2s or stages:FILE"
            ))
        };
        match text.split_once(':') {
            None if text == "constant" => Ok(Self::Constant),
            None if text == "ramp" => Ok(Self::Ramp(None)),
            Some(("ramp", rates)) => {
                Ok(Self::Ramp(Some(pair(rates).ok_or_else(|| wrong("has no two rates"))?)))
            }
            Some(("spike", rest)) => spike(rest).ok_or_else(|| wrong("is not a spike")),
            Some(("stages", file)) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| UsageError(format!("cannot read the stages in {file}: {error}")))?;
                stages(&text).map_err(|line| UsageError(format!("{file}: {line}")))
            }
            _ => Err(wrong("is unknown")),
        }
    }

    /// How long it takes if nobody says how long to run.
    pub(super) fn natural_length(&self) -> Option<Duration> {
        match self {
            Self::Constant | Self::Ramp(_) => None,
            Self::Spike { at, length: None, .. } => Some(*at + SPIKE_LENGTH),
            Self::Spike { at, length: Some(length), .. } => Some(*at * 2 + *length),
            Self::Stages(stages) => Some(stages.iter().map(|stage| stage.0).sum()),
        }
    }

    /// The schedule of a run of this length with this `-R`.
    ///
    /// # Errors
    /// [`UsageError`] if flags contradict each other or a rate is too high.
    pub(super) fn schedule(
        &self,
        rate: Option<u64>,
        duration: Option<Duration>,
    ) -> Result<Schedule, UsageError> {
        let one_rate = rate.unwrap_or(RATE_DEFAULT);
        let own_rates = !matches!(self, Self::Constant | Self::Ramp(None));
        if own_rates && rate.is_some() {
            return Err(UsageError("this --shape says its rates itself; leave out -R".to_owned()));
        }
        let segments = match self {
            Self::Constant => return Ok(Schedule::constant(one_rate as f64)),
            Self::Ramp(rates) => {
                let Some(length) = duration else {
                    return Err(UsageError("a ramp needs a length: give -d".to_owned()));
                };
                let (from, to) = rates.unwrap_or((0, one_rate));
                vec![line(length, from, to)]
            }
            Self::Spike { from, to, at, length } => {
                let before = (!at.is_zero()).then(|| line(*at, *from, *from));
                let rest = match length {
                    Some(length) => vec![line(*length, *to, *to), line(Duration::from_secs(1), *from, *from)],
                    None => vec![line(SPIKE_LENGTH, *to, *to)],
                };
                before.into_iter().chain(rest).collect()
            }
            Self::Stages(stages) => {
                let mut from = 0;
                let lines =
                    stages.iter().map(|&(length, to)| line(length, std::mem::replace(&mut from, to), to));
                lines.collect()
            }
        };
        Schedule::new(segments).map_err(|error| UsageError(error.to_string()))
    }
}

fn line(length: Duration, from: u64, to: u64) -> Segment {
    Segment { length_s: length.as_secs_f64(), from_per_s: from as f64, to_per_s: to as f64 }
}

/// `A->B`.
fn pair(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.split_once("->")?;
    Some((units::count(from.trim()).ok()?, units::count(to.trim()).ok()?))
}

/// `A->B@T` or `A->B@T+LENGTH`.
fn spike(text: &str) -> Option<Shape> {
    let (rates, when) = text.split_once('@')?;
    let (from, to) = pair(rates)?;
    let (at, length) = match when.split_once('+') {
        None => (when, None),
        Some((at, length)) => (at, Some(units::time(length.trim()).ok()?)),
    };
    Some(Shape::Spike { from, to, at: units::time(at.trim()).ok()?, length })
}

/// Lines of `TIME RATE`; empty lines and what follows a `#` do not count.
fn stages(text: &str) -> Result<Shape, String> {
    let mut stages = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let stage = match words[..] {
            [length, rate] => units::time(length).ok().zip(units::count(rate).ok()),
            _ => None,
        };
        let wrong = || format!("line {} `{line}` is not a stage; write for example `30s 10k`", index + 1);
        stages.push(stage.ok_or_else(wrong)?);
    }
    if stages.is_empty() {
        Err("there are no stages; write lines as `30s 10k`".to_owned())
    } else {
        Ok(Shape::Stages(stages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(shape: &str, rate: Option<u64>, length_s: u64) -> Vec<(f64, f64, f64)> {
        let shape = Shape::parse(shape).unwrap();
        let schedule = shape.schedule(rate, Some(Duration::from_secs(length_s))).unwrap();
        let each = schedule.segments().iter();
        each.map(|segment| (segment.length_s, segment.from_per_s, segment.to_per_s)).collect()
    }

    #[test]
    fn shapes_are_read() {
        assert_eq!(rates("constant", Some(5), 3), []);
        assert_eq!(rates("ramp", Some(50_000), 3), [(3.0, 0.0, 50_000.0)]);
        assert_eq!(rates("ramp:1k->2k", None, 3), [(3.0, 1_000.0, 2_000.0)]);
        assert_eq!(rates("spike:0->200k@5s", None, 3), [(5.0, 0.0, 0.0), (10.0, 200_000.0, 200_000.0)]);
        let expected = [(5.0, 10.0, 10.0), (2.0, 2_000.0, 2_000.0), (1.0, 10.0, 10.0)];
        assert_eq!(rates("spike:10->2k@5s+2s", None, 3), expected);
        assert_eq!(rates("spike:0->10@0s", None, 3), [(10.0, 10.0, 10.0)]);
    }

    #[test]
    fn stages_are_read() {
        let shape = stages("# warm\n30s 10k\n\n 1m 0 # down\n").unwrap();
        assert_eq!(shape.natural_length(), Some(Duration::from_secs(90)));
        let schedule = shape.schedule(None, None).unwrap();
        assert_eq!((schedule.segments()[0].from_per_s, schedule.segments()[1].from_per_s), (0.0, 10_000.0));
        assert!(stages("30s").is_err_and(|words| words.contains("line 1")));
        assert!(stages("#\n").is_err());
    }

    #[test]
    fn bad_shapes_get_one_line() {
        for (text, words) in [
            ("sine", "is unknown"),
            ("spike:5@1s", "is not a spike"),
            ("ramp:5", "has no two rates"),
            ("stages:/nowhere/x", "cannot read the stages"),
        ] {
            let error = Shape::parse(text).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{text}: {error}");
        }
        let spike = Shape::parse("spike:0->5@1s").unwrap();
        assert!(spike.schedule(Some(5), None).is_err());
        assert!(Shape::parse("ramp").unwrap().schedule(None, None).is_err());
    }
}

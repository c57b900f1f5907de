//! The page of text: what a terminal shows at the end of a run.
//!
//! Next: [`crate::record`], where the figures come from.

use std::fmt::Write as _;

use crate::engine::OWN_SYSTEM;
use crate::meaning::Class;
use crate::record::{KeptUp, LATENCY_NAMES, Latency, Record, StepRecord, class_of, in_class, in_order};
use crate::units::{show_count, show_ns};

/// What a step's row shows of its latency.
const STEP_NAMES: [&str; 4] = ["p50", "p99", "p99.9", "max"];

/// The page.
pub(super) fn page(record: &Record, colours: bool) -> String {
    let mut page = Page { text: String::new(), record, colours };
    page.head();
    page.rate();
    page.outcomes();
    page.latencies();
    page.steps();
    page.end();
    page.text
}

/// What was requested, from whom, in which loop: the same words in every kind of report.
pub(super) fn what_was_run(record: &Record) -> (String, String) {
    let config = &record.config;
    let what = match (&config.request, config.item.unwrap_or(0), config.items.unwrap_or(1)) {
        (Some(request), ..) => request.clone(),
        (None, item, 1) => format!("purchases of item {item}"),
        (None, first, items) => format!("purchases of items {first} to {}", first.saturating_add(items - 1)),
    };
    let in_loop = match config.target_per_s {
        Some(per_s) if config.shape.is_empty() => format!("open loop, {}/s", show_rate(per_s)),
        Some(per_s) => format!("open loop, a shape of up to {}/s", show_rate(per_s)),
        None => "closed loop".to_owned(),
    };
    (what, in_loop)
}

/// How latency was counted.
pub(super) const fn how_counted(record: &Record) -> &'static str {
    if record.config.coordinated_omission_corrected {
        "from the intended send time (coordinated omission: corrected)"
    } else {
        "from the actual send time (closed loop; coordinated omission: not corrected)"
    }
}

/// A rate: whole from ten on, with its decimals below.
pub(super) fn show_rate(per_s: f64) -> String {
    if per_s < 10.0 && per_s.fract() != 0.0 {
        format!("{per_s:.2}")
    } else {
        show_count(per_s.round() as u64)
    }
}

/// Why it gave up, in words.
pub(super) fn why_gave_up(cause: &str) -> String {
    if cause.starts_with(OWN_SYSTEM) {
        return format!("GAVE UP: {cause}; the server is not to blame");
    }
    let cause = if cause.is_empty() { "the server closes every connection" } else { cause };
    format!("GAVE UP: no response for longer than --ride-out ({cause})")
}

struct Page<'a> {
    text: String,
    record: &'a Record,
    colours: bool,
}

impl Page<'_> {
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }
    fn red(&self, text: &str) -> String {
        if self.colours { format!("\x1b[1;31m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn head(&mut self) {
        let config = &self.record.config;
        let (what, in_loop) = what_was_run(self.record);
        let (version, server) = (&self.record.version, &config.server);
        let shape = format!(
            "  {} connections, {} threads, pipeline {}, seed {}",
            config.connections, config.threads, config.pipeline, config.seed
        );
        self.line(format!("stampede-loadgen {version}: {what} at {server}, {in_loop}"));
        self.line(shape);
        self.line(format!("  latency is counted {}\n", how_counted(self.record)));
    }

    fn rate(&mut self) {
        let record = self.record;
        let target = match record.config.target_per_s {
            Some(per_s) if record.config.shape.is_empty() => format!("target {}/s, ", show_rate(per_s)),
            _ => String::new(),
        };
        let (rate, over) = (show_rate(record.achieved_per_s), show_ns(record.elapsed_ns));
        self.line(format!("  rate       {target}achieved {rate}/s over {over}"));
        let generator = &record.generator;
        let per_cpu = show_rate(generator.requests_per_cpu_s);
        let (busy, waited) = (generator.busy_share * 100.0, generator.waited_share * 100.0);
        let stall = show_ns(generator.stall_ns_max);
        self.line(format!("  generator  CPU {busy:.0} % of its threads, {per_cpu} requests per CPU second"));
        self.line(format!(
            "             waited for a processor {waited:.0} % of the time, longest stall {stall}"
        ));
        self.kept_up();
        if let Some(silence) = record.silence() {
            let words = self.red(&silence.to_string());
            self.line(format!("  silence    {words}"));
        }
    }

    fn kept_up(&mut self) {
        let record = self.record;
        let Some(words) = record.kept_up.words() else { return };
        let words = if record.kept_up == KeptUp::Yes { words.to_owned() } else { self.red(words) };
        let lag = record.generator.send_lag_ns.as_ref();
        let lag = lag.map_or_else(String::new, |lag| match lag.named("p99") {
            Some(p99) => format!(" (send lag p99 {})", show_ns(p99)),
            None => format!(" (send lag max {})", show_ns(lag.max)),
        });
        self.line(format!("  kept up    {words}{lag}"));
    }

    fn outcomes(&mut self) {
        let (record, total) = (self.record, self.record.total());
        self.line("\n  outcome                        count    share");
        for (name, count) in in_order(&record.outcomes) {
            let kind = if class_of(name) == Class::Unknown { " (unknown)" } else { "" };
            let name = format!("{name}{kind}");
            let share = count as f64 * 100.0 / total.max(1) as f64;
            self.line(format!("  {name:<24} {:>11}  {share:6.2} %", show_count(count)));
        }
        let again: u64 = record.tried_again.values().sum();
        if again > 0 {
            let each: Vec<_> =
                in_order(&record.tried_again).iter().map(|(name, count)| format!("{name} {count}")).collect();
            let (again, each) = (show_count(again), each.join(", "));
            self.line(format!("  tried again with the same key: {again} ({each})"));
        }
        if let Some(orders) = record.orders_acked {
            self.line(format!("  distinct orders acked: {}", show_count(orders)));
        }
        if record.reconnects > 0 {
            self.line(format!("  reconnects: {}", show_count(record.reconnects)));
        }
    }

    fn latencies(&mut self) {
        let rows: Vec<_> = self.record.latency_ns.measured().collect();
        if rows.is_empty() {
            return;
        }
        self.line(format!("\n  latency   {}", columns(&LATENCY_NAMES)));
        for (name, latency) in rows {
            self.line(format!("  {name:<10}{}", figures(latency, &LATENCY_NAMES)));
        }
    }

    /// The requests around the purchases, if there were any.
    fn steps(&mut self) {
        let steps = &self.record.steps;
        if steps.iter().all(|step| step.name == "purchase") {
            return;
        }
        let head = ["count", "ok", "refused", "unknown"];
        self.line(format!("\n  step      {}{}", columns(&head), columns(&STEP_NAMES)));
        for step in steps {
            self.line(step_row(step));
        }
    }

    fn end(&mut self) {
        let record = self.record;
        if let Some(cause) = &record.gave_up {
            self.line(format!("\n  {}", self.red(&why_gave_up(cause))));
        }
        if record.interrupted {
            self.line("\n  interrupted: the run ended early");
        }
        let words = match (&record.verdict, &record.not_verified) {
            (Some(verdict), _) if verdict.fine => verdict.words.clone(),
            (Some(verdict), _) => self.red(&verdict.words),
            (None, Some(why)) => self.red(&format!("NOT VERIFIED: {why}")),
            (None, None) => String::new(),
        };
        if !words.is_empty() {
            self.line(format!("\n  verify     {words}"));
        }
        let machine = &record.machine;
        let files = machine.limits.nofile.map_or("any number of".to_owned(), show_count);
        let (kernel, cores) = (&machine.kernel, machine.cores);
        self.line(format!("\n  machine    Linux {kernel}, {cores} cores, {files} open files allowed"));
        for assertion in &record.assertions {
            let words = format!("{}: {}", assertion.text, assertion.measured);
            let words = if assertion.holds {
                format!("ok      {words}")
            } else {
                self.red(&format!("FAILED  {words}"))
            };
            self.line(format!("  assert     {words}"));
        }
    }
}

fn columns(names: &[&str]) -> String {
    names.iter().fold(String::new(), |mut text, name| {
        let _ = write!(text, "{name:>9}");
        text
    })
}

fn figures(latency: &Latency, names: &[&str]) -> String {
    let each = names.iter().map(|name| latency.named(name).map_or_else(|| "-".to_owned(), show_ns));
    each.fold(String::new(), |mut text, figure| {
        let _ = write!(text, "{figure:>9}");
        text
    })
}

fn step_row(step: &StepRecord) -> String {
    let total: u64 = step.outcomes.values().sum();
    let of = |class| in_class(&step.outcomes, class);
    let counts = [total, of(Class::Winner), of(Class::Refusal), of(Class::Unknown) + of(Class::Unsent)];
    let counts = counts.map(show_count);
    let counts: Vec<&str> = counts.iter().map(String::as_str).collect();
    let latency = step.latency_ns.as_ref().map_or_else(String::new, |part| figures(part, &STEP_NAMES));
    format!("  {:<10}{}{latency}", step.name, columns(&counts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use crate::record::{AssertionRecord, Latencies};

    #[test]
    fn the_page_has_every_part() {
        let mut record = sample();
        let fine = AssertionRecord { text: "p99 < 5ms".into(), holds: true, measured: "4.00ms".into() };
        record.assertions = vec![fine.clone(), AssertionRecord { holds: false, ..fine }];
        let text = page(&record, false);
        for words in [
            "stampede-loadgen 0.1.0: purchases of item 1 at 127.0.0.1:7070, open loop, 1 000/s",
            "seed 7",
            "coordinated omission: corrected",
            "target 1 000/s, achieved 980/s over 1.00s",
            "kept up    yes (send lag p99 100us)",
            "  won                              900   90.00 %",
            "timed_out (unknown)",
            "tried again with the same key: 10 (reset 10)",
            "      p50      p75      p90      p95      p99    p99.9   p99.99      max     mean",
            "  winners       750us   1.00ms",
            "  state         1 000    1 000        0        0    250us   1.00ms",
            "verify     fine: 900 orders",
            "machine    Linux 6.18.0, 2 cores, 1 024 open files allowed",
            "assert     ok      p99 < 5ms: 4.00ms",
            "assert     FAILED  p99 < 5ms: 4.00ms",
        ] {
            assert!(text.contains(words), "no `{words}` in\n{text}");
        }
        assert!(!text.contains('\x1b') && page(&record, true).contains("\x1b[1;31mFAILED"));
    }

    #[test]
    fn what_was_not_measured_is_not_shown() {
        let mut record = sample();
        record.latency_ns = Latencies::default();
        (record.verdict, record.stock) = (None, None);
        record.outcomes.clear();
        record.tried_again.clear();
        record.steps.clear();
        record.generator.send_lag_ns = None;
        (record.kept_up, record.achieved_per_s) = (KeptUp::GeneratorLimit, 0.0);
        let text = page(&record, true);
        for words in ["NaN", "inf", "latency  ", "winners", "verify", "step ", "lag"] {
            assert!(!text.contains(words), "`{words}` in\n{text}");
        }
        assert!(text.contains("\x1b[1;31mNO: the generator sent late"), "{text}");
        record.not_verified = Some("nobody answered".to_owned());
        assert!(page(&record, false).contains("NOT VERIFIED: nobody answered"));
    }
}

//! The page for a browser: one file with everything in it, to mail around and to print.
//!
//! No script, no font and no picture from anywhere: style and charts are in the page, and
//! its own policy forbids the rest. Everything that is not ours is escaped: header lines
//! and responses come from strangers. Next: `report/html/charts.rs`.

mod chart;
mod charts;
mod scale;
mod write;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::check::Ruling;
use crate::meaning::Class;
use crate::record::{
    KeptUp, LATENCY_NAMES, Latency, Record, StepRecord, VerdictRecord, class_of, in_class, in_order,
};
use crate::report::text::{how_counted, show_rate, what_was_run, why_gave_up};
use charts::Figure;
pub(super) use write::date;
use write::{count, escape, time};

const STYLE: &str = include_str!("html/style.css");
/// Broken promises that are listed; the record has more of them.
const VIOLATIONS_SHOWN: usize = 20;

/// The page.
pub fn page(record: &Record) -> String {
    let (what, in_loop) = what_was_run(record);
    let title = escape(&format!("Load test: {what}, {in_loop}"));
    // The policy allows this one style sheet and nothing else, should a stranger's text ever get through.
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'sha256-{hash}'\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><main>\n"
    );
    head(&mut page, record, &what, &in_loop);
    findings(&mut page, record);
    cards(&mut page, record);
    charts::all(record).iter().for_each(|drawn| figure(&mut page, drawn));
    tables(&mut page, record);
    foot(&mut page, record);
    page.push_str("</main></body></html>\n");
    page
}

fn head(page: &mut String, record: &Record, what: &str, in_loop: &str) {
    let (config, began) = (&record.config, date(record.began_at_ms));
    let what = escape(&capital(what));
    let host = if config.host == config.server { String::new() } else { format!(" ({})", config.host) };
    let server = escape(&format!("{}{host}", config.server));
    let (due, over) = (count(record.total()), time(record.elapsed_ns));
    let _ = writeln!(
        page,
        "<header><h1>{what}</h1><p class=\"sub\">{server} · {} · {} connections · {began}</p>\
         <p>{due} requests in {over}. Latency is counted {}.</p></header>",
        escape(in_loop),
        config.connections,
        escape(how_counted(record)),
    );
}

/// The text with a capital letter at its beginning.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}", letters.as_str())
}

/// How something is to be taken: its class in the style sheet and its sign, since colour alone tells nobody.
#[derive(Clone, Copy)]
enum Mood {
    Ok,
    Plain,
    Warn,
    Bad,
}

impl Mood {
    const fn class_and_sign(self) -> (&'static str, &'static str) {
        match self {
            Self::Ok => ("ok", "✓"),
            Self::Plain => ("plain", "–"),
            Self::Warn => ("warn", "!"),
            Self::Bad => ("bad", "✕"),
        }
    }
}

fn findings(page: &mut String, record: &Record) {
    page.push_str("<ul class=\"findings\">");
    verdict(page, record);
    let words = record.kept_up.words().map(|words| words.trim_start_matches("NO: "));
    match (record.kept_up, words) {
        (KeptUp::NoTarget, _) | (_, None) => {}
        (KeptUp::Yes, _) => {
            finding(page, Mood::Ok, "The generator kept up", "The target rate was reached, on time.");
        }
        (KeptUp::GeneratorLimit, Some(words)) => {
            finding(
                page,
                Mood::Bad,
                "The generator was the limit: these figures say little about the server",
                words,
            );
        }
        (KeptUp::ServerLimit | KeptUp::Unknown, Some(words)) => {
            finding(page, Mood::Warn, "The target rate was not reached", words);
        }
    }
    if let Some(silence) = record.silence() {
        finding(page, Mood::Warn, "The server stood still", &silence.to_string());
    }
    if let Some(cause) = &record.gave_up {
        finding(page, Mood::Bad, "The run gave up", &why_gave_up(cause));
    }
    if record.interrupted {
        finding(page, Mood::Warn, "Interrupted", "The run was ended early, from outside.");
    }
    for assertion in &record.assertions {
        let (mood, words) = if assertion.holds { (Mood::Ok, "holds") } else { (Mood::Bad, "does not hold") };
        let measured = format!("Measured: {}", assertion.measured);
        finding(page, mood, &format!("{} {words}", assertion.text), &measured);
    }
    page.push_str("</ul>\n");
}

fn finding(page: &mut String, mood: Mood, title: &str, words: &str) {
    let (class, sign) = mood.class_and_sign();
    let (title, words) = (escape(title), escape(&capital(words)));
    let _ = write!(
        page,
        "<li class=\"{class}\"><span class=\"sign\" aria-hidden=\"true\">{sign}</span><div><b>{title}</b>{words}</div></li>"
    );
}

fn verdict(page: &mut String, record: &Record) {
    match (&record.verdict, &record.not_verified) {
        (Some(verdict), _) if verdict.fine => {
            let title = if verdict.has_books {
                "Every promise that was looked at was kept"
            } else {
                "Nothing wrong as far as clients can see"
            };
            finding(page, Mood::Ok, title, &verdict.words);
        }
        (Some(verdict), _) => match verdict.ruling {
            Ruling::NothingLetIn => finding(page, Mood::Bad, "Nothing was let in", &verdict.words),
            Ruling::Inconclusive => {
                finding(page, Mood::Warn, "Not everything could be verified", &verdict.words);
            }
            Ruling::Fine | Ruling::Broken => violations(page, verdict),
        },
        (None, Some(why)) => finding(page, Mood::Warn, "Not verified", why),
        // Without a sale there is nothing to verify.
        (None, None) if record.config.request.is_some() => {}
        (None, None) => {
            let words = "Nobody checked for oversold units or lost orders: give --admin to have that done.";
            finding(page, Mood::Plain, "Not verified", words);
        }
    }
}

fn violations(page: &mut String, verdict: &VerdictRecord) {
    let total = count(verdict.violations_total);
    let title = match verdict.violations_total {
        1 => "One promise was broken".to_owned(),
        _ => format!("{total} promises were broken"),
    };
    let (class, sign) = Mood::Bad.class_and_sign();
    let _ = write!(
        page,
        "<li class=\"{class}\"><span class=\"sign\" aria-hidden=\"true\">{sign}</span><div><b>{title}</b><ul>"
    );
    for violation in verdict.violations.iter().take(VIOLATIONS_SHOWN) {
        let _ = write!(page, "<li>{}</li>", escape(&violation.text));
    }
    let left = verdict.violations_total.saturating_sub(VIOLATIONS_SHOWN as u64);
    if left > 0 {
        let _ = write!(page, "<li>and {} more</li>", count(left));
    }
    page.push_str("</ul></div></li>");
}

fn cards(page: &mut String, record: &Record) {
    let total = record.total().max(1);
    let share = |part: u64| format!("{:.2}\u{202f}% of all", part as f64 * 100.0 / total as f64);
    let (winners, refusals) = (record.class_count(Class::Winner), record.class_count(Class::Refusal));
    page.push_str("<dl class=\"cards\">");
    let raw = record.config.request.is_some();
    card(page, if raw { "Answered well" } else { "Winners" }, &count(winners), &share(winners));
    card(page, "Refusals", &count(refusals), &share(refusals));
    let errors = record.errors();
    card(page, "No clear response", &count(errors), &share(errors));
    let target = record.config.target_per_s.filter(|_| record.config.shape.is_empty());
    let target = target.map_or_else(
        || format!("over {}", time(record.elapsed_ns)),
        |per_s| format!("of {}/s wanted", show_rate(per_s).replace(' ', "\u{202f}")),
    );
    let rate = show_rate(record.achieved_per_s).replace(' ', "\u{202f}");
    card(page, "Rate", &format!("{rate}/s"), &target);
    if let Some(all) = &record.latency_ns.all {
        for (name, words) in [
            ("p50", "half took at most this"),
            ("p99", "99\u{202f}% took at most this"),
            ("p99.9", "99.9\u{202f}% took at most this"),
            ("max", "all took at most this"),
        ] {
            // What their number does not support is left out; with few the maximum says more.
            if name != "max" || all.named("p99.9").is_none() {
                all.named(name).into_iter().for_each(|ns| card(page, name, &time(ns), words));
            }
        }
        card(page, "Longest", &time(all.max), "of all latencies");
    }
    page.push_str("</dl>\n");
}

fn card(page: &mut String, name: &str, figure: &str, aside: &str) {
    let (name, figure, aside) = (escape(name), escape(figure), escape(aside));
    let _ = write!(
        page,
        "<div><dt>{name}</dt><dd class=\"figure\">{figure}</dd><dd class=\"aside\">{aside}</dd></div>"
    );
}

fn figure(page: &mut String, drawn: &Figure) {
    let (heading, caption) = (escape(&drawn.heading), escape(&drawn.caption));
    let _ = write!(page, "<figure><h3>{heading}</h3><p class=\"caption\">{caption}</p>");
    if !drawn.key.is_empty() {
        page.push_str("<ul class=\"key\">");
        for (class, name, sum) in &drawn.key {
            let (name, sum) = (escape(name), count(*sum));
            let _ = write!(page, "<li><i class=\"{class}\"></i>{name} {sum}</li>");
        }
        page.push_str("</ul>");
    }
    let _ = writeln!(page, "{}</figure>", drawn.drawings);
}

fn tables(page: &mut String, record: &Record) {
    let total = record.total().max(1);
    let share = |part: u64| format!("{:.2}\u{202f}%", part as f64 * 100.0 / total as f64);
    let rows: Vec<_> = in_order(&record.outcomes)
        .into_iter()
        .map(|(name, sum)| vec![name.to_owned(), kind(name).to_owned(), count(sum), share(sum)])
        .collect();
    table(page, "Outcomes", &["outcome", "kind", "count", "share"], &rows);
    let rows: Vec<_> = record.latency_ns.measured().map(|(name, part)| latency_row(name, part)).collect();
    let names: Vec<_> = ["of", "count"].into_iter().chain(LATENCY_NAMES).collect();
    table(page, "Latency", &names, &rows);
    if record.steps.iter().any(|step| step.name != "purchase") {
        let rows: Vec<_> = record.steps.iter().map(step_row).collect();
        let names = ["step", "count", "ok", "refused", "unknown", "p50", "p99", "p99.9", "max"];
        table(page, "The flow to an order", &names, &rows);
    }
    page.push_str("<div class=\"two\">");
    pairs(page, "Figures", &figures(record));
    let machine: Vec<_> =
        record.machine.rows().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    pairs(page, "Machine of the generator", &machine);
    page.push_str("</div>");
    let settings = record.config.rows().into_iter().map(|(name, value)| (name.replace('_', " "), value));
    pairs(page, "Settings", &settings.collect::<Vec<_>>());
    if !record.command.is_empty() {
        let command = escape(&shell_words(&record.command));
        let _ = write!(page, "<h2>Command</h2><pre><code>stampede-loadgen {command}</code></pre>");
    }
}

fn kind(outcome: &str) -> &'static str {
    match class_of(outcome) {
        Class::Winner => "winner",
        Class::Refusal => "refusal",
        Class::Unknown => "unknown",
        Class::Unsent => "unsent",
    }
}

fn latency_row(name: &str, latency: &Latency) -> Vec<String> {
    let figures = LATENCY_NAMES.iter().map(|name| latency.named(name).map_or_else(|| "–".to_owned(), time));
    [name.to_owned(), count(latency.count)].into_iter().chain(figures).collect()
}

fn step_row(step: &StepRecord) -> Vec<String> {
    let of = |class| count(in_class(&step.outcomes, class));
    let total = count(step.outcomes.values().sum());
    let figure = |name| {
        step.latency_ns.as_ref().and_then(|part| part.named(name)).map_or_else(|| "–".to_owned(), time)
    };
    let counts = [step.name.clone(), total, of(Class::Winner), of(Class::Refusal), of(Class::Unknown)];
    counts.into_iter().chain(["p50", "p99", "p99.9", "max"].map(figure)).collect()
}

/// Everything that has no table of its own.
fn figures(record: &Record) -> Vec<(String, String)> {
    let generator = &record.generator;
    let mut rows = vec![
        ("requests sent, retries included".to_owned(), count(record.requests_sent)),
        ("tried again with the same key".to_owned(), count(record.tried_again.values().sum())),
        ("connections made again".to_owned(), count(record.reconnects)),
        ("ended after the run’s last moment".to_owned(), count(record.late)),
        ("bytes received".to_owned(), count(record.received_bytes)),
        ("CPU of the generator".to_owned(), time(generator.cpu_ns)),
        (
            "its threads were busy".to_owned(),
            format!("{:.0}\u{202f}% of the time", generator.busy_share * 100.0),
        ),
        (
            "requests per CPU second".to_owned(),
            show_rate(generator.requests_per_cpu_s).replace(' ', "\u{202f}"),
        ),
    ];
    rows.push((
        "its threads waited for a processor".to_owned(),
        format!("{:.0}\u{202f}% of the time", generator.waited_share * 100.0),
    ));
    rows.push(("its longest stall".to_owned(), time(generator.stall_ns_max)));
    let lag = generator.send_lag_ns.as_ref();
    rows.extend(lag.and_then(|lag| lag.named("p99")).map(|p99| ("send lag, p99".to_owned(), time(p99))));
    rows.extend(lag.map(|lag| ("send lag, max".to_owned(), time(lag.max))));
    rows.extend(record.orders_acked.map(|orders| ("distinct orders acked".to_owned(), count(orders))));
    let statuses =
        record.statuses.iter().map(|(status, sum)| (format!("responses with status {status}"), count(*sum)));
    rows.extend(statuses);
    rows
}

fn table(page: &mut String, title: &str, names: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(page, "<h2>{}</h2><div class=\"scroll\" tabindex=\"0\"><table><thead><tr>", escape(title));
    for name in names {
        let _ = write!(page, "<th scope=\"col\">{}</th>", escape(name));
    }
    page.push_str("</tr></thead><tbody>");
    for row in rows {
        page.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = match index {
                0 => write!(page, "<th scope=\"row\">{cell}</th>"),
                _ => write!(page, "<td>{cell}</td>"),
            };
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>\n");
}

fn pairs(page: &mut String, title: &str, rows: &[(String, String)]) {
    let _ = write!(page, "<section><h2>{}</h2><table class=\"pairs\"><tbody>", escape(title));
    for (name, value) in rows {
        let _ = write!(page, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(value));
    }
    page.push_str("</tbody></table></section>\n");
}

/// The command line, quoted where a shell needs it.
fn shell_words(command: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted = command.iter().map(|word| match word.chars().all(plain) && !word.is_empty() {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn foot(page: &mut String, record: &Record) {
    let (version, kernel, cores) = (&record.version, &record.machine.kernel, record.machine.cores);
    let words =
        format!("stampede-loadgen {version} · Linux {kernel} · {cores} cores · seed {}", record.config.seed);
    let _ = write!(page, "<footer>{}</footer>", escape(&words));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;
    use crate::record::{AssertionRecord, ViolationRecord};

    const EVIL: &str = "<script>alert('x')</script>\"onload=\"x";

    #[test]
    fn dates() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (1_795_442_709_999, "2026-11-23 14:05:09 UTC"),
            (4_107_542_399_000, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(ms), text);
        }
    }

    #[test]
    fn the_page_is_whole_and_alone() {
        let page = page(&sample());
        assert_eq!(page.matches("<figure>").count(), 5);
        assert_eq!(
            (page.matches("<svg ").count(), page.matches("role=\"img\" aria-label=").count()),
            (10, 10)
        );
        assert!(page.len() < 200_000, "{} bytes", page.len());
        for words in ["NaN", "inf,", " inf", "<script", "src=", "href=", "url(", "http://www", "@import"] {
            assert!(!page.contains(words), "`{words}` is in the page");
        }
        for words in ["✓", "Winners", "p99.9", "sold_out", "Settings", "6.18.0", "seed 7", "X-Region: eu"] {
            assert!(page.contains(words), "no `{words}` in the page");
        }
        let well_formed = |name: &str| {
            page.matches(&format!("<{name}")).count() == page.matches(&format!("</{name}>")).count()
        };
        for name in ["svg", "table", "figure", "section", "div", "ul", "dl", "footer", "text", "title"] {
            assert!(well_formed(name), "<{name}> is not closed");
        }
    }

    #[test]
    fn a_long_run_with_many_outcomes_is_still_small() {
        let mut record = sample();
        let names =
            ["won", "replayed", "sold_out", "cap_reached", "rate_limited", "not_open", "paused", "reset"];
        let mut slice = record.timeline.slices[0].clone();
        record.timeline.slices.clear();
        for index in 0..crate::engine::SLICES_MAX as u64 {
            for (place, name) in (1u64..).zip(names) {
                let count = crate::workload::mix(index * place) % 100_000;
                slice.outcomes.insert(name.to_owned(), count);
                record.outcomes.insert(name.to_owned(), 1_000_000);
            }
            record.timeline.slices.push(slice.clone());
        }
        let bytes = page(&record).len();
        assert!(bytes < 200_000, "{bytes} bytes");
    }

    #[test]
    fn what_strangers_wrote_is_only_text() {
        let mut record = sample();
        let evil = || EVIL.to_owned();
        (record.config.host, record.config.server, record.version) = (evil(), evil(), evil());
        (record.config.headers, record.command) = (vec![evil()], vec![evil(), "it's".to_owned()]);
        (record.config.request, record.gave_up, record.not_verified) =
            (Some(evil()), Some(evil()), Some(evil()));
        (record.machine.kernel, record.machine.cpu_model) = (evil(), Some(evil()));
        record.outcomes.insert(evil(), 700);
        record.statuses.insert(evil(), 1);
        record.steps[0].name = evil();
        record.timeline.slices[0].outcomes.insert(evil(), 700);
        record.assertions = vec![AssertionRecord { text: evil(), holds: false, measured: evil() }];
        if let Some(verdict) = &mut record.verdict {
            (verdict.fine, verdict.words, verdict.violations_total) = (false, evil(), 1);
            verdict.ruling = Ruling::Broken;
            verdict.violations = vec![ViolationRecord { name: evil(), text: evil() }];
        }
        let mut unverified = record.clone();
        unverified.verdict = None;
        for page in [page(&record), page(&unverified)] {
            assert!(!page.contains("<script") && !page.contains("\"onload"), "a stranger's text got through");
            assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;onload=&quot;x"));
        }
    }

    #[test]
    fn findings_have_a_sign_and_words_beside_their_colour() {
        let mut record = sample();
        record.kept_up = KeptUp::GeneratorLimit;
        if let Some(verdict) = &mut record.verdict {
            (verdict.fine, verdict.ruling, verdict.violations_total) = (false, Ruling::Broken, 21);
            let text = "oversold: order 7".to_owned();
            verdict.violations = vec![ViolationRecord { name: "oversold".to_owned(), text }; 20];
        }
        let page = page(&record);
        for words in
            ["21 promises were broken", "oversold: order 7", "and 1 more", "✕", "The generator was the limit"]
        {
            assert!(page.contains(words), "no `{words}` in the page");
        }
    }

    #[test]
    fn a_run_without_anything_still_makes_a_page() {
        let mut record = sample();
        record.latency_ns = crate::record::Latencies::default();
        (record.stock, record.verdict, record.generator.send_lag_ns) = (None, None, None);
        (record.achieved_per_s, record.elapsed_ns) = (0.0, 1);
        record.outcomes.clear();
        record.timeline.slices.clear();
        let empty = page(&record);
        assert!(!empty.contains("NaN") && !empty.contains("<figure>"));
        record.timeline.slices.push(sample().timeline.slices[4].clone());
        record.timeline.slices[0].outcomes.clear();
        let quiet = page(&record);
        assert!(!quiet.contains("NaN") && quiet.contains("<figure>"), "due, but nothing ended");
    }
}

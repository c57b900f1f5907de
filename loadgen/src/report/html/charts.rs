//! The five charts of a run: what each shows, and the words above it.
//!
//! A heading says what is to be seen, with its figures; nothing is drawn of what was not
//! measured. Next: `report/html/chart.rs` for how it is drawn.

use super::chart::{Chart, Size};
use super::scale::{Scale, short, short_ns};
use super::write::{count, time};
use crate::meaning::Class;
use crate::record::{Record, SliceLatency, SliceRecord, class_of, in_class, in_order, is_supported};
use crate::report::csv::slice_end_ms;

/// Horizontal lines in a plot, about.
const TICKS_UP: usize = 5;
/// Refusals that have a colour of their own; the rest shares one.
const REFUSALS_APART: usize = 3;
/// Least height of a band that has its name written in it.
const BAND_HEIGHT: f64 = 17.0;
/// About the width of a letter.
const LETTER_WIDTH: f64 = 7.4;

/// A chart with its heading.
pub(super) struct Figure {
    /// What is to be seen, in one line.
    pub(super) heading: String,
    /// How to read it.
    pub(super) caption: String,
    /// Class, name and count of each kind, where colours need a key.
    pub(super) key: Vec<(&'static str, String, u64)>,
    /// The drawing, wide and narrow.
    pub(super) drawings: String,
}

/// All charts for which there are figures.
pub(super) fn all(record: &Record) -> Vec<Figure> {
    if record.timeline.slices.is_empty() {
        return Vec::new();
    }
    let (rate, outcomes) = (throughput(record), outcomes(record));
    [Some(rate), latency(record), percentiles(record), Some(outcomes), stock(record)]
        .into_iter()
        .flatten()
        .collect()
}

fn drawn(summary: &str, draw: impl Fn(&mut Chart)) -> String {
    let each = Size::BOTH.iter().map(|&size| {
        let mut chart = Chart::new(size);
        draw(&mut chart);
        chart.svg(summary)
    });
    each.collect()
}

/// The time axis, drawn, and its scale over milliseconds.
fn time_axis(record: &Record, chart: &mut Chart) -> Scale {
    let last = record.timeline.slices.len() as u64 - 1;
    let end_ms = slice_end_ms(record, last).max(record.stock.as_ref().map_or(0, last_sample_ms)) as f64;
    let (per_unit, unit) = match end_ms {
        v if v >= 600_000.0 => (60_000.0, "minutes"),
        v if v >= 2_000.0 => (1_000.0, "seconds"),
        _ => (1.0, "milliseconds"),
    };
    let units = Scale::linear(end_ms / per_unit, false, chart.across(), chart.ticks_across());
    let ticks = units.ticks(chart.ticks_across());
    let ticks: Vec<_> = ticks.into_iter().map(|tick| (units.at(tick), short(tick))).collect();
    chart.x_axis(&ticks, &format!("time since the run began, in {unit}"));
    Scale::linear(end_ms, false, chart.across(), chart.ticks_across())
}

fn last_sample_ms(stock: &crate::record::Stock) -> u64 {
    stock.samples.last().map_or(0, |&(at_ms, _)| at_ms)
}

/// Begin and end of each slice in milliseconds, with what happened in it.
fn slices(record: &Record) -> impl Iterator<Item = (f64, f64, &SliceRecord)> {
    let slice_ms = record.timeline.slice_ms;
    (0u64..)
        .zip(&record.timeline.slices)
        .map(move |(index, slice)| ((index * slice_ms) as f64, slice_end_ms(record, index) as f64, slice))
}

fn per_s(count: u64, (from_ms, to_ms): (f64, f64)) -> f64 {
    count as f64 * 1e3 / (to_ms - from_ms).max(1.0)
}

fn answered(slice: &SliceRecord) -> u64 {
    in_class(&slice.outcomes, Class::Winner) + in_class(&slice.outcomes, Class::Refusal)
}

fn throughput(record: &Record) -> Figure {
    let open = record.config.target_per_s.is_some();
    let rate = count(record.achieved_per_s.round() as u64);
    let due: u64 = record.timeline.slices.iter().map(|slice| slice.due).sum();
    let due_per_s = due as f64 * 1e9 / record.elapsed_ns as f64;
    let heading = if open {
        format!("Answered {rate}/s of {}/s that were due", count(due_per_s.round() as u64))
    } else {
        format!("Answered {rate}/s, as fast as responses came")
    };
    type Pick = fn(&SliceRecord) -> u64;
    let mut lines: Vec<(&'static str, &str, Pick)> = vec![("c-answered", "answered", answered)];
    if record.class_count(Class::Winner) > 0 && record.class_count(Class::Refusal) > 0 {
        lines.push(("c-winners", "winners", |slice| in_class(&slice.outcomes, Class::Winner)));
    }
    if open {
        lines.insert(0, ("c-due", "due", |slice| slice.due));
    }
    let rates = |pick: Pick| slices(record).map(move |(from, to, slice)| per_s(pick(slice), (from, to)));
    let peak = lines.iter().flat_map(|&(_, _, pick)| rates(pick)).fold(0.0, f64::max);
    let drawings =
        drawn(&format!("{heading}. Highest rate of a slice: {}/s.", short(peak.round())), |chart| {
            let up = Scale::linear(peak, true, chart.upwards(), TICKS_UP);
            chart.y_axis(&up, &up.ticks(TICKS_UP), short);
            let along = time_axis(record, chart);
            for &(class, name, pick) in &lines {
                // After the run's last moment nothing is due, and a line at 0 would say that it fell.
                let over = |from| name == "due" && from * 1e6 >= record.elapsed_ns as f64;
                let place = |from, to, rate| (along.at(f64::midpoint(from, to)), up.at(rate));
                let points: Vec<_> = slices(record)
                    .zip(rates(pick))
                    .map(|((from, to, _), rate)| (!over(from)).then(|| place(from, to, rate)))
                    .collect();
                chart.line(class, &points);
                let end = points.iter().rev().find_map(|point| *point);
                chart.label(class, end.map_or(0.0, |(_, y)| y), name);
            }
        });
    let caption = if open {
        "Requests per second. Where “answered” runs below “due”, the server (or the generator) fell behind."
    } else {
        "Requests per second. In a closed loop a slower server simply gets fewer requests."
    };
    Figure { heading, caption: caption.to_owned(), key: Vec::new(), drawings }
}

/// Name, class and value of a line of latency over time.
type LatencyLine = (&'static str, &'static str, fn(&SliceLatency) -> u64);

/// All of them, the lowest drawn last, over the others.
const LATENCY_LINES: [LatencyLine; 4] = [
    ("max", "c-max", |latency| latency.max),
    ("p99.9", "c-p999", |latency| latency.p999),
    ("p99", "c-p99", |latency| latency.p99),
    ("p50", "c-p50", |latency| latency.p50),
];

fn latency(record: &Record) -> Option<Figure> {
    let all = record.latency_ns.all.as_ref()?;
    let measured = || slices(record).filter_map(|(from, _, slice)| Some((from, slice.latency_ns.as_ref()?)));
    let low = measured().map(|(_, latency)| latency.p50).min()?;
    let (worst_ms, worst) = measured().max_by_key(|(_, latency)| latency.max)?;
    let high = measured().map(|(_, latency)| latency.max).max()?;
    let most = all.named("p99").map_or_else(
        || format!("all within {}", time(all.max)),
        |p99| format!("99\u{202f}% within {}", time(p99)),
    );
    let heading = format!(
        "Half within {}, {most}; the slowest response came {} in, after {}",
        time(all.p50),
        time((worst_ms * 1e6) as u64),
        time(worst.max)
    );
    let drawings = drawn(&format!("Latency over time. {heading}."), |chart| {
        let up = Scale::log(low as f64, high as f64, chart.upwards());
        chart.y_axis(&up, &up.ticks(8), short_ns);
        let along = time_axis(record, chart);
        for (name, class, value) in LATENCY_LINES {
            let points: Vec<_> = slices(record)
                .map(|(from, to, slice)| {
                    let ended = slice.outcomes.values().sum();
                    let latency = slice.latency_ns.as_ref().filter(|_| is_supported(name, ended))?;
                    Some((along.at(f64::midpoint(from, to)), up.at(value(latency) as f64)))
                })
                .collect();
            chart.line(class, &points);
            let end = points.iter().rev().find_map(|point| *point);
            chart.label(class, end.map_or(0.0, |(_, y)| y), name);
        }
    });
    let caption = "Latency of what ended in each slice, all outcomes together; the axis is logarithmic.";
    Some(Figure { heading, caption: caption.to_owned(), key: Vec::new(), drawings })
}

fn percentiles(record: &Record) -> Option<Figure> {
    let all = record.latency_ns.all.as_ref()?;
    let apart = [
        ("all", "c-all", record.latency_ns.all.as_ref()),
        ("winners", "c-winners", record.latency_ns.winners.as_ref()),
        ("refusals", "c-refusals", record.latency_ns.refusals.as_ref()),
    ];
    let lines: Vec<_> =
        apart.into_iter().filter_map(|(name, class, part)| Some((name, class, part?))).collect();
    // With one class alone its line is that of all.
    let lines = if lines.len() == 2 { &lines[..1] } else { &lines[..] };
    let (low, high) =
        (lines.iter().map(|line| line.2.p50).min()?, lines.iter().map(|line| line.2.max).max()?);
    let low = lines.iter().filter_map(|line| line.2.curve.first()).map(|point| point.1).min().unwrap_or(low);
    let right = lines.iter().map(|line| line.2.count).max()?.clamp(10, 1_000_000) as f64;
    let heading = match (all.count, all.named("p99")) {
        (10_000.., _) => format!("One in a thousand took {} or longer", time(all.p999)),
        (_, Some(p99)) => format!("One in a hundred took {} or longer", time(p99)),
        (_, None) => format!("The longest took {}", time(all.max)),
    };
    let drawings = drawn(&format!("Latency by percentile. {heading}."), |chart| {
        let up = Scale::log(low as f64, high as f64, chart.upwards());
        chart.y_axis(&up, &up.ticks(8), short_ns);
        let along = Scale::log_exact(1.0, right, chart.across());
        let tens: Vec<_> = (0..=6).map(|power| 10f64.powi(power)).filter(|&ten| ten <= right).collect();
        // Where there is no room for all, 99 % and 99.99 % go.
        let crowded = tens.len() > chart.ticks_across() + 1;
        let ticks =
            tens.into_iter().filter(|ten| !crowded || ten.log10().round() as i32 % 2 == 1 || *ten == 1.0);
        let ticks: Vec<_> = ticks.map(|ten| (along.at(ten), percent(ten))).collect();
        chart.x_axis(&ticks, "share of requests that took at most this long");
        for (name, class, part) in lines {
            let curve = part.curve.iter().map(|&(quantile, ns)| (1.0 / (1.0 - quantile), ns));
            let ends = curve.chain([(part.count as f64, part.max)]);
            let points: Vec<_> = ends.map(|(left, ns)| Some((along.at(left), up.at(ns as f64)))).collect();
            chart.line(class, &points);
            chart.label(class, up.at(part.max as f64), name);
        }
    });
    let caption = "The axis stretches the tail: each step to the right is ten times rarer. Both axes are \
                   logarithmic; a line that stays flat is a server without surprises.";
    Some(Figure { heading, caption: caption.to_owned(), key: Vec::new(), drawings })
}

/// 1 → `0 %`, 10 → `90 %`, 1000 → `99.9 %`.
fn percent(one_in: f64) -> String {
    let decimals = (one_in.log10().round() as usize).saturating_sub(2);
    format!("{:.decimals$}\u{202f}%", (1.0 - 1.0 / one_in) * 100.0)
}

/// A kind of outcome with its colour: which names it holds.
struct Band {
    class: &'static str,
    name: String,
    members: Vec<String>,
}

/// Winners below, then each refusal that is frequent, the other refusals, what got no response, what never left.
fn bands(record: &Record) -> Vec<Band> {
    let of = |class| -> Vec<(&str, u64)> {
        in_order(&record.outcomes).into_iter().filter(|(name, _)| class_of(name) == class).collect()
    };
    let mut bands = Vec::new();
    let mut add = |class, name: &str, members: &[(&str, u64)]| {
        if !members.is_empty() {
            let members = members.iter().map(|&(name, _)| name.to_owned()).collect();
            bands.push(Band { class, name: name.to_owned(), members });
        }
    };
    let winners = of(Class::Winner);
    let raw = winners.iter().all(|&(name, _)| name == "ok");
    add("k-winners", if raw { "ok" } else { "winners" }, &winners);
    let mut refusals = of(Class::Refusal);
    refusals.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let apart = refusals.len().min(REFUSALS_APART);
    for (index, refusal) in refusals[..apart].iter().enumerate() {
        let class = ["k-refusal1", "k-refusal2", "k-refusal3"][index];
        add(class, &refusal.0.replace('_', " "), std::slice::from_ref(refusal));
    }
    add("k-rest", "other refusals", &refusals[apart..]);
    add("k-unknown", "no clear response", &of(Class::Unknown));
    add("k-unsent", "never sent", &of(Class::Unsent));
    bands
}

fn outcomes(record: &Record) -> Figure {
    let bands = bands(record);
    let of = |band: &Band, slice: &SliceRecord| -> u64 {
        band.members.iter().filter_map(|name| slice.outcomes.get(name)).sum()
    };
    let sum = |band: &Band| band.members.iter().map(|name| record.count(name)).sum();
    let key: Vec<(_, _, u64)> = bands.iter().map(|band| (band.class, band.name.clone(), sum(band))).collect();
    // What never left is counted when the run ends, all at once: no rate, so it is told and not drawn.
    let drawn_bands: Vec<&Band> = bands.iter().filter(|band| band.class != "k-unsent").collect();
    let total = |slice: &SliceRecord| drawn_bands.iter().map(|band| of(band, slice)).sum::<u64>();
    let peak = slices(record).map(|(from, to, slice)| per_s(total(slice), (from, to))).fold(0.0, f64::max);
    let words: Vec<_> = key.iter().map(|(_, name, sum)| format!("{} {name}", count(*sum))).collect();
    let heading = format!("What came of it: {}", words.join(", "));
    let drawings = drawn(&format!("Outcomes over time, stacked. {heading}."), |chart| {
        let up = Scale::linear(peak, true, chart.upwards(), TICKS_UP);
        chart.y_axis(&up, &up.ticks(TICKS_UP), short);
        let along = time_axis(record, chart);
        let mut below = vec![0.0; record.timeline.slices.len()];
        let places: Vec<_> = slices(record).map(|(from, to, _)| (along.at(from), along.at(to))).collect();
        let steps = |heights: &[f64]| -> Vec<(f64, f64)> {
            let each = places.iter().zip(heights);
            each.flat_map(|(&(from, to), &rate)| [(from, up.at(rate)), (to, up.at(rate))]).collect()
        };
        for band in &drawn_bands {
            let rates = slices(record).map(|(from, to, slice)| per_s(of(band, slice), (from, to)));
            let above: Vec<f64> = below.iter().zip(rates).map(|(base, rate)| base + rate).collect();
            let (over, under) = (steps(&above), steps(&below));
            chart.area(band.class, &over, &under);
            if let Some(place) = roomy_place(&over, &under, (band.name.len() + 3) as f64 * LETTER_WIDTH) {
                let on = if band.class == "k-winners" { "in-band on-winners" } else { "in-band" };
                chart.note(on, place, &band.name);
            }
            below = above;
        }
    });
    let unsent = if drawn_bands.len() < bands.len() { " What never left is not drawn." } else { "" };
    let caption = format!("Ends per second, stacked; “sold out” is a plain response, not an error.{unsent}");
    Figure { heading, caption, key, drawings }
}

/// Where a band is high enough over the width of its name: the middle of the highest such stretch.
fn roomy_place(over: &[(f64, f64)], under: &[(f64, f64)], width: f64) -> Option<(f64, f64)> {
    let mut best: Option<(f64, (f64, f64))> = None;
    for begin in (0..over.len()).step_by(2) {
        let (left, mut top, mut bottom) = (over[begin].0, f64::MIN, f64::MAX);
        for (upper, lower) in over[begin..].iter().zip(&under[begin..]) {
            (top, bottom) = (top.max(upper.1), bottom.min(lower.1));
            if bottom - top < BAND_HEIGHT {
                break;
            }
            if upper.0 - left >= width {
                let place = (f64::midpoint(left, upper.0), f64::midpoint(top, bottom) + 4.0);
                if best.is_none_or(|(height, _)| bottom - top > height) {
                    best = Some((bottom - top, place));
                }
                break;
            }
        }
    }
    best.map(|(_, place)| place)
}

fn stock(record: &Record) -> Option<Figure> {
    match &record.stock {
        Some(stock) if stock.samples.len() > 1 => Some(stock_sampled(record, &stock.samples)),
        _ if record.count("won") > 0 => Some(stock_by_winners(record)),
        _ => None,
    }
}

fn stock_sampled(record: &Record, samples: &[(u64, i64)]) -> Figure {
    let (first, last) = (samples[0].1, samples[samples.len() - 1].1);
    let gone_ms = samples.iter().find(|&&(_, left)| left <= 0).map(|&(at_ms, _)| at_ms);
    let back = |gone_ms| samples.iter().any(|&(at_ms, left)| at_ms > gone_ms && left > 0);
    let later = if gone_ms.is_some_and(back) { "; later units came back" } else { "" };
    let heading = match gone_ms {
        Some(at_ms) => {
            format!("The stock of {} was gone after {}{later}", units(first), time(at_ms * 1_000_000))
        }
        None => format!("The stock went from {} to {}", units(first), units(last)),
    };
    let points: Vec<_> = samples.iter().map(|&(at_ms, left)| (at_ms as f64, left.max(0) as f64)).collect();
    let drawings = fall(record, &points, &heading, gone_ms, &format!("{} left", units(last)));
    let caption = "Units available in the merchant API, sampled four times a second, all items together.";
    Figure { heading, caption: caption.to_owned(), key: Vec::new(), drawings }
}

fn units(count_or_less: i64) -> String {
    count(u64::try_from(count_or_less).unwrap_or(0))
}

fn stock_by_winners(record: &Record) -> Figure {
    let mut sum = 0;
    let won = |slice: &SliceRecord| slice.outcomes.get("won").copied().unwrap_or(0);
    let rise = slices(record).map(|(_, to, slice)| {
        sum += won(slice);
        (to, sum as f64)
    });
    let points: Vec<_> = std::iter::once((0.0, 0.0)).chain(rise).collect();
    let heading = format!("{} purchases won, one after the other", count(record.count("won")));
    let drawings = fall(record, &points, &heading, None, &format!("{} won", count(record.count("won"))));
    let caption = "Winners so far. The stock itself was not sampled: give --admin to see it fall.";
    Figure { heading, caption: caption.to_owned(), key: Vec::new(), drawings }
}

fn fall(record: &Record, points: &[(f64, f64)], heading: &str, gone_ms: Option<u64>, end: &str) -> String {
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
    drawn(&format!("Stock over time. {heading}."), |chart| {
        let up = Scale::linear(most, true, chart.upwards(), TICKS_UP);
        chart.y_axis(&up, &up.ticks(TICKS_UP), short);
        let along = time_axis(record, chart);
        let line: Vec<_> = points.iter().map(|&(at, left)| (along.at(at), up.at(left))).collect();
        let base: Vec<_> = line.iter().map(|&(x, _)| (x, up.at(0.0))).collect();
        chart.area("k-stock", &line, &base);
        chart.line("c-stock", &line.iter().copied().map(Some).collect::<Vec<_>>());
        if let Some(at_ms) = gone_ms {
            let x = along.at(at_ms as f64);
            chart.mark(x);
            chart.note("", (x, chart.upwards().1 + 12.0), "sold out");
        }
        chart.label("c-stock", line.last().map_or(0.0, |point| point.1), end);
    })
}

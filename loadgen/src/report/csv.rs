//! The timeline as a table for spreadsheets: one row per slice, units in the header.
//!
//! Next: [`crate::record::TimelineRecord`].

use std::io::{self, Write};

use crate::meaning::Class;
use crate::record::{Record, TimelineRecord, in_class, in_order, is_supported};

/// Writes it: RFC 4180, times in milliseconds and microseconds. Every outcome of the run has a
/// column; a latency that was not measured, or that too few responses support, is an empty field.
///
/// # Errors
/// What the writer says.
pub fn write(record: &Record, out: &mut impl Write) -> io::Result<()> {
    let names: Vec<_> = in_order(&record.outcomes).into_iter().map(|(name, _)| name).collect();
    write!(out, "from_ms,to_ms,due_per_s,answered_per_s,due,winners,refusals,unknown,unsent")?;
    names.iter().try_for_each(|name| write!(out, ",{name}"))?;
    write!(out, ",p50_us,p99_us,p99.9_us,max_us\r\n")?;
    let slice_ms = record.timeline.slice_ms;
    for (index, slice) in (0u64..).zip(&record.timeline.slices) {
        let of = |class| in_class(&slice.outcomes, class);
        let (winners, refusals) = (of(Class::Winner), of(Class::Refusal));
        let (unknown, unsent) = (of(Class::Unknown), of(Class::Unsent));
        let (from_ms, to_ms) = (index * slice_ms, slice_end_ms(record, index));
        let per_s = |count: u64| count as f64 * 1e3 / (to_ms - from_ms) as f64;
        write!(out, "{from_ms},{to_ms},{:.1},{:.1}", per_s(slice.due), per_s(winners + refusals))?;
        write!(out, ",{},{winners},{refusals},{unknown},{unsent}", slice.due)?;
        for name in &names {
            write!(out, ",{}", slice.outcomes.get(*name).unwrap_or(&0))?;
        }
        match slice.latency_ns {
            Some(latency) => {
                let ended: u64 = slice.outcomes.values().sum();
                let figures = [
                    ("p50", latency.p50),
                    ("p99", latency.p99),
                    ("p99.9", latency.p999),
                    ("max", latency.max),
                ];
                for (name, ns) in figures {
                    match is_supported(name, ended) {
                        true => write!(out, ",{:.3}", ns as f64 / 1e3)?,
                        false => write!(out, ",")?,
                    }
                }
            }
            None => write!(out, ",,,,")?,
        }
        out.write_all(b"\r\n")?;
    }
    Ok(())
}

/// When a slice ends: the last one with the run, if responses did not come later than that.
pub(super) fn slice_end_ms(record: &Record, index: u64) -> u64 {
    let TimelineRecord { slice_ms, slices } = &record.timeline;
    let (begin_ms, end_ms) = (index * slice_ms, (index + 1) * slice_ms);
    let over_ms = record.elapsed_ns.div_ceil(1_000_000);
    // A sliver of a slice would make a rate out of chance.
    let is_last = index + 1 == slices.len() as u64;
    if is_last && over_ms > begin_ms + slice_ms / 4 { end_ms.min(over_ms) } else { end_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    #[test]
    fn a_row_per_slice_and_a_field_per_column() {
        let (record, mut out) = (sample(), Vec::new());
        write(&record, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows: Vec<Vec<&str>> =
            text.split_terminator("\r\n").map(|row| row.split(',').collect()).collect();
        assert_eq!(rows.len(), 11);
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        let column = |name: &str| rows[0].iter().position(|&head| head == name).unwrap();
        let sum =
            |name: &str| rows[1..].iter().map(|row| row[column(name)].parse::<u64>().unwrap()).sum::<u64>();
        assert_eq!((sum("won"), sum("winners"), sum("sold_out"), sum("due")), (900, 900, 80, 1_000));
        assert_eq!((rows[1][column("p50_us")], rows[5][column("p50_us")]), ("400.000", ""));
        assert_eq!((rows[1][column("due_per_s")], rows[10][column("to_ms")]), ("1000.0", "1000"));
    }

    #[test]
    fn the_last_slice_is_as_long_as_the_run() {
        let mut record = sample();
        record.elapsed_ns = 950_000_000;
        assert_eq!((slice_end_ms(&record, 8), slice_end_ms(&record, 9)), (900, 950));
        record.elapsed_ns = 901_000_000;
        assert_eq!(slice_end_ms(&record, 9), 1_000, "a sliver would show a peak that was none");
    }
}

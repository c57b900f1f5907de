//! The HDR interval log, which HdrHistogram's own viewers and tools read.
//!
//! One interval per slice without a tag, so that tools that know no tags see the run once;
//! the classes of ends follow as one tagged interval each over the whole run. Values are
//! nanoseconds; the maxima, which are for human eyes, milliseconds. The format is that of
//! Gil Tene's `HistogramLogWriter`, version 1.3, histograms V2 compressed. Next:
//! [`crate::engine::Timeline`].

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriter, IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

use crate::engine::Outcome;
use crate::meaning::Class;

/// Turns nanoseconds into milliseconds.
const NS_PER_MS: f64 = 1e6;

/// Writes the log of a run.
///
/// # Errors
/// What the writer says.
pub fn write(outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let (timeline, mut serializer) = (&outcome.tally.timeline, V2DeflateSerializer::new());
    let begin = UNIX_EPOCH + Duration::from_millis(outcome.began_at_ms);
    let slice = Duration::from_nanos(timeline.slice_ns());
    writeln!(out, "#[Histogram log format version 1.3]")?;
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Latencies of stampede-loadgen in nanoseconds; Interval_Max in milliseconds]")
        .with_start_time(begin)
        .with_base_time(begin)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(out, &mut serializer)?;
    let tally = &outcome.tally;
    let whole = Duration::from_nanos(tally.elapsed_ns());
    let classes = [
        ("winners", Class::Winner),
        ("refusals", Class::Refusal),
        ("unknown", Class::Unknown),
        ("unsent", Class::Unsent),
    ];
    // First, because intervals are sorted by their beginning.
    for (name, class) in classes {
        append(&mut log, tally.latency(class), Duration::ZERO, whole, Tag::new(name))?;
    }
    for (index, part) in (0u32..).zip(timeline.slices()) {
        append(&mut log, &part.latency, slice * index, slice, None)?;
    }
    Ok(())
}

fn append<W: Write>(
    log: &mut IntervalLogWriter<'_, '_, W, V2DeflateSerializer>,
    histogram: &Histogram<u64>,
    begin: Duration,
    length: Duration,
    tag: Option<Tag<'_>>,
) -> io::Result<()> {
    if tag.is_some() && histogram.is_empty() {
        return Ok(());
    }
    log.write_histogram(histogram, begin, length, tag).map_err(|error| match error {
        IntervalLogWriterError::IoError(error) => error,
        IntervalLogWriterError::SerializeError(error) => io::Error::other(error.to_string()),
    })
}

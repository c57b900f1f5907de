//! `stampede log inspect`: the files of a log as lines of text.
//!
//! It trusts no byte and does not stop at damage: what cannot be read is printed as such.
//! It takes no lock and writes nothing. Next: [`super::verify`], which checks a log.

use std::io::{self, Write};
use std::path::Path;

use stampede_core::fact::Fact;

use super::block::{BlockHeader, FORMAT_VERSION, Records};
use super::control::{Control, read_control};
use super::segment::{SegmentReader, list_segments};
use super::snapshot::{list_snapshots, read_snapshot};
use crate::codec;
use crate::disk::real::RealDisk;
use crate::disk::{Disk, SECTOR_BYTES};

/// Prints control file, snapshots, segments and blocks of a data directory, and each record
/// if `records` is set.
///
/// # Errors
/// What the file system or `out` answers; damage is printed, not an error.
pub fn inspect(dir: &Path, records: bool, out: &mut dyn Write) -> io::Result<()> {
    inspect_on(&RealDisk, dir, records, out)
}

/// As [`inspect`], on any disk.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_on(disk: &dyn Disk, dir: &Path, records: bool, out: &mut dyn Write) -> io::Result<()> {
    let control = match read_control(disk, dir) {
        Ok(Some(control)) => control,
        Ok(None) => return writeln!(out, "{}: no control file, so there is no log", dir.display()),
        Err(error) => return writeln!(out, "{error}"),
    };
    print_control(&control, out)?;
    print_snapshots(disk, dir, &control, out)?;
    for number in list_segments(disk, dir)? {
        print_segment(disk, dir, number, &control, records, out)?;
    }
    Ok(())
}

fn print_control(control: &Control, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "log {} format {FORMAT_VERSION} epoch {}", control.log_id, control.epoch)?;
    writeln!(
        out,
        "control generation {} durable LSN {} (or later) begins at LSN {} in segment {} last segment {} \
         snapshot LSN {} segment bytes {} {}",
        control.generation,
        control.durable_lsn,
        control.first_lsn,
        control.first_segment,
        control.last_segment,
        control.snapshot_lsn,
        control.segment_bytes,
        if control.clean { "shut down in order" } else { "running or crashed" }
    )
}

fn print_snapshots(disk: &dyn Disk, dir: &Path, control: &Control, out: &mut dyn Write) -> io::Result<()> {
    for lsn in list_snapshots(disk, dir)? {
        let mut rows = 0_u64;
        let read = read_snapshot(disk, dir, lsn, control.log_id, &mut |_| {
            rows += 1;
            Ok(())
        });
        match read {
            Ok(header) => writeln!(out, "snapshot LSN {lsn} rows {rows} last time {}", header.last_ms.0)?,
            Err(error) => writeln!(out, "snapshot LSN {lsn}: {error}")?,
        }
    }
    Ok(())
}

fn print_segment(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    control: &Control,
    records: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut reader = SegmentReader::open(disk, dir, number)?;
    let (mut offset, mut blocks) = (0, 0_u64);
    writeln!(out, "segment {number} {} bytes", reader.size())?;
    while offset < reader.size() {
        match reader.block_at(offset, control.log_id)? {
            Ok((header, block)) => {
                print_block(offset, &header, out)?;
                if records {
                    print_records(&header, block, out)?;
                }
                offset += header.block_len() as u64;
                blocks += 1;
            }
            Err(error) => {
                let rest = reader.size() - offset;
                writeln!(out, "  {offset:>10} {error}; {rest} bytes of the segment follow")?;
                break;
            }
        }
    }
    let free = (reader.size() - offset) / SECTOR_BYTES as u64;
    writeln!(out, "segment {number} blocks {blocks} free sectors {free}")
}

fn print_block(offset: u64, header: &BlockHeader, out: &mut dyn Write) -> io::Result<()> {
    let previous = &header.prev_hash[..4];
    writeln!(
        out,
        "  {offset:>10} block LSN {}..={} epoch {} bytes {} durable before {} follows {:02x}{:02x}{:02x}{:02x}…",
        header.first_lsn,
        header.last_lsn(),
        header.epoch,
        header.block_len(),
        header.durable_lsn,
        previous[0],
        previous[1],
        previous[2],
        previous[3]
    )
}

fn print_records(header: &BlockHeader, block: &[u8], out: &mut dyn Write) -> io::Result<()> {
    for record in Records::new(header, block) {
        match record {
            Ok(record) => match codec::decode(record.kind, record.payload) {
                Ok(fact) => writeln!(out, "             {} {}", record.lsn, describe(&fact))?,
                Err(error) => writeln!(out, "             {} {error}", record.lsn)?,
            },
            Err(error) => writeln!(out, "             {error}")?,
        }
    }
    Ok(())
}

/// A fact as one line: its kind, its time, and its content.
pub fn describe(fact: &Fact<'_>) -> String {
    let about = match *fact {
        Fact::ItemCreated { item, granted, ref spec, actor, .. } => {
            format!("item {item} granted {granted} name {:?} by {actor}", spec.name)
        }
        Fact::ItemChanged { item, ref spec, actor, .. } => {
            format!("item {item} name {:?} by {actor}", spec.name)
        }
        Fact::StockAdjusted { item, delta, actor, .. } => format!("item {item} by {delta} by {actor}"),
        Fact::ItemSwitched { item, switch, actor, .. } => format!("item {item} {} by {actor}", switch.name()),
        Fact::OrderPlaced { order, quantity, state, subject, key, price, .. } => format!(
            "order {order} quantity {} {} buyer {} key {} price {} {}",
            quantity.get(),
            state.name(),
            subject.escape_ascii(),
            key.escape_ascii(),
            price.minor,
            price.currency()
        ),
        Fact::OrderMoved { order, quantity, from, to, actor, payment_ref, .. } => format!(
            "order {order} quantity {} {} -> {} by {actor} ref {}",
            quantity.get(),
            from.name(),
            to.name(),
            payment_ref.escape_ascii()
        ),
        Fact::OrderRefunded { order, units, refunded, quantity, refund_ref, actor, .. } => format!(
            "order {order} units {} of {}, {} in all, by {actor} ref {}",
            units.get(),
            quantity.get(),
            refunded.get(),
            refund_ref.escape_ascii()
        ),
        Fact::PaymentLate { order, payment_ref, actor, .. } => {
            format!("order {order} by {actor} ref {}", payment_ref.escape_ascii())
        }
        Fact::LatePaymentReturned { order, payment_ref, refund_ref, actor, .. } => format!(
            "order {order} payment {} by {actor} ref {}",
            payment_ref.escape_ascii(),
            refund_ref.escape_ascii()
        ),
        Fact::HoldExtended { order, pay_by_ms, actor, .. } => {
            format!("order {order} to {} by {actor}", pay_by_ms.0)
        }
        Fact::DrawHeld { item, entries, units, .. } => {
            format!("item {item} entries {entries} units {units}")
        }
        Fact::EntryDrawn { order, quantity, to, .. } => {
            format!("order {order} quantity {} -> {}", quantity.get(), to.name())
        }
        Fact::BuyerBlocked { subject, blocked, actor, .. } => {
            format!(
                "buyer {} {} by {actor}",
                subject.escape_ascii(),
                if blocked { "blocked" } else { "unblocked" }
            )
        }
        Fact::OrderImported { order, quantity, state, subject, .. } => format!(
            "order {order} quantity {} {} buyer {}",
            quantity.get(),
            state.name(),
            subject.escape_ascii()
        ),
        Fact::ClockMark { .. } => String::new(),
    };
    format!("{} at {} {about}", fact.kind_name(), fact.at_ms().0).trim_end().to_owned()
}

//! The log that is damaged in every way: 30 records over two segments, and the judge
//! of what comes of it.
//!
//! ```text
//! segment 1   [1] [2 … 12: two sectors] [13] [14] [15] [16] [17]      full
//! segment 2   [18 19] [20 … 30: two sectors]                          five sectors empty
//! ```
//!
//! Each bracket is a group. All of it was acked. The judge knows nothing of the rules
//! of recovery: it takes the whole log, or a refusal that names the file and changes
//! nothing, or, only where the files are exactly what a power cut before the ack could
//! have left, a cut there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stampede_core::draw::{DrawRow, DrawSeed};
use stampede_core::fact::Fact;
use stampede_core::item::{ItemSpec, OrderState};
use stampede_core::shard::{Accepted, FactSink as _};
use stampede_core::state_row::StateRow;
use stampede_core::types::{Lsn, OrderId, Quantity, UnixMillis};
use stampede_persist::log::block::peek_header;
use stampede_persist::log::control::read_control;
use stampede_persist::log::dir::{DataDir, LogOptions, NewLog, Opened, Stepped};
use stampede_persist::log::identity::LogId;
use stampede_persist::log::journal::Step;
use stampede_persist::log::layout;
use stampede_persist::log::rebuild::Rebuild;

use super::damage_disk::{Image, PlateDisk};
use super::log_sale::{DIR, item, new_log, small, spec};

pub(crate) const SECTOR: usize = 4096;
/// The smallest unit that a disk writes whole.
pub(crate) const UNIT: usize = 512;
/// The groups of the log, by their last LSN.
const GROUPS: [u64; 9] = [1, 12, 13, 14, 15, 16, 17, 19, 30];
/// The last LSN of the first segment.
pub(crate) const FIRST_SEGMENT_LSN: u64 = 17;
pub(crate) const RECORDS: u64 = 30;

pub(crate) fn options() -> LogOptions {
    LogOptions { queue_slots: 16, queue_reserve: 1, ..small() }
}

/// Hands out the fact of an LSN; `branch` makes another history of the same shape.
pub(crate) fn with_fact<R>(lsn: u64, branch: u8, visit: impl FnOnce(&Fact<'_>) -> R) -> R {
    let at_ms = UnixMillis(1000 + lsn);
    let (seed, actor) = (DrawSeed([7; 32]), "m".repeat(64));
    let name = format!("{branch}{}", "n".repeat(199));
    let spec = ItemSpec { draw_ms: 60_000, ..spec(&name) };
    match lsn {
        1 => visit(&Fact::ItemCreated { at_ms, item: item(), spec, granted: 1000, seed, actor: &actor }),
        2..=12 | 21.. => visit(&Fact::ItemChanged { at_ms, item: item(), spec, seed, actor: &actor }),
        _ => visit(&Fact::OrderPlaced {
            at_ms,
            order: OrderId::new(item(), orders_up_to(lsn)),
            quantity: Quantity::ONE,
            state: OrderState::Entered,
            pay_by_ms: UnixMillis(0),
            subject: format!("buyer-{branch}-{lsn}-{}", "x".repeat(40)).as_bytes(),
            key: &[b'k'; 64],
            price: stampede_core::money::Price::UNKNOWN,
        }),
    }
}

fn orders_up_to(lsn: u64) -> u32 {
    (lsn.clamp(12, 20) - 12) as u32
}

/// The state: how far it knows the log, and whether some fact is not the one that was written.
/// It refuses nothing, so that whatever is refused was seen by the log itself.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) lsn: u64,
    rows: u32,
    wrong: Option<String>,
}

impl Rebuild for Seen {
    fn row(&mut self, row: &StateRow<'_>) -> Result<(), String> {
        match *row {
            StateRow::Item { lsn, .. } => self.lsn = lsn.0,
            StateRow::Order { order, .. } => {
                self.rows += 1;
                if order != OrderId::new(item(), self.rows) {
                    self.wrong = Some(format!("a row of order {order} as number {}", self.rows));
                }
            }
            _ => return Err("no such row in this sale".to_owned()),
        }
        Ok(())
    }
    fn fact(&mut self, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String> {
        self.lsn += 1;
        if lsn.0 != self.lsn || !with_fact(lsn.0, 0, |expected| expected == fact) {
            self.wrong = Some(format!("{} at LSN {lsn} is not what was written", fact.kind_name()));
        }
        Ok(())
    }
    fn rows(&self, visit: &mut dyn FnMut(StateRow<'_>)) {
        let spec = ItemSpec { draw_ms: 60_000, ..spec("n") };
        visit(StateRow::Item {
            item: item(),
            spec,
            granted: 1000,
            flags: 0,
            epoch: 0,
            draw: Some(DrawRow { seed: DrawSeed([7; 32]), drawn: None }),
            version: 1,
            last_seq: orders_up_to(self.lsn),
            lsn: Lsn(self.lsn),
        });
        for seq in 1..=orders_up_to(self.lsn) {
            let lsn = Lsn(u64::from(seq) + 12);
            visit(StateRow::Order {
                order: OrderId::new(item(), seq),
                quantity: Quantity::ONE,
                state: OrderState::Entered,
                created_at_ms: UnixMillis(1000 + lsn.0),
                pay_by_ms: UnixMillis(0),
                lsn,
                state_lsn: lsn,
                key_hash: 0,
                payment_ref_hash: 0,
                entry: true,
                drawn: false,
                subject: b"somebody",
                key: b"",
                price: stampede_core::money::Price::UNKNOWN,
                refunded: 0,
            });
        }
    }
}

/// What is done between the groups.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plan {
    /// Ended in order: the control file knows everything.
    pub(crate) clean: bool,
    /// The control file learns of everything but the last group; otherwise of the first segment only.
    pub(crate) settled: bool,
    /// A snapshot of the first segment.
    pub(crate) snapshot: bool,
    /// A second snapshot, and the first segment trimmed.
    pub(crate) trimmed: bool,
    /// Another history of the same log from its second life on.
    pub(crate) branch: u8,
    /// Another log.
    pub(crate) other_log: bool,
}

/// A log and how it came to be: the files after each group, the last one being the log itself.
pub(crate) struct Written {
    pub(crate) history: Vec<Image>,
}

impl Written {
    pub(crate) fn image(&self) -> &Image {
        self.history.last().unwrap()
    }
}

pub(crate) fn segment(number: u64) -> PathBuf {
    layout::segment_file(Path::new(DIR), number)
}

pub(crate) fn control() -> PathBuf {
    Path::new(DIR).join("control")
}

/// Opens and recovers an image.
pub(crate) fn open(disk: &PlateDisk) -> Result<(Seen, Opened), String> {
    open_as(disk, false)
}

fn open_as(disk: &PlateDisk, other_log: bool) -> Result<(Seen, Opened), String> {
    let log_id = LogId(*b"some other log!!");
    let new_log = if other_log { NewLog { log_id, ..new_log() } } else { new_log() };
    let mut seen = Seen::default();
    let data = DataDir::open_on(Arc::new(disk.clone()), Path::new(DIR), &options(), &new_log);
    let opened = data.and_then(|data| data.recover(&mut seen)).map_err(|error| error.to_string())?;
    assert_eq!(opened.next_lsn(), Lsn(seen.lsn + 1), "the state has seen the whole log");
    Ok((seen, opened))
}

fn start(disk: &PlateDisk, plan: &Plan) -> Stepped {
    open_as(disk, plan.other_log).unwrap().1.start_stepped(Vec::new()).unwrap()
}

/// Writes the log. The third group begins its second life.
pub(crate) fn write(plan: &Plan) -> Written {
    let disk = PlateDisk::new(Image::new());
    let (mut log, mut next, mut history) = (start(&disk, plan), 1, Vec::new());
    for last in GROUPS {
        if next == 13 {
            drop(log);
            log = start(&disk, plan);
        }
        let branch = if next > 12 { plan.branch } else { 0 };
        while next <= last {
            with_fact(next, branch, |fact| log.queue.producer().append(Accepted::forged(fact)));
            next += 1;
        }
        let mut step = log.journal.step();
        if step == Step::NeedsSegment {
            assert!(log.maintenance.prepare_spare().unwrap());
            step = log.journal.step();
        }
        assert!(matches!(step, Step::Wrote { .. }), "one group: {step:?}");
        assert_eq!(log.status.durable_lsn(), Lsn(last));
        if last == FIRST_SEGMENT_LSN && (plan.snapshot || plan.trimmed) {
            log.maintenance.snapshot(&mut Seen::default()).unwrap();
        }
        if last == 19 && plan.trimmed {
            log.maintenance.snapshot(&mut Seen::default()).unwrap();
            assert_eq!(log.maintenance.trim().unwrap(), 1);
        }
        if last == 19 && plan.settled {
            log.journal.write_control(false);
        }
        history.push(disk.image());
    }
    if plan.clean {
        log.journal.write_control(true);
        history.push(disk.image());
    }
    Written { history }
}

/// Where a group stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) segment: u64,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) first: u64,
}

/// The groups of a log, found by their headers.
pub(crate) fn groups(image: &Image) -> Vec<Group> {
    let mut groups = Vec::new();
    for number in [1, 2] {
        let Some(bytes) = image.get(&segment(number)) else { continue };
        let mut offset = 0;
        while let Some(Ok(header)) = bytes.get(offset..).map(peek_header) {
            let len = header.block_len();
            groups.push(Group { segment: number, offset, len, first: header.first_lsn.0 });
            offset += len;
        }
    }
    groups
}

/// How an opening ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// With everything that was acked.
    Whole,
    /// Refused, and nothing changed.
    Refused,
    /// Cut where the files are what an unfinished write could have left.
    Cut,
}

/// Opens a damaged image and judges what comes of it. `intact` is the same log undamaged.
///
/// # Panics
/// When an acked fact is lost that need not be, when a refusal names no file or changed one,
/// when what an unfinished write could have left is refused.
pub(crate) fn judge(intact: &Image, damaged: &Image, what: &dyn Fn() -> String) -> Outcome {
    let disk = PlateDisk::new(damaged.clone());
    let excuse = last_lsn_if_unfinished(intact, damaged);
    match open(&disk) {
        Err(text) => {
            let what = what();
            assert!(!disk.was_changed(), "{what}: the refusal changed something: {text}");
            assert!(text.contains(DIR), "{what}: the refusal names no file: {text}");
            assert!(excuse.is_none(), "{what}: an unfinished write may leave this, yet: {text}");
            let places = [" byte ", "both slots", "no control file", "no snapshot", "another log"];
            assert!(places.iter().any(|place| text.contains(place)), "{what}: names no place: {text}");
            Outcome::Refused
        }
        Ok((Seen { wrong: Some(wrong), .. }, _)) => {
            panic!("{}: opened with another history: {wrong}", what())
        }
        Ok((seen, _)) if seen.lsn == RECORDS => Outcome::Whole,
        Ok((seen, opened)) => {
            assert_eq!(Some(seen.lsn), excuse, "{}: LOST acked facts after LSN {}", what(), seen.lsn);
            drop(opened);
            Outcome::Cut
        }
    }
}

/// The LSN up to which the log reaches if the damaged files are what a power cut before the last
/// acks could have left: some group's units are as written or empty, nothing stands behind it,
/// everything else is intact, and the control file does not know better.
pub(crate) fn last_lsn_if_unfinished(intact: &Image, damaged: &Image) -> Option<u64> {
    let known = read_control(&PlateDisk::new(damaged.clone()), Path::new(DIR)).ok()??.durable_lsn.0;
    let in_order = read_control(&PlateDisk::new(damaged.clone()), Path::new(DIR)).ok()??.clean;
    let same = |path: &PathBuf| intact.get(path) == damaged.get(path);
    if in_order
        || intact.keys().any(|path| path.starts_with("/data/log") && *path != segment(2) && !same(path))
    {
        return None;
    }
    let (was, is) = (intact.get(&segment(2))?, damaged.get(&segment(2))?);
    if was.len() != is.len() {
        return None;
    }
    let last = groups(intact).into_iter().filter(|g| g.segment == 2 && g.first > known);
    for group in last {
        let (from, to) = (group.offset, group.offset + group.len);
        let mut units = (from..to).step_by(UNIT).map(|at| (&was[at..at + UNIT], &is[at..at + UNIT]));
        let unfinished = units.all(|(was, is)| was == is || is.iter().all(|byte| *byte == 0));
        let nothing_behind = is[to..].iter().all(|byte| *byte == 0);
        let this_one = was[..from] == is[..from] && was[from..to] != is[from..to];
        if this_one && unfinished && nothing_behind {
            return Some(group.first - 1);
        }
    }
    None
}

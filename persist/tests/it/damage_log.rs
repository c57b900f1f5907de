//! The log for the damage tests, 30 records over two segments, and the checker of each opening.
//!
//! ```text
//! segment 1   [1] [2 … 12: two sectors] [13] [14] [15] [16] [17]      full
//! segment 2   [18 19] [20 … 30: two sectors]                          five sectors empty
//! ```
//!
//! Each bracket is a group, and all were acknowledged. The checker does not know the rules of
//! recovery. It accepts the whole log; or a refusal that names the file and changes nothing; or a cut,
//! but only where the files are exactly what a power cut before the acknowledgement could have left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stampede_core::draw::DrawSeed;
use stampede_core::fact::Fact;
use stampede_core::item::{ItemSpec, OrderState};
use stampede_core::sample::{self, Item, Order};
use stampede_core::shard::{Accepted, FactSink as _};
use stampede_core::state_row::StateRow;
use stampede_core::types::{Lsn, OrderId, UnixMillis};
use stampede_persist::disk::Disk as _;
use stampede_persist::log::block::peek_header;
use stampede_persist::log::control::read_control;
use stampede_persist::log::dir::{DataDir, LogOptions, NewLog, Opened, Stepped};
use stampede_persist::log::identity::LogId;
use stampede_persist::log::journal::Step;
use stampede_persist::log::layout;
use stampede_persist::log::rebuild::Rebuild;

use super::log_sale::{DIR, item, new_log, small};
use super::sim_disk::SimDisk;

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

/// Passes on the fact of an LSN; another `branch` is another history of the same shape.
pub(crate) fn with_fact<R>(lsn: u64, branch: u8, visit: impl FnOnce(&Fact<'_>) -> R) -> R {
    let (actor, name) = ("m".repeat(64), format!("{branch}{}", "n".repeat(199)));
    let subject = format!("buyer-{branch}-{lsn}-{}", "x".repeat(40));
    let item = Item { at_ms: UnixMillis(1000 + lsn), actor: &actor, ..item_with(&name) };
    let order = order(orders_up_to(lsn), Lsn(lsn));
    match lsn {
        1 => visit(&item.created()),
        2..=12 | 21.. => visit(&item.changed()),
        _ => visit(&Order { subject: subject.as_bytes(), key: &[b'k'; 64], ..order }.placed()),
    }
}

/// The item, with a draw that all its orders enter.
fn item_with(name: &str) -> Item<'_> {
    let spec = ItemSpec { draw_ms: 60_000, ..sample::spec(name) };
    Item { spec, seed: DrawSeed([7; 32]), ..Item::new(item(), 1000) }
}

fn order(seq: u32, lsn: Lsn) -> Order<'static> {
    let (at_ms, state) = (UnixMillis(1000 + lsn.0), OrderState::Entered);
    Order { at_ms, state, subject: b"somebody", ..Order::new(OrderId::new(item(), seq)) }
}

fn orders_up_to(lsn: u64) -> u32 {
    (lsn.clamp(12, 20) - 12) as u32
}

/// The state: its last LSN, and whether some fact is not the one that was written. It refuses
/// nothing, so each refusal comes from the log itself.
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
        visit(item_with("n").row(orders_up_to(self.lsn), Lsn(self.lsn)));
        for seq in 1..=orders_up_to(self.lsn) {
            let lsn = Lsn(u64::from(seq) + 12);
            visit(order(seq, lsn).row(lsn));
        }
    }
}

/// The files of a directory.
pub(crate) type Image = BTreeMap<PathBuf, Arc<Vec<u8>>>;

/// A disk on which the data directory holds these files, all of them durable.
pub(crate) fn disk_with(image: &Image) -> SimDisk {
    let (disk, dir) = (SimDisk::new(0), Path::new(DIR));
    for dir in [dir.to_owned(), layout::log_dir(dir), layout::snapshot_dir(dir), layout::torn_dir(dir)] {
        disk.create_dir(&dir).unwrap();
    }
    image.iter().for_each(|(file, bytes)| disk.put(file, bytes));
    disk.take_changes();
    disk
}

/// The files that stand there now.
pub(crate) fn image_of(disk: &SimDisk) -> Image {
    disk.files().into_iter().map(|(file, bytes)| (file, Arc::new(bytes))).collect()
}

/// What is done between the groups.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plan {
    /// Shut down in order: the control file is up to date.
    pub(crate) clean: bool,
    /// The control file is updated before the last group; otherwise only after the first segment.
    pub(crate) settled: bool,
    /// A snapshot of the first segment.
    pub(crate) snapshot: bool,
    /// A second snapshot, and the first segment trimmed.
    pub(crate) trimmed: bool,
    /// Another history from the second start on.
    pub(crate) branch: u8,
    /// Another log.
    pub(crate) other_log: bool,
}

/// The files after each group; the last image is the log itself.
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
pub(crate) fn open(disk: &SimDisk) -> Result<(Seen, Opened), String> {
    open_as(disk, false)
}

fn open_as(disk: &SimDisk, other_log: bool) -> Result<(Seen, Opened), String> {
    let log_id = LogId(*b"some other log!!");
    let new_log = if other_log { NewLog { log_id, ..new_log() } } else { new_log() };
    let mut seen = Seen::default();
    let data = DataDir::open_on(Arc::new(disk.clone()), Path::new(DIR), &options(), &new_log);
    let opened = data.and_then(|data| data.recover(&mut seen)).map_err(|error| error.to_string())?;
    assert_eq!(opened.next_lsn(), Lsn(seen.lsn + 1), "the state has seen the whole log");
    Ok((seen, opened))
}

fn start(disk: &SimDisk, plan: &Plan) -> Stepped {
    open_as(disk, plan.other_log).unwrap().1.start_stepped(Vec::new()).unwrap()
}

/// Writes the log. The third group begins its second life.
pub(crate) fn write(plan: &Plan) -> Written {
    let disk = disk_with(&Image::new());
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
        history.push(image_of(&disk));
    }
    if plan.clean {
        log.journal.write_control(true);
        history.push(image_of(&disk));
    }
    Written { history }
}

/// The place of a group.
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

/// Opens a damaged image and checks the outcome. `intact` is the same log undamaged.
///
/// # Panics
/// If an acknowledged fact is lost without need, if a refusal names no file or changed one, or if a
/// state that an unfinished write could have left is refused.
pub(crate) fn judge(intact: &Image, damaged: &Image, what: &dyn Fn() -> String) -> Outcome {
    let disk = disk_with(damaged);
    let excuse = last_lsn_if_unfinished(intact, damaged, &disk);
    match open(&disk) {
        Err(text) => {
            let what = what();
            assert!(disk.take_changes() == 0, "{what}: the refusal changed something: {text}");
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
fn last_lsn_if_unfinished(intact: &Image, damaged: &Image, disk: &SimDisk) -> Option<u64> {
    let control = read_control(disk, Path::new(DIR)).ok()??;
    let same = |path: &PathBuf| intact.get(path) == damaged.get(path);
    if control.clean
        || intact.keys().any(|path| path.starts_with("/data/log") && *path != segment(2) && !same(path))
    {
        return None;
    }
    let (was, is) = (intact.get(&segment(2))?, damaged.get(&segment(2))?);
    if was.len() != is.len() {
        return None;
    }
    let last = groups(intact).into_iter().filter(|g| g.segment == 2 && g.first > control.durable_lsn.0);
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

//! A log as an older version could write it: an order from Postgres that no start can replay. It
//! is found wrong, what that one start took over is cut off on the operator's word, and nothing else.

use std::path::Path;
use std::sync::Arc;

use stampede_core::catalogue::Catalogue;
use stampede_core::fact::{ACTOR_POSTGRES, Fact};
use stampede_core::item::OrderState;
use stampede_core::sample::{Item, Order, item_id};
use stampede_core::shard::{Accepted, FactSink as _, Shard};
use stampede_core::state_row::StateRow;
use stampede_core::types::{HashSecret, Lsn, OrderId, UnixMillis};
use stampede_persist::log::control::{ControlFile, read_control};
use stampede_persist::log::cut::{CutError, cut_import_on};
use stampede_persist::log::dir::{DataDir, OpenError, Opened, Stepped};
use stampede_persist::log::journal::Step;
use stampede_persist::log::rebuild::Rebuild;
use stampede_persist::log::verify::verify_on;

use crate::log_sale::{DIR, new_log, small};
use crate::sim_disk::{SimDisk, Trouble};

/// The shop's own item, and one that stands in Postgres.
const OURS: u64 = 1;
const THEIRS: u64 = 2;

/// The engine's state, with one core.
struct State(Shard);

impl State {
    fn new() -> Self {
        Self(Shard::new(0, HashSecret(new_log().hash_secret), Arc::new(Catalogue::new(1))))
    }
}

impl Rebuild for State {
    fn row(&mut self, row: &StateRow<'_>) -> Result<(), String> {
        self.0.load_row(row).map_err(|error| error.to_string())
    }
    fn fact(&mut self, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String> {
        self.0.apply(lsn, fact).map_err(|error| error.to_string())
    }
    fn rows(&self, visit: &mut dyn FnMut(StateRow<'_>)) {
        self.0.rows(&mut |row| visit(*row));
    }
}

fn open(disk: &SimDisk) -> Result<(State, Opened), OpenError> {
    let mut state = State::new();
    let dir = DataDir::open_on(Arc::new(disk.clone()), Path::new(DIR), &small(), &new_log())?;
    let opened = dir.recover(&mut state)?;
    Ok((state, opened))
}

fn created(id: u64, actor: &'static str) -> Fact<'static> {
    Item { at_ms: UnixMillis(10), actor, ..Item::new(item_id(id), 1_000) }.created()
}

fn placed(seq: u32) -> Fact<'static> {
    let order = Order::new(OrderId::new(item_id(OURS), seq));
    Order { at_ms: UnixMillis(20), subject: b"alice", key: b"k", ..order }.placed()
}

/// Paid, and to be paid before it was placed.
fn imported(seq: u32, pay_by_ms: u64) -> Fact<'static> {
    let order = Order {
        at_ms: UnixMillis(25),
        state: OrderState::Paid,
        pay_by_ms: UnixMillis(pay_by_ms),
        subject: b"bob",
        ..Order::new(OrderId::new(item_id(THEIRS), seq))
    };
    order.imported(UnixMillis(30))
}

/// One start that writes these facts, whatever a shard thinks of them.
fn start(disk: &SimDisk, facts: &[Fact<'_>]) -> Stepped {
    let (_, opened) = open(disk).expect("it opens");
    let mut log = opened.start_stepped(Vec::new()).expect("started");
    for fact in facts {
        while !log.queue.has_room() {
            write(&mut log);
        }
        log.queue.producer().append(Accepted::forged(fact));
    }
    write(&mut log);
    log
}

fn write(log: &mut Stepped) {
    loop {
        match log.journal.step() {
            Step::Wrote { .. } => {}
            Step::Idle => return,
            Step::NeedsSegment => drop(log.maintenance.prepare_spare().expect("a spare")),
            Step::Failed => panic!("the log failed: {:?}", log.status.failure()),
        }
    }
}

/// A directory with two orders of ours, and then an import of so many orders that went wrong.
fn bricked(good_orders: u32) -> SimDisk {
    let disk = SimDisk::new(7);
    let mut log = start(&disk, &[created(OURS, "shop"), placed(1), placed(2)]);
    log.journal.write_control(true);
    drop(log);
    let mut facts = vec![created(THEIRS, ACTOR_POSTGRES)];
    facts.extend((1..=good_orders).map(|seq| imported(seq, 0)));
    facts.push(imported(good_orders + 1, 25));
    let mut log = start(&disk, &facts);
    log.journal.write_control(true);
    drop(log);
    disk
}

fn cut(disk: &SimDisk, really: bool) -> Result<Option<stampede_persist::log::cut::Cut>, CutError> {
    cut_import_on(disk, Path::new(DIR), really)
}

/// It opens, with both orders of ours and nothing of theirs, and goes on.
fn assert_mended(disk: &SimDisk) {
    let (state, opened) = open(disk).expect("it opens again");
    assert_eq!(opened.next_lsn(), Lsn(4));
    assert_eq!(state.0.counts(), (1, 2));
    drop(opened);
    let mut log = start(disk, &[placed(3)]);
    log.journal.write_control(true);
    drop(log);
    let (state, _) = open(disk).expect("and again");
    assert_eq!(state.0.counts(), (1, 3));
    assert_eq!(verify_on(disk, Path::new(DIR)).expect("verified").wrong, None);
}

#[test]
fn log_verify_asks_the_rule_of_replay() {
    let disk = bricked(2);
    let Err(refused) = open(&disk) else { panic!("it cannot be replayed") };
    assert!(refused.to_string().contains("LSN 7 cannot be replayed: pay_by_ms is out of range"), "{refused}");
    let wrong = verify_on(&disk, Path::new(DIR)).expect("verified").wrong.expect("a start refuses it");
    assert_eq!(wrong.lsn, Some(Lsn(7)), "{wrong}");
    assert!(wrong.reason.contains("pay_by_ms is out of range"), "{wrong}");
}

#[test]
fn log_cut_import_gives_the_directory_back() {
    // A few orders; and so many that they fill more than one segment.
    for good_orders in [0, 2, 700] {
        let disk = bricked(good_orders);
        let before = disk.files();
        let looked = cut(&disk, false).expect("looked").expect("something to cut off");
        assert_eq!((looked.refused, looked.facts.0), (Lsn(u64::from(good_orders) + 5), Lsn(4)));
        let same = |(path, bytes): (&std::path::PathBuf, &Vec<u8>)| before.get(path) == Some(bytes);
        assert!(disk.files().iter().filter(|(path, _)| !path.ends_with("LOCK")).all(same), "only looked");
        assert_eq!(cut(&disk, true).expect("cut"), Some(looked));
        assert!(disk.files().keys().any(|path| path.starts_with("/data/torn")), "a copy");
        assert_mended(&disk);
        assert_eq!(cut(&disk, true).expect("looked"), None, "nothing more to cut off");
    }
}

/// The power goes at each step of a cut: no engine opens what is half cut, and the next call ends it.
#[test]
fn log_cut_import_survives_a_power_cut_at_every_step() {
    for good_orders in [1, 700] {
        let whole = bricked(good_orders);
        let mut steps = 1;
        loop {
            let disk = whole.copy();
            disk.plan(steps, Trouble::Crash);
            let ended = cut(&disk, true);
            disk.calm();
            if !disk.crashed() {
                assert!(ended.expect("cut").is_some());
                break;
            }
            let after = disk.after_crash();
            match open(&after) {
                Ok((state, _)) => {
                    assert_eq!(state.0.counts(), (1, 2), "step {steps}: half an import is open");
                }
                Err(_) => {
                    // Whatever else changes the control file meanwhile, `stampede detach` for one.
                    let control = read_control(&after, Path::new(DIR)).expect("readable").expect("a log");
                    let file = ControlFile::open(&after, Path::new(DIR), control).expect("opened");
                    file.update(|control| control.exports = !control.exports).expect("written");
                    assert!(cut(&after, true).expect("done again").is_some(), "step {steps}");
                }
            }
            assert_mended(&after);
            steps += 1;
        }
        assert!(steps > 8, "only {steps} steps");
    }
}

#[test]
fn log_cut_import_takes_nothing_that_was_acknowledged() {
    // The start that took it over has sold as well.
    let disk = SimDisk::new(7);
    let mut log =
        start(&disk, &[created(OURS, "shop"), created(THEIRS, ACTOR_POSTGRES), imported(1, 25), placed(1)]);
    log.journal.write_control(true);
    drop(log);
    let refused = cut(&disk, true).expect_err("an order of ours");
    assert!(matches!(refused, CutError::NotAnImport { refused: Lsn(3), .. }), "{refused}");
    // And a fact of ours that cannot be is none from Postgres.
    let disk = SimDisk::new(8);
    let mut log = start(&disk, &[created(OURS, "shop"), placed(2)]);
    log.journal.write_control(true);
    drop(log);
    assert!(matches!(cut(&disk, true), Err(CutError::NotAnImport { .. })));
}

//! The crash rig: the whole log at work under real threads, on a disk that notes every write and
//! sync, and then a power cut at any moment, in every way in which the disk could leave it.
//!
//! A simulation on one thread never meets a fact that arrives while a block is built; here the
//! shapes are those that real concurrency makes. Each image is recovered by the real recovery, in memory, and
//! judged: it opens; every LSN that was seen as durable is there with the same bytes; the database is not
//! ahead (I6); what was cut was kept. Then the next life begins on the image of the last crash.
//!
//! ```text
//! life.rs     producers, journal, spares, snapshots, exporter   ─▶ capture.rs   notes every operation
//! judge.rs    recovers and judges                               ◀─ player.rs    cuts the power between any two
//! ```
//!
//! `make rig SECONDS=60 SEED=…`; in `cargo test` it runs for `RIG_SECONDS`, 20 by default. Interleavings
//! do not repeat with the seed, which only draws the conditions: a red run therefore saves its image and
//! its operations, and says where.

mod capture;
mod judge;
mod life;
mod player;
mod shop;
#[path = "../common/sim_database.rs"]
mod sim_database;
#[path = "../common/sim_disk.rs"]
#[allow(dead_code, reason = "shared with the simulations, which need other parts of it")]
mod sim_disk;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use stampede_core::types::Lsn;
use stampede_persist::disk::SECTOR_BYTES;

use self::capture::{Change, Event};
use self::judge::{Seen, blocks, check_groups, check_lag, judge};
use self::life::{Aim, Conditions, LOG, Lived, live};
use self::player::Player;
use self::shop::Book;
use self::sim_database::SimDatabase;
use self::sim_disk::{Landing, Rng, SimDisk};

/// Lives of a log one after the other.
const LIVES: [Aim; 6] = [Aim::Steady, Aim::Crowd, Aim::Any, Aim::Crowd, Aim::Steady, Aim::Any];
/// Images of each life: at least these, and more while its share of the time lasts.
const IMAGES_MIN: usize = 12;
const IMAGES_MAX: usize = 400;
const LANDINGS: [Landing; 8] = [
    Landing::Any,
    Landing::Any,
    Landing::Any,
    Landing::Before,
    Landing::From,
    Landing::AllButOne,
    Landing::OnlyOne,
    Landing::All,
];

/// What was seen in all.
#[derive(Default, Debug)]
struct Tally {
    lives: usize,
    events: usize,
    groups: usize,
    facts: u64,
    images: usize,
    torn: usize,
    exported: u64,
    lag: Duration,
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Past the test harness, which shows only what a red test prints.
fn say(line: &str) {
    std::io::stderr().write_all(format!("rig: {line}\n").as_bytes()).expect("a way to say so");
}

#[test]
fn a_power_cut_at_any_moment_under_real_threads_loses_nothing() {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let seed = setting("RIG_SEED").unwrap_or(since_1970.as_secs() / 86_400);
    let until = Instant::now() + Duration::from_secs(setting("RIG_SECONDS").unwrap_or(20));
    say(&format!("seed {seed}"));
    let (mut rng, mut tally) = (Rng(seed), Tally::default());
    while tally.lives == 0 || Instant::now() < until {
        live_and_die(rng.next(), until, &mut tally).unwrap_or_else(|red| panic!("seed {seed}: {red}"));
    }
    say(&format!("{tally:?}"));
    assert!(tally.images > 0 && tally.groups > 0, "{tally:?}");
    // A short run on a busy machine may have met no torn tail yet.
    assert!(tally.images < 100 || tally.torn > 0 && tally.exported > 0, "{tally:?}");
}

/// Several lives of one log.
fn live_and_die(seed: u64, until: Instant, tally: &mut Tally) -> Result<(), String> {
    let mut rng = Rng(seed);
    let mut disk = SimDisk::new(rng.next());
    let (database, mut book) = (SimDatabase::new(rng.next()), Arc::new(Book::default()));
    for (number, aim) in LIVES.into_iter().enumerate() {
        if number > 0 && Instant::now() > until {
            break;
        }
        let conditions = Conditions::draw(&mut rng, aim);
        let begun = Instant::now();
        let red = |error: &str| format!("life {number} of {seed:#x} under {conditions:?}: {error}");
        let lived = live(&disk, &database, &book, &conditions, rng.next()).map_err(|error| red(&error))?;
        let life = Life {
            before: &disk,
            lived: &lived,
            conditions: &conditions,
            name: format!("{seed:016x}-{number}"),
        };
        let share = begun.elapsed() * 3 + Duration::from_millis(300);
        life.cut_often(&mut rng, begun + share, tally).map_err(|error| red(&error))?;
        let image = life.crash(&mut rng, tally).map_err(|error| red(&error))?;
        life.check_order(tally).map_err(|error| red(&error))?;
        database.restore(&lived.crash.database);
        check_database(&database, &lived.book, tally).map_err(|error| red(&error))?;
        (disk, book) = (image, lived.book);
        tally.lives += 1;
    }
    Ok(())
}

/// The database holds the orders up to its cursor, each once, and no other.
fn check_database(database: &SimDatabase, book: &Book, tally: &mut Tally) -> Result<(), String> {
    let cursor = database.cursor(LOG).unwrap_or(Lsn::ZERO);
    let rows: Vec<_> = database.orders().into_keys().collect();
    tally.exported = tally.exported.max(cursor.0);
    if rows == book.orders_until(cursor) {
        Ok(())
    } else {
        Err(format!("I6: {} orders in the database, whose cursor is LSN {cursor}", rows.len()))
    }
}

/// A life that is over, to be looked at.
struct Life<'a> {
    before: &'a SimDisk,
    lived: &'a Lived,
    conditions: &'a Conditions,
    name: String,
}

impl Life<'_> {
    fn check_order(&self, tally: &mut Tally) -> Result<(), String> {
        let events = &self.lived.events;
        tally.events += events.len();
        tally.facts += events.last().map_or(0, |event| event.durable);
        let checked = check_lag(events).and_then(|lag| Ok((lag, check_groups(events)?)));
        let (lag, groups) = checked.map_err(|error| self.saved(&error, events.len(), None))?;
        tally.lag = tally.lag.max(lag);
        tally.groups += groups;
        Ok(())
    }

    /// Cuts the power at drawn moments, most of them while the device has a write in its hands.
    fn cut_often(&self, rng: &mut Rng, until: Instant, tally: &mut Tally) -> Result<(), String> {
        let events = &self.lived.events;
        let blocks_or_sectors = |event: &Event| match &event.change {
            Change::Begin { bytes, .. } => (blocks(bytes), bytes.len() / SECTOR_BYTES),
            _ => (0, 0),
        };
        let kinds: Vec<_> = events.iter().map(blocks_or_sectors).collect();
        let after = |wanted: fn((usize, usize)) -> bool| -> Vec<usize> {
            (1..=events.len()).filter(|n| wanted(kinds[n - 1])).collect()
        };
        // Groups of several blocks, writes of several sectors, all writes, all operations.
        let moments =
            [after(|kind| kind.0 > 1), after(|kind| kind.1 > 1), after(|kind| kind.1 > 0), after(|_| true)];
        let moments: Vec<_> = moments.into_iter().filter(|some| !some.is_empty()).collect();
        // Round after round through the life, each with its own moments.
        for round in 0.. {
            let mut drawn: Vec<_> = (0..IMAGES_MIN)
                .map(|_| {
                    let some = &moments[rng.below(moments.len() as u64) as usize];
                    some[rng.below(some.len() as u64) as usize]
                })
                .collect();
            drawn.sort_unstable();
            let mut player = Player::new(self.before);
            for moment in drawn {
                player.play_until(events, moment);
                let landing = LANDINGS[rng.below(LANDINGS.len() as u64) as usize];
                let torn = self.cut(&player, landing, rng)?.1;
                tally.images += 1;
                tally.torn += usize::from(torn);
                if round > 0 && Instant::now() > until {
                    return Ok(());
                }
            }
            if round * IMAGES_MIN > IMAGES_MAX {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The disk of the crash that ended this life.
    fn crash(&self, rng: &mut Rng, tally: &mut Tally) -> Result<SimDisk, String> {
        let mut player = Player::new(self.before);
        player.play_until(&self.lived.events, self.lived.crash.events);
        let landing = LANDINGS[rng.below(LANDINGS.len() as u64) as usize];
        let (image, torn) = self.cut(&player, landing, rng)?;
        tally.images += 1;
        tally.torn += usize::from(torn);
        Ok(image)
    }

    /// Cuts the power where the player stands and judges what comes of it; the image as it was, and whether recovery cuts it.
    fn cut(&self, player: &Player, landing: Landing, rng: &mut Rng) -> Result<(SimDisk, bool), String> {
        let (fine, seed) = (rng.coin(), rng.next());
        let image = player.cut(landing, fine, seed);
        let last = &self.lived.events[player.played - 1];
        let seen = Seen { durable: last.durable, cursor: last.cursor };
        match judge(&image.copy(), &self.conditions.options, &self.lived.book, seen) {
            Ok(torn) => Ok((image, torn)),
            Err(error) => {
                let error =
                    format!("power cut after event {} ({landing:?}, fine {fine}): {error}", player.played);
                Err(self.saved(&error, player.played, Some(&image)))
            }
        }
    }

    /// Saves the image and the operations before it; the error with the place.
    fn saved(&self, error: &str, events: usize, image: Option<&SimDisk>) -> String {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("rig-{}", self.name));
        let written = self.save(&dir, error, events, image);
        match written {
            Ok(()) => format!("{error}; image and operations are in {}", dir.display()),
            Err(io) => format!("{error}; and they could not be saved in {}: {io}", dir.display()),
        }
    }

    fn save(
        &self,
        dir: &std::path::Path,
        error: &str,
        events: usize,
        image: Option<&SimDisk>,
    ) -> std::io::Result<()> {
        for (path, bytes) in image.map(SimDisk::files).unwrap_or_default() {
            let path = dir.join(path.strip_prefix("/").unwrap_or(&path));
            std::fs::create_dir_all(path.parent().unwrap_or(dir))?;
            std::fs::write(path, bytes)?;
        }
        std::fs::create_dir_all(dir)?;
        let mut text = format!("{error}\n{:?}\n", self.conditions);
        for (number, event) in self.lived.events[..events].iter().enumerate() {
            // Into a string nothing fails.
            let _written = writeln!(text, "{:>6} {event}", number + 1);
        }
        std::fs::write(dir.join("operations.txt"), text)
    }
}

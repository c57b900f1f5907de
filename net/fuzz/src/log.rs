//! The reader of the log: it reads only what it would write the same way, and changed bytes never pass
//! for something else.
//!
//! The first byte chooses one of five checks for the rest.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use stampede_core::catalogue::Catalogue;
use stampede_core::command::{Command, ItemPatch, Outcome, Purchase, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::fact::Fact;
use stampede_core::limits::FACT_BYTES_MAX;
use stampede_core::shard::{Accepted, FactSink, Shard};
use stampede_core::state_row::StateRow;
use stampede_core::types::{HashSecret, ItemId, Lsn, Quantity, UnixMillis};
use stampede_persist::codec;
use stampede_persist::disk::SECTOR_BYTES;
use stampede_persist::log::block::{BLOCK_HEADER_BYTES, BlockBuilder, BlockHeader, Records, check_block};
use stampede_persist::log::dir::{DataDir, LogOptions, NewLog};
use stampede_persist::log::identity::LogId;
use stampede_persist::log::journal::Step;
use stampede_persist::log::layout;
use stampede_persist::log::rebuild::Rebuild;
use stampede_persist::log::record::{Record, read_record};
use stampede_persist::log::verify::verify_on;

use crate::forge::seal_block;
use crate::sim_disk::SimDisk;

const DIR: &str = "/data";
const LOG: LogId = LogId(*b"a log of a test!");
const SECRET: HashSecret = HashSecret([9; 16]);
const SEGMENT: u64 = 1;
/// Groups of the log to be edited, one block each, and the facts in each.
const GROUPS: u64 = 3;
const FACTS: u64 = 4;

/// Runs the check.
///
/// # Panics
/// When the reader breaks a promise.
pub fn check(data: &[u8]) {
    let Some((&game, rest)) = data.split_first() else { return };
    match game % 5 {
        0 => check_raw(rest),
        1 => check_records(rest),
        2 => check_repaired(rest),
        3 => check_spoilt(rest),
        _ => check_rewritten(rest),
    }
}

/// Any bytes in the place of a block and of a record.
fn check_raw(data: &[u8]) {
    let _ = read_record(data);
    let mut block = data.to_vec();
    block.resize(data.len().next_multiple_of(SECTOR_BYTES).max(SECTOR_BYTES), 0);
    walk(&block);
}

/// Reads a block, if it is one. Returns how many records were good.
fn walk(block: &[u8]) -> Option<u32> {
    let header = check_block(block, LOG, SEGMENT).ok()?;
    let mut good = 0;
    for record in Records::new(&header, block) {
        let Ok(record) = record else { return Some(good) };
        assert_eq!(record.lsn.0, header.first_lsn.0 + u64::from(good), "records are in order");
        check_fact(&record);
        good += 1;
    }
    assert_eq!(good, header.records, "a block has the records that it says");
    Some(good)
}

/// A fact is written as it was read.
fn check_fact(record: &Record<'_>) -> bool {
    let Ok(fact) = codec::decode(record.kind, record.payload) else { return false };
    assert_eq!(codec::fact_kind(&fact), record.kind, "a fact of another kind");
    let mut again = [0; FACT_BYTES_MAX];
    let len = codec::encode(&fact, &mut again);
    assert_eq!(&again[..len], record.payload, "a fact is written otherwise than it was read");
    true
}

/// Payloads, each after its kind and its length. Those that are facts make a block: it is read as it
/// was written, and refused with any bit flipped.
fn check_records(mut data: &[u8]) {
    let mut out = vec![0; SECTOR_BYTES];
    let mut builder = BlockBuilder::new(&mut out);
    let mut pushed: Vec<(u16, &[u8])> = Vec::new();
    let mut salt = 0usize;
    while let [kind, len, rest @ ..] = data {
        let (payload, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        let lsn = Lsn(10 + pushed.len() as u64);
        let record = Record { lsn, kind: u16::from(*kind), payload };
        if check_fact(&record) && builder.push(&record) {
            pushed.push((record.kind, payload));
        }
        salt = salt.wrapping_mul(31).wrapping_add(usize::from(*len));
        data = rest;
    }
    if pushed.is_empty() {
        return;
    }
    let header = BlockHeader {
        log_id: LOG,
        epoch: 1,
        segment: SEGMENT,
        first_lsn: Lsn(10),
        durable_lsn: Lsn(9),
        records: 0,
        records_len: 0,
        prev_hash: [7; 32],
    };
    let (len, _) = builder.finish(header);
    let block = &mut out[..len];
    let read = check_block(block, LOG, SEGMENT).expect("a block that was written is read");
    let records: Vec<(u16, &[u8])> = Records::new(&read, block)
        .map(|record| record.expect("a record"))
        .map(|r| (r.kind, r.payload))
        .collect();
    assert_eq!(records, pushed);
    for step in 0..16 {
        let bit = (salt + step * 2_654_435_761) % (len * 8);
        out[bit / 8] ^= 1 << (bit % 8);
        assert!(check_block(&out[..len], LOG, SEGMENT).is_err(), "bit {bit} was flipped");
        out[bit / 8] ^= 1 << (bit % 8);
    }
}

/// A good block, edited, with checksums that hold again: lengths and counts are not believed.
fn check_repaired(edits: &[u8]) {
    let mut block = spoilt(edits).1;
    block.truncate(SECTOR_BYTES);
    seal_block(&mut block);
    walk(&block);
}

/// A whole log, edited: a change where something is durable is always found.
fn check_spoilt(edits: &[u8]) {
    let (before, after) = spoilt(edits);
    let used = GROUPS as usize * SECTOR_BYTES;
    let found = verdict(&after);
    if before[..used] == after[..used] {
        assert_eq!(found, Some(GROUPS * FACTS), "nothing durable was changed");
    } else {
        assert_eq!(found, None, "a change was not found");
    }
}

/// The same with checksums that hold again: the chain finds what is not in the last block.
fn check_rewritten(edits: &[u8]) {
    let (before, mut after) = spoilt(edits);
    after[..GROUPS as usize * SECTOR_BYTES].chunks_mut(SECTOR_BYTES).for_each(seal_block);
    let chained = (GROUPS as usize - 1) * SECTOR_BYTES;
    let found = verdict(&after);
    assert!(found.is_none() || before[..chained] == after[..chained], "a forged block was not found");
}

/// The segment of the good log, as it is and edited. An edit is a place in two bytes (few of the
/// padding are among them) and a byte.
fn spoilt(edits: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let before = segment_of(good_log());
    let mut after = before.clone();
    for edit in edits.chunks_exact(3) {
        let block = usize::from(edit[0] >> 6);
        let within = (usize::from(edit[0] & 0x3f) << 8 | usize::from(edit[1])) % 1_024;
        after[block * SECTOR_BYTES + within] = edit[2];
    }
    (before, after)
}

fn segment_of(disk: &SimDisk) -> Vec<u8> {
    disk.file(&layout::segment_file(Path::new(DIR), SEGMENT)).expect("a segment")
}

/// How many facts a log has whose first segment is this; `None` if something is wrong with it.
fn verdict(segment: &[u8]) -> Option<u64> {
    let disk = good_log().copy();
    disk.put(&layout::segment_file(Path::new(DIR), SEGMENT), segment);
    let verdict = verify_on(&disk, Path::new(DIR)).ok()?;
    verdict.wrong.is_none().then_some(verdict.facts)
}

/// Takes whatever comes.
struct Anything;

impl Rebuild for Anything {
    fn row(&mut self, _: &StateRow<'_>) -> Result<(), String> {
        Ok(())
    }
    fn fact(&mut self, _: Lsn, _: &Fact<'_>) -> Result<(), String> {
        Ok(())
    }
    fn rows(&self, _: &mut dyn FnMut(StateRow<'_>)) {}
}

fn good_log() -> &'static SimDisk {
    static LOG: OnceLock<SimDisk> = OnceLock::new();
    LOG.get_or_init(write_log)
}

/// A small log that was ended in order, all of it durable.
fn write_log() -> SimDisk {
    let disk = SimDisk::new(0);
    let options = LogOptions {
        segment_bytes: 32 << 10,
        log_bytes_max: 4 << 20,
        free_bytes_min: 0,
        queue_slots: 64,
        queue_reserve: 16,
        ..LogOptions::default()
    };
    let new_log = NewLog { log_id: LOG, hash_secret: SECRET.0 };
    let dir = DataDir::open_on(Arc::new(disk.clone()), Path::new(DIR), &options, &new_log).expect("opened");
    let opened = dir.recover(&mut Anything).expect("new");
    let mut log = opened.start_stepped(Vec::new()).expect("started");
    let mut shard = shard();
    for group in 0..GROUPS {
        for fact in 0..FACTS {
            decide(&mut shard, &mut log.queue.producer(), group * FACTS + fact);
        }
        assert!(matches!(log.journal.step(), Step::Wrote { facts: FACTS }));
    }
    log.journal.write_control(true);
    disk
}

fn shard() -> Shard {
    Shard::new(0, SECRET, Arc::new(Catalogue::new(1)))
}

/// The state after so many facts of the small log.
pub(crate) fn state_after(facts: u64) -> Shard {
    /// Numbers facts, and forgets them.
    struct Count(u64);
    impl FactSink for Count {
        fn append(&mut self, _: Accepted<'_>) -> Lsn {
            self.0 += 1;
            Lsn(self.0)
        }
    }
    let (mut shard, mut count) = (shard(), Count(0));
    (0..facts).for_each(|number| decide(&mut shard, &mut count, number));
    shard
}

/// Decides the fact with this number: first a merchant puts an item on sale, then Ann buys of it.
fn decide(shard: &mut Shard, sink: &mut impl FactSink, number: u64) {
    let (now, item) = (UnixMillis(1_000 + number), ItemId::new(7).expect("a number"));
    let patch = ItemPatch {
        name: Some("phone"),
        price_minor: Some(100),
        stock: Some(1_000),
        opens_at_ms: Some(UnixMillis(1)),
        closes_at_ms: Some(UnixMillis(1 << 40)),
        cap: Some(1_000),
        ..ItemPatch::default()
    };
    let put = Command::PutItem { item, patch, seed: DrawSeed::NONE, actor: "shop" };
    let (subject, key) = (b"ann".as_slice(), [b'k', number as u8]);
    let (buyer, quantity, ticket) = (SECRET.buyer(subject), Quantity::ONE, Ticket::Good);
    let buy = Command::Purchase(Purchase { item, buyer, subject, quantity, key: &key, ticket });
    let outcome = shard.decide(now, if number == 0 { &put } else { &buy }, sink);
    assert!(matches!(outcome, Outcome::Done { .. } | Outcome::Placed(_)), "{outcome:?}");
}

/// Inputs out of the small log: each of its records for the game of records, and a few edits.
pub fn seeds() -> Vec<Vec<u8>> {
    let segment = segment_of(good_log());
    let mut all = vec![1];
    let mut seeds = vec![vec![3], vec![3, 0, 200, 1], vec![4, 128, 150, 9], vec![2, 0, 64, 2, 0, 68, 9]];
    for block in segment[..GROUPS as usize * SECTOR_BYTES].chunks(SECTOR_BYTES) {
        let header = check_block(block, LOG, SEGMENT).expect("a block");
        for record in Records::new(&header, block).map(|record| record.expect("a record")) {
            let one = [&[record.kind as u8, record.payload.len() as u8], record.payload].concat();
            all.extend_from_slice(&one);
            seeds.push([&[1], one.as_slice()].concat());
        }
        let used = BLOCK_HEADER_BYTES + header.records_len as usize;
        seeds.push([&[0], &block[..used]].concat());
    }
    seeds.push(all);
    seeds
}

//! A draw through the codec: what a crash or a snapshot leaves of it goes on to the same
//! result, and the books notice one that cannot be.

use std::collections::BTreeSet;
use std::sync::Arc;

use stampede_core::catalogue::Catalogue;
use stampede_core::command::{Command, ItemPatch, Outcome, Purchase, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::fact::Fact;
use stampede_core::item::{OrderState, Payment};
use stampede_core::limits::FACT_BYTES_MAX;
use stampede_core::shard::{Accepted, FactSink, Shard};
use stampede_core::types::{HashSecret, ItemId, Lsn, OrderId, Quantity, UnixMillis};
use stampede_persist::codec::{ROW_BYTES_MAX, decode, decode_row, encode, encode_row, fact_kind};
use stampede_persist::log::books::Books;

const SECRET: HashSecret = HashSecret([4; 16]);
const OPENS_AT: UnixMillis = UnixMillis(5_000);
const DRAWS_AT: UnixMillis = UnixMillis(7_000);
const ENTRIES: u64 = 60;

/// A log that is nothing but its records: kind and payload.
#[derive(Default)]
struct Records(Vec<(u16, Vec<u8>)>);

impl FactSink for Records {
    fn append(&mut self, fact: Accepted<'_>) -> Lsn {
        let mut bytes = [0; FACT_BYTES_MAX];
        let len = encode(&fact, &mut bytes);
        self.0.push((fact_kind(&fact), bytes[..len].to_vec()));
        Lsn(self.0.len() as u64)
    }
}

impl Records {
    fn facts(&self) -> impl Iterator<Item = (Lsn, Fact<'_>)> {
        let decoded = self.0.iter().map(|(kind, bytes)| decode(*kind, bytes).expect("ours"));
        (1..).map(Lsn).zip(decoded)
    }
}

fn item() -> ItemId {
    ItemId::new(9).expect("valid")
}

fn empty() -> Shard {
    Shard::new(0, SECRET, Arc::new(Catalogue::new(1)))
}

/// Seven units, and entries of one to three.
fn entered() -> (Shard, Records) {
    let (mut shard, mut log) = (empty(), Records::default());
    let patch = ItemPatch {
        name: Some("drawn"),
        stock: Some(7),
        opens_at_ms: Some(OPENS_AT),
        closes_at_ms: Some(UnixMillis(100_000)),
        cap: Some(3),
        payment: Some(Payment::Hold),
        hold_ms: Some(1_000),
        draw_ms: Some(2_000),
        ..ItemPatch::default()
    };
    let put = Command::PutItem { item: item(), patch, seed: DrawSeed([7; 32]), actor: "shop" };
    shard.decide(UnixMillis(1_000), &put, &mut log);
    for number in 0..ENTRIES {
        let subject = number.to_be_bytes();
        let quantity = Quantity::new(1 + number % 3).expect("small");
        let buyer = SECRET.buyer(&subject);
        let purchase =
            Purchase { item: item(), buyer, subject: &subject, quantity, key: b"", ticket: Ticket::Good };
        let outcome = shard.decide(OPENS_AT, &Command::Purchase(purchase), &mut log);
        assert!(
            matches!(outcome, Outcome::Placed(order) if order.state == OrderState::Entered),
            "{outcome:?}"
        );
    }
    (shard, log)
}

fn finish(shard: &mut Shard, log: &mut Records) -> BTreeSet<OrderId> {
    while shard.tick(DRAWS_AT, 5, log) > 0 {}
    let (entries, next) = shard.draw_entries(item(), 0, 1_000).expect("the draw is over");
    assert_eq!((entries.len() as u64, next), (ENTRIES, None));
    entries.into_iter().filter(|entry| entry.won).map(|entry| entry.order).collect()
}

fn replayed(log: &Records) -> Shard {
    let mut shard = empty();
    log.facts().for_each(|(lsn, fact)| shard.apply(lsn, &fact).expect("follows"));
    shard
}

fn reloaded(shard: &Shard) -> Shard {
    let mut copy = empty();
    shard.rows(&mut |row| {
        let mut bytes = [0; ROW_BYTES_MAX];
        let len = encode_row(row, &mut bytes);
        copy.load_row(&decode_row(&bytes[..len]).expect("ours")).expect("goes in");
    });
    copy.finish_rows(shard.lsn(), shard.clock());
    copy
}

#[test]
fn a_draw_goes_on_after_any_step_from_log_or_snapshot() {
    let (mut whole, mut log) = entered();
    let winners = finish(&mut whole, &mut log);
    assert!((3..=7).contains(&winners.len()), "{winners:?}");
    for steps in 0..=ENTRIES + 1 {
        let (mut shard, mut log) = entered();
        (0..steps).for_each(|_| assert_eq!(shard.tick(DRAWS_AT, 1, &mut log), 1));
        for mut copy in [replayed(&log), reloaded(&shard)] {
            assert_eq!(copy.digest(), shard.digest(), "after {steps} steps");
            let mut rest = Records(log.0.clone());
            assert_eq!(finish(&mut copy, &mut rest), winners, "after {steps} steps");
        }
    }
}

fn judge<'a>(facts: impl Iterator<Item = (Lsn, Fact<'a>)>) -> Result<Books, String> {
    let mut books = Books::default();
    for (_, fact) in facts {
        books.fact(&fact)?;
    }
    Ok(books)
}

#[test]
fn the_books_tell_a_draw_and_notice_one_that_cannot_be() {
    let (mut shard, mut log) = entered();
    let winners = finish(&mut shard, &mut log);
    let (_, draws) = judge(log.facts()).expect("right").into_totals();
    let draw = &draws[&item()];
    assert_eq!((draw.waiting, draw.entries.len() as u64), (0, ENTRIES));
    let won: BTreeSet<_> = draw.entries.iter().filter(|entry| entry.won).map(|entry| entry.order).collect();
    assert_eq!(won, winners);
    let wrong = |change: fn(&mut Fact<'_>), said: &str| {
        let changed = log.facts().map(|(lsn, mut fact)| {
            change(&mut fact);
            (lsn, fact)
        });
        let reason = judge(changed).err().unwrap_or_default();
        assert!(reason.contains(said), "{said}: {reason}");
    };
    wrong(
        |fact| {
            if let Fact::DrawHeld { units, .. } = fact {
                *units = 8;
            }
        },
        "60 entries and 8 units",
    );
    wrong(
        |fact| {
            if let Fact::DrawHeld { entries, .. } = fact {
                *entries -= 1;
            }
        },
        "59 entries and 7 units",
    );
    wrong(
        |fact| {
            if let Fact::DrawHeld { seed, .. } = fact {
                seed.0[3] ^= 1;
            }
        },
        "another seed",
    );
    wrong(
        |fact| {
            if let Fact::DrawHeld { units, .. } = fact {
                *units = 0;
            }
        },
        "although not enough units were left",
    );
    wrong(
        |fact| {
            if let Fact::EntryDrawn { to, .. } = fact {
                *to = OrderState::Pending;
            }
        },
        "although not enough units were left",
    );
}

//! Facts and rows as bytes: what goes in comes out, and no bytes make it panic.

use proptest::prelude::*;
use stampede_core::draw::{DrawRow, DrawSeed, Drawn};
use stampede_core::fact::{Fact, ImportedMoney, Switch};
use stampede_core::item::{ChallengeRule, ItemSpec, OrderState, Payment, TicketRule};
use stampede_core::limits::{FACT_BYTES_MAX, ITEM_ID_MAX, ITEM_NAME_BYTES_MAX, STOCK_MAX, UNIX_MILLIS_MAX};
use stampede_core::money::{MoneyKind, MoneyRow, Price};
use stampede_core::state_row::{AuditAction, AuditRow, CallRow, StateRow};
use stampede_core::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};
use stampede_persist::codec::{
    DecodeError, ROW_BYTES_MAX, decode, decode_row, encode, encode_row, fact_kind, row_kind,
};

/// Raw material for any fact or row.
#[derive(Debug, Clone)]
struct Parts {
    numbers: [u64; 8],
    subject: Vec<u8>,
    key: Vec<u8>,
    reference: Vec<u8>,
    actor: String,
    name: String,
}

fn parts() -> impl Strategy<Value = Parts> {
    let bytes = |least| proptest::collection::vec(any::<u8>(), least..=255);
    let texts = ("[a-z0-9.:é]{0,32}", "[A-Za-z0-9 中文😀]{1,199}x");
    (any::<[u64; 8]>(), bytes(1), bytes(0), bytes(0), texts).prop_map(
        |(numbers, subject, key, reference, texts)| Parts {
            numbers,
            subject,
            key,
            reference,
            actor: texts.0,
            name: texts.1,
        },
    )
}

impl Parts {
    fn time(&self, n: usize) -> UnixMillis {
        UnixMillis(self.numbers[n] % UNIX_MILLIS_MAX)
    }
    fn item(&self) -> ItemId {
        ItemId::new(1 + self.numbers[1] % u64::from(ITEM_ID_MAX)).unwrap()
    }
    fn order(&self) -> OrderId {
        OrderId::new(self.item(), 1 + (self.numbers[2] % u64::from(u32::MAX)) as u32)
    }
    fn quantity(&self) -> Quantity {
        Quantity::new(1 + self.numbers[3] % 1_000_000).unwrap()
    }
    fn state(&self, n: usize) -> OrderState {
        OrderState::from_code((self.numbers[n] % OrderState::COUNT as u64) as u8).unwrap()
    }
    fn spec(&self) -> ItemSpec<'_> {
        let [_, _, _, a, b, c, d, _] = self.numbers;
        let ticket = TicketRule::from_code((b % 2) as u8).unwrap();
        let challenge = ChallengeRule::from_code((c % 3) as u8).unwrap();
        ItemSpec {
            name: &self.name,
            price_minor: a % (1 << 53),
            currency: *b"EUR",
            opens_at_ms: UnixMillis(b % 1000),
            closes_at_ms: UnixMillis(1000 + c % 1000),
            cap: 1 + (d % 1_000_000) as u32,
            payment: Payment::from_code((a % 3) as u8).unwrap(),
            hold_ms: 1 + b % 1000,
            ticket,
            challenge: if ticket == TicketRule::Required { challenge } else { ChallengeRule::Never },
            min_level: d as u8,
            min_account_age_s: a as u32,
            admit_per_s: b as u32,
            draw_ms: 0,
        }
    }
    fn drawn_spec(&self) -> ItemSpec<'_> {
        let draw_ms = 1_000 + (self.numbers[6] % 604_799_000) as u32;
        ItemSpec { draw_ms, closes_at_ms: UnixMillis(604_801_000), ..self.spec() }
    }
    fn seed(&self) -> DrawSeed {
        DrawSeed([1 + self.numbers[7] as u8 % 255; 32])
    }
    fn price(&self) -> Price {
        Price { minor: self.numbers[1] % (1 << 53), currency: *b"EUR" }
    }
    fn delta(&self) -> i64 {
        (self.numbers[5] % (2 * STOCK_MAX)) as i64 - STOCK_MAX as i64
    }
    fn facts(&self) -> Vec<Fact<'_>> {
        let (at_ms, item, order, quantity) = (self.time(0), self.item(), self.order(), self.quantity());
        let (actor, subject, key) = (self.actor.as_str(), self.subject.as_slice(), self.key.as_slice());
        let (state, pay_by_ms, payment_ref) = (self.state(4), self.time(6), self.reference.as_slice());
        let (to, created_at_ms, granted) = (self.state(5), self.time(7), self.numbers[4] % STOCK_MAX);
        let switch = Switch::from_code((self.numbers[4] % 4) as u8).unwrap();
        let (spec, delta, blocked) = (self.spec(), self.delta(), self.numbers[4] & 1 == 1);
        vec![
            Fact::ItemCreated { at_ms, item, spec, granted, seed: DrawSeed::NONE, actor },
            Fact::ItemChanged { at_ms, item, spec, seed: DrawSeed::NONE, actor },
            Fact::StockAdjusted { at_ms, item, delta, actor, key: b"" },
            Fact::StockAdjusted { at_ms, item, delta, actor, key: b"call" },
            Fact::ItemSwitched { at_ms, item, switch, actor, key: b"call" },
            Fact::ItemSwitched { at_ms, item, switch, actor, key: b"" },
            Fact::OrderPlaced {
                at_ms,
                order,
                quantity,
                state,
                pay_by_ms,
                subject,
                key,
                price: Price::UNKNOWN,
            },
            Fact::OrderPlaced { at_ms, order, quantity, state, pay_by_ms, subject, key, price: self.price() },
            Fact::OrderRefunded {
                at_ms,
                order,
                quantity,
                units: Quantity::ONE,
                refunded: quantity,
                refund_ref: payment_ref,
                actor,
            },
            Fact::PaymentLate { at_ms, order, payment_ref, actor },
            Fact::LatePaymentReturned { at_ms, order, payment_ref, refund_ref: payment_ref, actor },
            Fact::LatePaymentReturned { at_ms, order, payment_ref, refund_ref: b"", actor },
            Fact::HoldExtended { at_ms, order, quantity, state, pay_by_ms, actor },
            Fact::OrderImported {
                at_ms,
                order,
                quantity,
                state,
                created_at_ms,
                pay_by_ms,
                subject,
                key,
                payment_ref,
                money: ImportedMoney { price: self.price(), refund_ref: payment_ref, refunded: 1 },
            },
            Fact::OrderMoved { at_ms, order, quantity, from: state, to, payment_ref, actor },
            Fact::BuyerBlocked { at_ms, subject, blocked, actor },
            Fact::OrderImported {
                at_ms,
                order,
                quantity,
                state,
                created_at_ms,
                pay_by_ms,
                subject,
                key,
                payment_ref,
                money: ImportedMoney::NONE,
            },
            Fact::ClockMark { at_ms },
            Fact::ItemCreated { at_ms, item, spec: self.drawn_spec(), granted, seed: self.seed(), actor },
            Fact::ItemChanged { at_ms, item, spec: self.drawn_spec(), seed: self.seed(), actor },
            Fact::DrawHeld { at_ms, item, entries: granted as u32, units: granted, seed: self.seed() },
            Fact::EntryDrawn { at_ms, order, quantity, to, pay_by_ms },
        ]
    }
    fn rows(&self) -> Vec<StateRow<'_>> {
        let (lsn, version) = (Lsn(self.numbers[0]), self.numbers[6]);
        vec![
            StateRow::Item {
                item: self.item(),
                spec: self.spec(),
                granted: self.numbers[4] % STOCK_MAX,
                flags: (self.numbers[5] % 8) as u8,
                epoch: self.numbers[2] as u32,
                draw: None,
                version,
                last_seq: self.numbers[7] as u32,
                lsn,
            },
            StateRow::Order {
                order: self.order(),
                quantity: self.quantity(),
                state: self.state(4),
                created_at_ms: self.time(5),
                pay_by_ms: self.time(6),
                lsn,
                state_lsn: Lsn(version),
                key_hash: self.numbers[7],
                payment_ref_hash: self.numbers[3],
                entry: false,
                drawn: false,
                subject: &self.subject,
                key: &self.key,
                price: self.price(),
                refunded: 1,
            },
            StateRow::Money(MoneyRow {
                order: self.order(),
                kind: MoneyKind::from_code((self.numbers[1] % 6) as u8).unwrap(),
                at_ms: self.time(5),
                lsn,
                units: self.numbers[2] as u32,
                reference_hash: self.numbers[3],
                reference: &self.reference,
            }),
            StateRow::Call(CallRow {
                item: self.item(),
                key_hash: self.numbers[3],
                asked: self.delta(),
                lsn,
            }),
            StateRow::Blocked { subject: &self.subject },
            StateRow::Audit(AuditRow {
                lsn,
                at_ms: self.time(5),
                action: AuditAction::from_code((self.numbers[6] % 11) as u8).unwrap(),
                item: (version & 1 == 1).then(|| self.item()),
                order: (version & 2 == 2).then(|| self.order()),
                units: self.delta(),
                actor: &self.actor,
                subject: &self.key,
            }),
        ]
    }
    /// The rows of an item with a draw, before and after it was held, and of its orders.
    fn draw_rows(&self) -> Vec<StateRow<'_>> {
        let [item, order, ..] = self.rows()[..] else { panic!("items and orders come first") };
        let with_draw = |drawn: Option<Drawn>| {
            let mut row = item;
            if let StateRow::Item { spec, flags, draw, .. } = &mut row {
                (*spec, *draw) = (self.drawn_spec(), Some(DrawRow { seed: self.seed(), drawn }));
                *flags |= if drawn.is_some() { 8 } else { 0 };
            }
            row
        };
        let marked = |is_entry, was_drawn| {
            let mut row = order;
            if let StateRow::Order { entry, drawn, .. } = &mut row {
                (*entry, *drawn) = (is_entry, was_drawn);
            }
            row
        };
        let (units, entries) = (self.numbers[4] % STOCK_MAX, self.numbers[5] as u32);
        let drawn = Drawn { at_ms: self.time(6), units, entries, last_seq: self.numbers[3] as u32 };
        vec![with_draw(None), with_draw(Some(drawn)), marked(true, false), marked(true, true)]
    }
}

proptest! {
    #[test]
    fn every_fact_comes_back_and_no_shorter_or_longer_one_does(parts in parts()) {
        for fact in parts.facts() {
            let mut bytes = [0xA5; FACT_BYTES_MAX];
            let len = encode(&fact, &mut bytes);
            let kind = fact_kind(&fact);
            prop_assert_eq!(decode(kind, &bytes[..len]), Ok(fact));
            prop_assert_eq!(decode(kind, &bytes[..=len]), Err(DecodeError::Trailing(1)));
            for short in 0..len {
                prop_assert!(decode(kind, &bytes[..short]).is_err());
            }
        }
    }

    #[test]
    fn every_row_comes_back(parts in parts()) {
        for row in parts.rows().into_iter().chain(parts.draw_rows()) {
            let mut bytes = [0xA5; ROW_BYTES_MAX];
            let len = encode_row(&row, &mut bytes);
            prop_assert_eq!(bytes[0], row_kind(&row));
            prop_assert_eq!(decode_row(&bytes[..len]), Ok(row));
            prop_assert_eq!(decode_row(&bytes[..=len]), Err(DecodeError::Trailing(1)));
            for short in 0..len {
                prop_assert!(decode_row(&bytes[..short]).is_err());
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(kind in 0..24_u16, bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        // Whatever is let through is in range: writing it again does not panic either.
        let mut again = [0; FACT_BYTES_MAX];
        if let Ok(fact) = decode(kind, &bytes) {
            let len = encode(&fact, &mut again);
            prop_assert_eq!(&again[..len], &bytes[..]);
        }
        if let Ok(row) = decode_row(&bytes) {
            encode_row(&row, &mut again);
        }
    }

    #[test]
    fn no_flipped_bit_makes_it_panic(parts in parts(), at in any::<prop::sample::Index>(), bit in 0..8) {
        for fact in parts.facts() {
            let mut bytes = [0; FACT_BYTES_MAX];
            let len = encode(&fact, &mut bytes);
            bytes[at.index(len)] ^= 1_u8 << bit;
            if let Ok(changed) = decode(fact_kind(&fact), &bytes[..len]) {
                let mut again = [0; FACT_BYTES_MAX];
                let len = encode(&changed, &mut again);
                prop_assert_eq!(&again[..len], &bytes[..len]);
            }
        }
    }
}

#[test]
fn kinds_are_what_they_were() {
    // Written down once: a changed number here would make old logs unreadable.
    let parts = Parts {
        numbers: [1; 8],
        subject: b"s".to_vec(),
        key: Vec::new(),
        reference: Vec::new(),
        actor: "a".to_owned(),
        name: "n".to_owned(),
    };
    let kinds: Vec<_> = parts.facts().iter().map(fact_kind).collect();
    assert_eq!(kinds, [1, 2, 3, 19, 20, 4, 5, 14, 15, 16, 21, 21, 17, 18, 6, 7, 8, 9, 10, 11, 12, 13]);
    assert_eq!(parts.rows().iter().map(row_kind).collect::<Vec<_>>(), [5, 8, 9, 10, 3, 4]);
    assert_eq!(parts.draw_rows().iter().map(row_kind).collect::<Vec<_>>(), [6, 6, 8, 8]);
    assert_eq!(decode(22, &[]), Err(DecodeError::Kind(22)));
}

/// A name of up to 200 bytes is written as it always was; of a longer one there is one spelling, too.
#[test]
fn old_names_keep_their_bytes_and_longer_ones_one_encoding() {
    let mut parts = Parts {
        numbers: [1; 8],
        subject: b"s".to_vec(),
        key: Vec::new(),
        reference: Vec::new(),
        actor: "a".to_owned(),
        name: String::new(),
    };
    let mut written = |len: usize| {
        parts.name = "😀".repeat(len / 4) + &"n".repeat(len % 4);
        let mut bytes = [0; FACT_BYTES_MAX];
        let len = encode(&parts.facts()[1], &mut bytes);
        bytes[..len].to_vec()
    };
    // time, item, and the fixed part of the settings; behind the name the actor.
    let (name_at, actor) = (8 + 4 + 51, 2);
    for len in [1, 199, 200] {
        let bytes = written(len);
        assert_eq!((usize::from(bytes[name_at]), bytes.len()), (len, name_at + 1 + len + actor));
    }
    for len in [201, 255, 256, ITEM_NAME_BYTES_MAX] {
        let bytes = written(len);
        assert_eq!(bytes[name_at..name_at + 3], [255, len as u8, (len >> 8) as u8]);
        assert!(decode(2, &bytes).is_ok());
    }
    // The long way to write a short name, lengths between the two, and one beyond the bound.
    let short = written(200);
    let mut twisted = short[..name_at].to_vec();
    twisted.extend_from_slice(&[255, 200, 0]);
    twisted.extend_from_slice(&short[name_at + 1..]);
    assert_eq!(decode(2, &twisted), Err(DecodeError::Range("name")));
    let mut long = written(ITEM_NAME_BYTES_MAX);
    long[name_at + 1..name_at + 3].copy_from_slice(&801_u16.to_le_bytes());
    assert_eq!(decode(2, &long), Err(DecodeError::Range("name")));
    for len in 201..255 {
        let mut bytes = written(254);
        bytes[name_at] = len;
        assert_eq!(decode(2, &bytes), Err(DecodeError::Range("name")), "{len}");
    }
}

#[test]
fn an_item_of_old_is_read_with_epoch_0() {
    let parts = Parts {
        numbers: [5; 8],
        subject: b"s".to_vec(),
        key: Vec::new(),
        reference: Vec::new(),
        actor: "a".to_owned(),
        name: "n".to_owned(),
    };
    let row = parts.rows()[0];
    let mut bytes = [0; ROW_BYTES_MAX];
    let len = encode_row(&row, &mut bytes);
    // Kind 1 is kind 5 without the four bytes in front of the settings.
    let mut old = bytes[..len].to_vec();
    old[0] = 1;
    let epoch_at = 1 + 4 + 8 + 1 + 8 + 4 + 8;
    assert_eq!(old.drain(epoch_at..epoch_at + 4).collect::<Vec<_>>(), [5, 0, 0, 0]);
    let StateRow::Item { item, spec, granted, flags, version, last_seq, lsn, .. } = row else {
        panic!("an item comes first")
    };
    let read = StateRow::Item { item, spec, granted, flags, epoch: 0, draw: None, version, last_seq, lsn };
    assert_eq!(decode_row(&old), Ok(read));
}

/// Orders as snapshots of November 2026 and before have them: no text, no price, no refund.
#[test]
fn an_order_of_old_is_read_without_texts() {
    let parts = Parts {
        numbers: [6; 8],
        subject: b"ann".to_vec(),
        key: b"key".to_vec(),
        reference: Vec::new(),
        actor: "a".to_owned(),
        name: "n".to_owned(),
    };
    let rows = parts.draw_rows();
    for (row, kind) in [(parts.rows()[1], 2), (rows[2], 7)] {
        let mut bytes = [0; ROW_BYTES_MAX];
        let len = encode_row(&row, &mut bytes);
        // Kinds 2 and 7 end with the subject; kind 2 has no marks before it.
        let mut old = bytes[..len - (1 + 3) - (8 + 3) - 4].to_vec();
        old[0] = kind;
        if kind == 2 {
            old.remove(old.len() - 1 - 3 - 1);
        }
        let mut expected = row;
        if let StateRow::Order { key, price, refunded, .. } = &mut expected {
            (*key, *price, *refunded) = (b"", Price::UNKNOWN, 0);
        }
        assert_eq!(decode_row(&old), Ok(expected), "kind {kind}");
    }
}

//! Tickets: for another buyer, item, sale or purpose, out of time, flipped, cut, retired.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD as BASE64};
use stampede_core::types::{ItemId, UnixMillis};
use stampede_net::gate::seal::{Claim, Note, Purpose, SealKey};

use crate::case::{Case, texts};
use crate::engine::{Engine, TICKETED, TICKETED_TOO, ticket_keys};

const YES: &str = "201 confirmed";
const NO: &str = "403 ticket_invalid";

/// A ticket, and what a test may change about it.
struct Sealed {
    key: SealKey,
    purpose: Purpose,
    subject: String,
    item: u32,
    epoch: i64,
    from_ms: i64,
    until_ms: i64,
}

impl Sealed {
    fn text(&self, engine: &Engine) -> String {
        let (gauge, now) = (engine.gauge(TICKETED), engine.now().0 as i64);
        let claim = Claim {
            subject: self.subject.as_bytes(),
            item: ItemId::new(self.item.into()).expect("a number"),
            epoch: (i64::from(gauge.epoch()) + self.epoch) as u32,
        };
        let at = |delta: i64| UnixMillis((now + delta) as u64);
        let note = Note { from_ms: at(self.from_ms), until_ms: at(self.until_ms), serial: (0, 1) };
        self.key.seal(self.purpose, &claim, &note)
    }
}

fn good(run: u64) -> Sealed {
    Sealed {
        key: ticket_keys().swap_remove(0),
        purpose: Purpose::Ticket,
        subject: format!("b{run:07}"),
        item: TICKETED,
        epoch: 0,
        from_ms: -1_000,
        until_ms: 60_000,
    }
}

/// A purchase that shows this ticket, as the run's own buyer.
fn with_ticket(run: u64, ticket: &str) -> Vec<u8> {
    let body = format!("{{\"ticket\":\"{ticket}\",\"quantity\":1}}");
    format!(
        "POST /v1/items/{TICKETED}/orders HTTP/1.1\r\nHost: a\r\nX-Buyer: b{run:07}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn changed(verdict: &str, change: impl Fn(&mut Sealed) + 'static) -> Case {
    Case::made(verdict, move |engine, run| {
        let mut sealed = good(run);
        change(&mut sealed);
        with_ticket(run, &sealed.text(engine))
    })
}

/// A case with the text of a good ticket, spoilt.
fn spoilt(verdict: &str, spoil: impl Fn(String) -> String + 'static) -> Case {
    Case::made(verdict, move |engine, run| with_ticket(run, &spoil(good(run).text(engine))))
}

fn key(id: u8, fill: u8) -> SealKey {
    SealKey::new(id, &[fill; 32]).expect("long enough")
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        changed(YES, |_| {}),
        changed(YES, |sealed| sealed.key = ticket_keys().swap_remove(1)),
        changed(NO, |sealed| sealed.key = key(3, 13)),
        changed(NO, |sealed| sealed.key = key(2, 13)),
        changed(NO, |sealed| sealed.key = key(2, 11)),
        changed(NO, |sealed| sealed.key = key(0, 0)),
        changed(NO, |sealed| sealed.purpose = Purpose::Challenge),
        changed(NO, |sealed| sealed.subject = "somebody".into()),
        changed(NO, |sealed| sealed.subject = sealed.subject.to_uppercase()),
        changed(NO, |sealed| sealed.subject.push('\u{200b}')),
        changed(NO, |sealed| sealed.subject.clear()),
        changed(NO, |sealed| sealed.item = TICKETED_TOO),
        changed(NO, |sealed| sealed.item = 99),
        changed(NO, |sealed| sealed.epoch = 1),
        changed(NO, |sealed| sealed.epoch = -1),
        changed(NO, |sealed| (sealed.from_ms, sealed.until_ms) = (-61_000, -1_000)),
        changed(NO, |sealed| (sealed.from_ms, sealed.until_ms) = (-61_000, -1)),
        changed(NO, |sealed| (sealed.from_ms, sealed.until_ms) = (50_000, 110_000)),
        changed(NO, |sealed| (sealed.from_ms, sealed.until_ms) = (60_000, -60_000)),
        spoilt(NO, |text| text[..95].to_owned()),
        spoilt(NO, |text| text[..64].to_owned()),
        spoilt(NO, |text| text[..53].to_owned()),
        spoilt(NO, |text| text[1..].to_owned()),
        spoilt(NO, |text| text + "A"),
        spoilt(NO, |text| text + "="),
        spoilt(NO, |text| format!(" {text}")),
        spoilt(NO, |text| text.clone() + &text),
        spoilt(NO, |text| text.to_lowercase()),
        spoilt(NO, |text| format!("{}\\u0041{}", &text[..40], &text[41..])),
        spoilt(NO, |_| "A".repeat(96)),
        spoilt(NO, |_| String::new()),
        spoilt(NO, |text| {
            // Where both alphabets spell it alike, a plus says the rest.
            let standard = BASE64_STANDARD_NO_PAD.encode(BASE64.decode(&text).expect("base64"));
            if standard == text { format!("+{}", &text[1..]) } else { standard }
        }),
    ];
    // A bit in every field of the note, and in the first, the middle and the last byte of the seal.
    for byte in [0, 1, 2, 3, 4, 8, 12, 20, 28, 32, 39, 40, 56, 71] {
        for bit in [0, 7] {
            cases.push(spoilt(NO, move |text| {
                let mut bytes = BASE64.decode(text).expect("base64");
                bytes[byte] ^= 1 << bit;
                BASE64.encode(bytes)
            }));
        }
    }
    cases.extend(asked_for());
    cases
}

/// Tickets that are asked for, and purchases without one.
fn asked_for() -> Vec<Case> {
    texts(&[
        (
            "POST /v1/items/9/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 2¶¶{}",
            "403 ticket_required",
        ),
        ("POST /v1/items/9/ticket HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 2¶¶{}", "201 ticket"),
        ("POST /v1/items/9/ticket HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 0¶¶", "201 ticket"),
        ("POST /v1/items/9/ticket HTTP/1.1¶Host: a¶X-Buyer: b#######¶¶", "201 ticket"),
        (
            "POST /v1/items/9/ticket HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 11¶¶{\"item\":\"9\"}",
            "400 bad_json | 400 bad_request, closes",
        ),
        (
            "POST /v1/items/9/ticket HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 12¶¶{\"item\":\"9\"}",
            "400 unknown_field",
        ),
        (
            "POST /v1/items/9/ticket HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 15¶¶{\"challenge\":1}",
            "400 bad_request",
        ),
        (
            "POST /v1/items/9/ticket HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 14¶¶{\"answer\":\"1\"}",
            "400 bad_request",
        ),
        (
            "POST /v1/items/14/ticket HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 2¶¶{}",
            "403 challenge_required",
        ),
        ("POST /v1/items/9/ticket HTTP/1.1¶Host: a¶Content-Length: 2¶¶{}", "401 unauthenticated"),
        ("POST /v1/items/11/ticket HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 2¶¶{}", "403 not_open"),
        ("POST /v1/items/12/ticket HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 2¶¶{}", "403 ended"),
        ("GET /v1/items/9/ticket HTTP/1.1¶Host: a¶X-Buyer: b#######¶¶", "405 method_not_allowed"),
    ])
}

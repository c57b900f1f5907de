//! One line of the table: bytes, the verdict on them, and how both are checked.
//!
//! In the text of a request `¶` stands for CRLF, `‹ff›` for the byte with that number, and
//! `#######` for the number of the run, so that every run can have a buyer of its own.
//!
//! A verdict lists the answers, each with its status and its code or the order's state, with
//! ` | ` between them; `, closes` at the end says that the connection ends, `waits` that a request
//! has begun and not ended. Behind `>>` stands what comes of it when a purchase follows. It is
//! left out where that can be told: nothing more from a connection that ends, and one order
//! more from one that stays.

use stampede_net::http::route::Listener;

use crate::answers::Answers;
use crate::engine::{CANARY_ITEM, Engine, Naming, Run};
use crate::tokens;

/// What makes the bytes of a run, out of its number.
type Make = Box<dyn Fn(&Engine, u64) -> Vec<u8>>;

/// A request, or several, and the verdict.
pub(crate) struct Case {
    listener: Listener,
    make: Make,
    verdict: String,
}

/// How often the table was put to the engine.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    pub(crate) cases: usize,
    pub(crate) runs: usize,
    pub(crate) bought: u64,
}

impl Case {
    /// A case whose bytes are a text.
    pub(crate) fn text(text: &str, verdict: &str) -> Self {
        let bytes = raw(text);
        Self::made(verdict, move |_, run| numbered(&bytes, run))
    }

    /// A case whose bytes depend on the engine or the run.
    pub(crate) fn made(verdict: &str, make: impl Fn(&Engine, u64) -> Vec<u8> + 'static) -> Self {
        Self { listener: Listener::Public, make: Box::new(make), verdict: verdict.to_owned() }
    }

    /// The same for the merchant's listener.
    pub(crate) fn merchant(text: &str, verdict: &str) -> Self {
        Self { listener: Listener::Merchant, ..Self::text(text, verdict) }
    }
}

/// Many cases, each a text and its verdict.
pub(crate) fn texts(rows: &[(&str, &str)]) -> Vec<Case> {
    rows.iter().map(|(text, verdict)| Case::text(text, verdict)).collect()
}

/// The bytes that a text stands for.
pub(crate) fn raw(text: &str) -> Vec<u8> {
    let text = text.replace('¶', "\r\n");
    let mut parts = text.split('‹');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_once('›').expect("a byte has an end");
        bytes.push(u8::from_str_radix(hex, 16).expect("a byte in hexadecimal"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

/// Puts the number of the run in its places.
fn numbered(bytes: &[u8], run: u64) -> Vec<u8> {
    const PLACE: &[u8] = b"#######";
    let mut bytes = bytes.to_vec();
    let number = format!("{run:07}");
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(PLACE.len()).position(|part| part == PLACE) {
        at += found;
        bytes[at..at + PLACE.len()].copy_from_slice(number.as_bytes());
    }
    bytes
}

/// A purchase that must be executed exactly where the connection stays usable.
fn canary(naming: Naming, run: u64) -> Vec<u8> {
    let who = match naming {
        Naming::Header => format!("X-Buyer: c{run:07}"),
        Naming::Token => format!("Authorization: Bearer {}", tokens::of(&format!("c{run:07}"))),
    };
    format!(
        "POST /v1/items/{CANARY_ITEM}/orders HTTP/1.1\r\nHost: canary\r\n{who}\r\n\
         Content-Length: 14\r\n\r\n{{\"quantity\":1}}"
    )
    .into_bytes()
}

/// Puts every case to one engine, alone and with a canary behind it, cut everywhere.
pub(crate) fn check_all(naming: Naming, cases: &[Case]) -> Tally {
    let (mut engine, mut tally, mut run) = (Engine::new(naming), Tally::default(), 0);
    let mut wrong = Vec::new();
    for case in cases {
        wrong.extend(check(&mut engine, case, &mut run, &mut tally).err());
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{tally:?}");
    tally
}

fn check(engine: &mut Engine, case: &Case, run: &mut u64, tally: &mut Tally) -> Result<(), String> {
    let (alone, behind) = verdicts(&case.verdict);
    let before = engine.sold();
    let mut bought = 0;
    for (with_canary, expected) in [(false, &alone), (true, &behind)] {
        let mut make = |cuts: &[usize]| {
            *run += 1;
            let mut bytes = (case.make)(engine, *run);
            if with_canary {
                bytes.extend(canary(engine.naming, *run));
            }
            Run { listener: case.listener, cuts: cuts.to_vec(), bytes }
        };
        let whole = make(&[]);
        let len = whole.bytes.len();
        let everywhere: Vec<usize> = (1..len).collect();
        let mut runs = vec![whole, make(&everywhere)];
        // Behind the canary every position of the case is among them.
        if with_canary {
            runs.extend(positions(len).into_iter().map(|at| make(&[at])));
        }
        let shown = runs[0].bytes.escape_ascii().to_string();
        let answers = engine.answers(&runs);
        let said = answers[0].brief();
        if said != *expected {
            return Err(format!("{shown:.300}\n   expected {expected}\n   answered {said}"));
        }
        let masked = answers[0].masked();
        if let Some(other) = answers.iter().position(|answers| answers.masked() != masked) {
            let (cuts, said) = (&runs[other].cuts, answers[other].brief());
            return Err(format!("{shown:.300}\n   cut at {cuts:.20?} is answered {said}, whole {expected}"));
        }
        bought += answers.iter().map(Answers::bought).sum::<u64>();
        tally.runs += runs.len();
    }
    tally.cases += 1;
    tally.bought += bought;
    let sold = engine.sold() - before;
    if sold == bought {
        return Ok(());
    }
    let shown = (case.make)(engine, 0).escape_ascii().to_string();
    Err(format!("{shown:.300}\n   {bought} units were answered for, and {sold} went"))
}

/// What comes of a case alone, and with a canary behind it.
fn verdicts(verdict: &str) -> (String, String) {
    const BOUGHT: &str = "201 confirmed";
    match verdict.split_once(" >> ") {
        Some((alone, behind)) => (alone.to_owned(), behind.to_owned()),
        None if verdict.ends_with("closes") => (verdict.to_owned(), verdict.to_owned()),
        None if verdict.is_empty() => (String::new(), BOUGHT.to_owned()),
        None => {
            assert!(!verdict.ends_with("waits"), "what comes of the canary behind `{verdict}`?");
            (verdict.to_owned(), format!("{verdict} | {BOUGHT}"))
        }
    }
}

/// Where to cut: everywhere; in what is longer than any head, everywhere near both ends.
fn positions(len: usize) -> Vec<usize> {
    const EVERY: usize = 9_000;
    const NEAR: usize = 600;
    const STEP: usize = 997;
    let middle = |at: &usize| len <= EVERY || *at < NEAR || at + NEAR > len || at.is_multiple_of(STEP);
    (1..len).filter(middle).collect()
}

//! Tickets, challenges and tokens: nobody makes one, changes one, or reads one as another.
//!
//! The first byte says which of four games is played with the rest.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use stampede_core::limits::SUBJECT_BYTES_MAX;
use stampede_core::types::{ItemId, UnixMillis};
use stampede_net::gate::challenge::Challenges;
use stampede_net::gate::seal::{Claim, Note, Purpose, SealKey, open};
use stampede_net::identity::key::IdentityKey;
use stampede_net::identity::mint::MintKey;
use stampede_net::identity::rules::TokenRules;
use stampede_net::identity::token;

use crate::json::members;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const NOTE: Note =
    Note { from_ms: UnixMillis(NOW.0 - 1_000), until_ms: UnixMillis(NOW.0 + 1_000), serial: (3, 7) };
const SECRET: [u8; 32] = [5; 32];

/// Plays the game.
///
/// # Panics
/// When something counts that was not made for this.
pub fn check(data: &[u8]) {
    let Some((&game, rest)) = data.split_first() else { return };
    match game % 4 {
        0 => check_text(rest),
        1 => check_edited(rest),
        2 => check_signed(rest),
        _ => check_token(rest),
    }
}

fn keys() -> [SealKey; 2] {
    [(2, 12), (1, 11)].map(|(id, fill)| SealKey::new(id, &[fill; 32]).expect("long enough"))
}

fn claim(subject: &[u8]) -> Claim<'_> {
    Claim { subject, item: ItemId::new(9).expect("a number"), epoch: 3 }
}

/// Any text: without the key it is no note, and as a challenge it is not solved.
fn check_text(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    for purpose in [Purpose::Ticket, Purpose::Challenge] {
        assert!(open(&keys(), purpose, text, &claim(b"ann"), NOW).is_none(), "a note out of nothing");
    }
    let challenges = Challenges::new(1, &[9; 64], 60_000, 4);
    let (challenge, answer) = text.split_once('/').unwrap_or((text, ""));
    assert!(!challenges.solves(challenge, answer, &claim(b"ann"), NOW), "solved out of nothing");
}

/// A note of ours, edited: pairs of a position and what is flipped there. The text counts if it
/// is the one that was sealed, and else not; nor for anybody or anything else.
fn check_edited(edits: &[u8]) {
    let keys = keys();
    let sealed = keys[usize::from(edits.len() % 2 == 1)].seal(Purpose::Ticket, &claim(b"ann"), &NOTE);
    let mut bytes = sealed.clone().into_bytes();
    for edit in edits.chunks_exact(2) {
        let at = usize::from(edit[0]) % (bytes.len() + 1);
        match bytes.get_mut(at) {
            Some(byte) => *byte ^= edit[1] & 0x7f,
            None => bytes.push(edit[1] & 0x7f),
        }
    }
    let text = String::from_utf8(bytes).expect("ASCII stays ASCII");
    let opened = open(&keys, Purpose::Ticket, &text, &claim(b"ann"), NOW);
    assert_eq!(opened, (text == sealed).then_some(NOTE), "{text}");
    let other = Claim { epoch: 4, ..claim(b"ann") };
    for (purpose, claim, now) in [
        (Purpose::Challenge, claim(b"ann"), NOW),
        (Purpose::Ticket, claim(b"bob"), NOW),
        (Purpose::Ticket, other, NOW),
        (Purpose::Ticket, claim(b"ann"), NOTE.until_ms),
        (Purpose::Ticket, claim(b"ann"), UnixMillis(NOTE.from_ms.0 - 1)),
    ] {
        assert!(open(&keys, purpose, &text, &claim, now).is_none(), "{purpose:?} {claim:?} {now:?}: {text}");
    }
}

/// No leeway, and a life that ends where floating point does not follow any more.
fn rules() -> TokenRules {
    TokenRules { nbf_leeway_ms: 0, life_max_ms: u64::MAX / 2, ..TokenRules::default() }
}

fn identity() -> [IdentityKey; 1] {
    [IdentityKey::hs256("k1", &SECRET).expect("a key")]
}

/// Header and claims, with a zero byte between them, signed well: what is taken is strict JSON and
/// says what serde_json reads in it.
fn check_signed(data: &[u8]) {
    let split = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let (header, payload) = (&data[..split], data.get(split + 1..).unwrap_or_default());
    let signer = MintKey::hs256("k1", &SECRET).expect("a key");
    let text = signer.sign(header, payload);
    let Ok(verdict) = verify(text.as_bytes()) else { return };
    let header = members(header, &["alg", "crit", "b64", "kid"]).expect("JSON");
    assert_eq!(header["alg"], "HS256");
    assert!(header.get("crit").is_none() && header.get("b64").is_none());
    assert!(header.get("kid").is_none_or(|kid| kid == "k1"));
    let claims = members(payload, &["sub", "exp", "nbf", "lvl", "since"]).expect("JSON");
    let subject = claims["sub"].as_str().expect("a subject");
    assert_eq!(verdict.buyer.subject.as_bytes(), subject.as_bytes());
    assert!(
        !subject.is_empty() && subject.len() <= SUBJECT_BYTES_MAX && !subject.chars().any(char::is_control)
    );
    let number = |name: &str| claims.get(name).map(|value| value.as_u64().expect("a plain number"));
    // A time is any number, and floating point does not tell which millisecond it is.
    let ms = |name: &str| claims.get(name).map(|value| value.as_f64().expect("a number") * 1_000.0);
    assert!(ms("exp").expect("an end") > NOW.0 as f64 - 1.0);
    assert!(ms("nbf").unwrap_or(0.0) < NOW.0 as f64 + 1.0);
    assert_eq!(u64::from(verdict.buyer.level), number("lvl").unwrap_or(0));
    assert_eq!(verdict.buyer.since_s.is_some(), claims.get("since").is_some());
}

/// A token of ours, edited: it counts if it is the one that was signed, and else not.
fn check_token(edits: &[u8]) {
    let signer = MintKey::hs256("k1", &SECRET).expect("a key");
    let good = signer.sign(br#"{"alg":"HS256","kid":"k1"}"#, br#"{"sub":"ann","exp":4102444800}"#);
    let mut bytes = good.clone().into_bytes();
    for edit in edits.chunks_exact(2) {
        let at = usize::from(edit[0]) % (bytes.len() + 1);
        match edit[1] {
            0x80 => bytes.truncate(at),
            flip if at < bytes.len() => bytes[at] ^= flip,
            byte => bytes.push(byte),
        }
        if bytes.is_empty() {
            return;
        }
    }
    let taken = verify(&bytes).is_ok();
    assert_eq!(taken, bytes == good.as_bytes(), "{}", bytes.escape_ascii());
    assert!(verify(BASE64.encode(edits).as_bytes()).is_err());
}

/// A token that counts now.
fn verify(text: &[u8]) -> Result<token::Verdict, token::Reason> {
    let verdict = token::verify(&identity(), &rules(), text, NOW)?;
    verdict.at(NOW)?;
    Ok(verdict)
}

/// Notes and tokens that are right, and edits of them.
pub fn seeds() -> Vec<Vec<u8>> {
    // A good one under a key that nobody knows.
    let stranger = SealKey::new(2, &[99; 32]).expect("long enough");
    let note = stranger.seal(Purpose::Ticket, &claim(b"ann"), &NOTE);
    let signed = |header: &str, claims: &str| [b"\x02", header.as_bytes(), b"\0", claims.as_bytes()].concat();
    let plain = r#"{"alg":"HS256","kid":"k1"}"#;
    vec![
        [b"\0", note.as_bytes()].concat(),
        [b"\0", note.as_bytes(), b"/12"].concat(),
        vec![1],
        vec![1, 0, 1],
        vec![1, 95, 3, 96, 65],
        vec![1, 60, 1],
        vec![1, 80, 1],
        vec![1, 90, 2],
        signed(plain, r#"{"sub":"ann","exp":4102444800}"#),
        signed(
            plain,
            r#"{"sub":"a\u0062","exp":4102444800,"nbf":1,"lvl":255,"since":0,"x":[{}],"y":18e2444800}"#,
        ),
        signed(r#"{"typ":"JWT","alg":"HS256"}"#, r#"{"exp":4102444800,"sub":"ann"}"#),
        signed(r#"{"alg":"none"}"#, r#"{"sub":"ann","exp":4102444800}"#),
        signed(r#"{"alg":"HS256","crit":["b64"]}"#, r#"{"sub":"ann","exp":1}"#),
        vec![3],
        vec![3, 30, 0x80],
        vec![3, 0, 1, 36, 2],
    ]
}

//! Sealed notes: messages of the engine to itself that a client carries, authenticated by a MAC and
//! readable by anybody. Tickets and challenges are such notes; nobody else can make or change one, or
//! use somebody else's.
//!
//! ```text
//!  0        1        2       3    4       8        12         20         28       40        72
//!  ├────────┼────────┼───────┼────┼───────┼────────┼──────────┼──────────┼────────┼─────────┤
//!  │version │purpose │key id │ 0  │ item  │ epoch  │ from_ms  │ until_ms │ serial │   MAC   │
//!  │   1    │ 1 or 2 │       │    │  u32  │  u32   │   u64    │   u64    │  96 bit│ HMAC-   │
//!  │        │        │       │    │       │        │          │          │        │ SHA-256 │
//!  └────────┴────────┴───────┴────┴───────┴────────┴──────────┴──────────┴────────┴─────────┘
//!   MAC over: bytes 0 to 40, the length of the subject in one byte, the subject
//! ```
//!
//! Numbers are big endian; the 72 bytes travel as 96 characters of base64url, of which every bit counts, so that no
//! note has two spellings. The MAC is checked, in constant time, before anything that it covers is read. Next:
//! [`super::ticket`] and [`super::challenge`].

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use stampede_core::types::{ItemId, UnixMillis};

/// Characters of a note.
pub const NOTE_CHARS: usize = 96;
/// Shortest secret of a key, in bytes.
pub const SECRET_BYTES_MIN: usize = 32;
const VERSION: u8 = 1;
const BODY_BYTES: usize = 40;
const MAC_BYTES: usize = 32;
const NOTE_BYTES: usize = BODY_BYTES + MAC_BYTES;

/// What a note is for. A note is never valid for another purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Purpose {
    /// To buy.
    Ticket = 1,
    /// To be solved.
    Challenge = 2,
}

/// For whom and for what a note is valid: the subject is covered by the MAC, the rest is in the note.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The buyer.
    pub subject: &'a [u8],
    /// The item.
    pub item: ItemId,
    /// The item's epoch: it changes when its window is moved or it is closed.
    pub epoch: u32,
}

/// What a note says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    /// First moment at which it is valid, on the sale clock.
    pub from_ms: UnixMillis,
    /// First moment at which it is no longer valid.
    pub until_ms: UnixMillis,
    /// Which core made it, and its number among those of that core.
    pub serial: (u32, u64),
}

/// A key that seals notes, with its number.
#[derive(Clone)]
pub struct SealKey {
    id: u8,
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealKey({})", self.id)
    }
}

impl SealKey {
    /// The key with this number and secret; `None` for a secret below [`SECRET_BYTES_MIN`] bytes.
    pub fn new(id: u8, secret: &[u8]) -> Option<Self> {
        let mac = Hmac::new_from_slice(secret).ok()?;
        (secret.len() >= SECRET_BYTES_MIN).then_some(Self { id, mac })
    }

    /// Its number.
    pub const fn id(&self) -> u8 {
        self.id
    }

    /// Seals a note, as text.
    pub fn seal(&self, purpose: Purpose, claim: &Claim<'_>, note: &Note) -> String {
        let mut bytes = [0; NOTE_BYTES];
        bytes[..BODY_BYTES].copy_from_slice(&body(self.id, purpose, claim, note));
        let mac = self.mac(&bytes[..BODY_BYTES], claim.subject).finalize().into_bytes();
        bytes[BODY_BYTES..].copy_from_slice(&mac);
        BASE64.encode(bytes)
    }

    /// 32 bytes that follow from a note and this key; nobody without the key can derive them.
    pub fn derive(&self, purpose: Purpose, claim: &Claim<'_>, note: &Note) -> [u8; 32] {
        self.mac(&body(self.id, purpose, claim, note), claim.subject).finalize().into_bytes().into()
    }

    fn mac(&self, body: &[u8], subject: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(body);
        mac.update(&[subject.len() as u8]);
        mac.update(subject);
        mac
    }
}

/// Reads a note, if one of the keys sealed it for this purpose and claim, and it is valid now.
/// Allocates nothing.
pub fn open(
    keys: &[SealKey],
    purpose: Purpose,
    text: &str,
    claim: &Claim<'_>,
    now: UnixMillis,
) -> Option<Note> {
    let mut bytes = [0; NOTE_BYTES];
    if text.len() != NOTE_CHARS || BASE64.decode_slice_unchecked(text, &mut bytes).ok()? != NOTE_BYTES {
        return None;
    }
    let key = keys.iter().find(|key| key.id == bytes[2])?;
    let mac = key.mac(&bytes[..BODY_BYTES], claim.subject);
    mac.verify_slice(&bytes[BODY_BYTES..]).ok()?;
    let note = Note {
        from_ms: UnixMillis(u64_at(&bytes, 12)),
        until_ms: UnixMillis(u64_at(&bytes, 20)),
        serial: (u32_at(&bytes, 28), u64_at(&bytes, 32)),
    };
    // The note is genuine; whether it was made for this purpose and claim is compared as a whole.
    let meant = bytes[..BODY_BYTES] == body(key.id, purpose, claim, &note);
    (meant && note.from_ms <= now && now < note.until_ms).then_some(note)
}

fn body(key: u8, purpose: Purpose, claim: &Claim<'_>, note: &Note) -> [u8; BODY_BYTES] {
    let mut body = [0; BODY_BYTES];
    body[..4].copy_from_slice(&[VERSION, purpose as u8, key, 0]);
    body[4..8].copy_from_slice(&claim.item.get().to_be_bytes());
    body[8..12].copy_from_slice(&claim.epoch.to_be_bytes());
    body[12..20].copy_from_slice(&note.from_ms.0.to_be_bytes());
    body[20..28].copy_from_slice(&note.until_ms.0.to_be_bytes());
    body[28..32].copy_from_slice(&note.serial.0.to_be_bytes());
    body[32..40].copy_from_slice(&note.serial.1.to_be_bytes());
    body
}

fn u32_at(bytes: &[u8; NOTE_BYTES], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8; NOTE_BYTES], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: Note = Note { from_ms: UnixMillis(1_000), until_ms: UnixMillis(61_000), serial: (1, 7) };

    fn key(id: u8, fill: u8) -> SealKey {
        SealKey::new(id, &[fill; 32]).unwrap()
    }
    fn claim(subject: &str) -> Claim<'_> {
        Claim { subject: subject.as_bytes(), item: ItemId::new(5).unwrap(), epoch: 3 }
    }
    fn opens(keys: &[SealKey], text: &str, claim: &Claim<'_>, now: u64) -> bool {
        open(keys, Purpose::Ticket, text, claim, UnixMillis(now)).is_some()
    }

    #[test]
    fn a_note_counts_for_its_claim_and_time_alone() {
        let (keys, ann) = ([key(1, 1)], claim("ann"));
        let text = keys[0].seal(Purpose::Ticket, &ann, &NOTE);
        assert_eq!(open(&keys, Purpose::Ticket, &text, &ann, UnixMillis(1_000)), Some(NOTE));
        assert!(opens(&keys, &text, &ann, 60_999), "to its last millisecond");
        assert!(!opens(&keys, &text, &ann, 61_000), "expired by a millisecond");
        assert!(!opens(&keys, &text, &ann, 999), "not yet valid");
        assert!(open(&keys, Purpose::Challenge, &text, &ann, UnixMillis(1_000)).is_none(), "another purpose");
        let others = [
            claim("bob"),
            claim("ann "),
            claim("Ann"),
            claim("an"),
            claim(""),
            Claim { item: ItemId::new(6).unwrap(), ..ann },
            Claim { epoch: 2, ..ann },
            Claim { epoch: 4, ..ann },
        ];
        for other in others {
            assert!(!opens(&keys, &text, &other, 1_000), "{other:?}");
        }
    }

    #[test]
    fn every_bit_of_a_note_counts() {
        let (keys, ann) = ([key(1, 1), key(0, 9)], claim("ann"));
        let text = keys[0].seal(Purpose::Ticket, &ann, &NOTE);
        let bytes = BASE64.decode(&text).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&keys, &BASE64.encode(&flipped), &ann, 2_000), "bit {bit}");
        }
        for at in 0..text.len() {
            assert!(!opens(&keys, &text[..at], &ann, 2_000), "cut at {at}");
            let mut chars = text.clone().into_bytes();
            chars[at] = if chars[at] == b'A' { b'B' } else { b'A' };
            assert!(!opens(&keys, str::from_utf8(&chars).unwrap(), &ann, 2_000), "character {at}");
        }
        for other in
            [format!("{text}="), format!("{text}A"), format!(" {text}"), text.replace(['-', '_'], "+")]
        {
            assert!(other == text || !opens(&keys, &other, &ann, 2_000), "{other}");
        }
    }

    #[test]
    fn keys_are_told_apart_by_number_and_secret() {
        let (old, new, ann) = (key(1, 1), key(2, 2), claim("ann"));
        let text = old.seal(Purpose::Ticket, &ann, &NOTE);
        assert!(opens(&[new.clone(), old.clone()], &text, &ann, 2_000), "the former key counts");
        assert!(!opens(&[new], &text, &ann, 2_000), "a retired key does not");
        assert!(!opens(&[key(1, 3)], &text, &ann, 2_000), "nor another with its number");
        assert!(!opens(&[], &text, &ann, 2_000));
        assert!(SealKey::new(0, &[7; 31]).is_none());
        assert_eq!(format!("{old:?}"), "SealKey(1)");
    }

    #[test]
    fn subjects_cannot_be_shifted_into_one_another() {
        let keys = [key(1, 1)];
        let long = "x".repeat(64);
        let text = keys[0].seal(Purpose::Ticket, &claim(&long), &NOTE);
        assert!(opens(&keys, &text, &claim(&long), 2_000));
        assert!(!opens(&keys, &text, &claim(&long[1..]), 2_000));
        // Two that look alike are two: composed and decomposed.
        let text = keys[0].seal(Purpose::Ticket, &claim("\u{e9}"), &NOTE);
        assert!(!opens(&keys, &text, &claim("e\u{301}"), 2_000));
    }
}

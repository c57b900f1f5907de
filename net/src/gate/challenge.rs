//! Challenges: a small sum to read off a drawing, or, for a client without a screen, a proof of
//! work. Valid once, for one buyer and one item, for a few minutes.
//!
//! A challenge is a sealed note; its sum follows from the note and a secret, so only one bit is kept
//! per challenge: whether it was answered. The first request to set that bit, from any core and
//! connection, has answered; right or wrong, there is no second try. The keys are random and made at
//! the start: no challenge outlives the process.
//!
//! The bits are those of [`stampede_core::once`], one ring per core.
//!
//! The proof of work: a number such that SHA-256 of the ASCII text `challenge:number` begins with
//! `bits` zero bits. It takes 2^bits hashes on the average, and costs the server one.

use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};
use stampede_core::once::OnceRing;
use stampede_core::types::UnixMillis;

use super::drawing::{Sum, draw};
use super::seal::{self, Claim, Note, Purpose, SealKey};
use crate::http::chars::decimal;

/// Bits of a core's ring: 512 KiB, touched as it is used. Half as many challenges of a core can wait
/// for their answers; older ones are invalid.
const RING_BITS: u64 = 1 << 22;

/// Makes challenges and checks answers. Shared by all cores.
pub struct Challenges {
    /// Alone in a slice, as `seal::open` wants it.
    seal: [SealKey; 1],
    sums: SealKey,
    /// One per core, allocated with its first challenge: most sales need none. Answering a challenge uses up
    /// its number.
    rings: Vec<OnceLock<OnceRing>>,
    valid_ms: u64,
    pow_bits: u32,
}

impl std::fmt::Debug for Challenges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Challenges({} ms, {} bits)", self.valid_ms, self.pow_bits)
    }
}

/// A challenge, as the buyer gets it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Posed {
    /// Its text, to be sent back with the answer.
    pub text: String,
    /// The sum, drawn.
    pub svg: String,
    /// First moment at which it is no longer valid.
    pub until_ms: UnixMillis,
    /// Leading zero bits that a proof of work needs instead.
    pub pow_bits: u32,
}

impl Challenges {
    /// Challenges for that many cores, good for `valid_ms` milliseconds, under keys that follow from
    /// `random`.
    pub fn new(cores: usize, random: &[u8; 64], valid_ms: u64, pow_bits: u32) -> Self {
        let key = |secret: &[u8]| SealKey::new(0, secret).expect("32 bytes are enough");
        Self {
            seal: [key(&random[..32])],
            sums: key(&random[32..]),
            rings: (0..cores).map(|_| OnceLock::new()).collect(),
            valid_ms,
            pow_bits,
        }
    }

    /// A new challenge; only `core` calls this with its own number.
    pub fn pose(&self, core: usize, claim: &Claim<'_>, now: UnixMillis) -> Posed {
        let until_ms = UnixMillis(now.0 + self.valid_ms);
        let note = Note {
            from_ms: now,
            until_ms,
            serial: (core as u32, self.rings[core].get_or_init(|| OnceRing::new(RING_BITS)).issue()),
        };
        let (seed, sum) = self.sum(claim, &note);
        Posed {
            text: self.seal[0].seal(Purpose::Challenge, claim, &note),
            svg: draw(sum, &seed),
            until_ms,
            pow_bits: self.pow_bits,
        }
    }

    /// Whether the challenge is valid, and this is its first answer and right.
    pub fn solves(&self, text: &str, answer: &str, claim: &Claim<'_>, now: UnixMillis) -> bool {
        let Some(note) = seal::open(&self.seal, Purpose::Challenge, text, claim, now) else { return false };
        let (core, serial) = note.serial;
        let first =
            self.rings.get(core as usize).and_then(OnceLock::get).is_some_and(|ring| ring.take(serial));
        first && self.is_right(text, answer, claim, &note)
    }

    fn is_right(&self, text: &str, answer: &str, claim: &Claim<'_>, note: &Note) -> bool {
        let Some(number) = decimal(answer.as_bytes()) else { return false };
        let (_, sum) = self.sum(claim, note);
        number == u64::from(sum.answer()) || zero_bits(text, answer) >= self.pow_bits
    }

    fn sum(&self, claim: &Claim<'_>, note: &Note) -> ([u8; 32], Sum) {
        let seed = self.sums.derive(Purpose::Challenge, claim, note);
        (seed, Sum::from_seed(&seed))
    }
}

/// The number of leading zero bits of the hash of `challenge:answer`, up to 64.
fn zero_bits(challenge: &str, answer: &str) -> u32 {
    let mut hash = Sha256::new();
    hash.update(challenge);
    hash.update(b":");
    hash.update(answer);
    let hash = hash.finalize();
    u64::from_be_bytes(hash[..8].try_into().expect("eight bytes")).leading_zeros()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use stampede_core::types::ItemId;

    use super::*;

    const NOW: UnixMillis = UnixMillis(5_000);
    const POW_BITS: u32 = 8;

    fn challenges() -> Challenges {
        Challenges::new(2, &std::array::from_fn(|n| n as u8), 60_000, POW_BITS)
    }
    fn claim(subject: &str) -> Claim<'_> {
        Claim { subject: subject.as_bytes(), item: ItemId::new(5).unwrap(), epoch: 3 }
    }
    fn sum_of(challenges: &Challenges, posed: &Posed, claim: &Claim<'_>) -> String {
        let note = seal::open(&challenges.seal, Purpose::Challenge, &posed.text, claim, NOW).unwrap();
        challenges.sum(claim, &note).1.answer().to_string()
    }
    fn worked(text: &str) -> String {
        (0u64..).map(|n| n.to_string()).find(|n| zero_bits(text, n) >= POW_BITS).unwrap()
    }

    #[test]
    fn the_sum_and_the_work_are_right_once() {
        let (challenges, ann) = (challenges(), claim("ann"));
        let posed = challenges.pose(0, &ann, NOW);
        let sum = sum_of(&challenges, &posed, &ann);
        assert!(challenges.solves(&posed.text, &sum, &ann, NOW));
        assert!(!challenges.solves(&posed.text, &sum, &ann, NOW), "replayed");
        let posed = challenges.pose(1, &ann, NOW);
        let work = worked(&posed.text);
        assert!(challenges.solves(&posed.text, &work, &ann, NOW));
        assert!(!challenges.solves(&posed.text, &work, &ann, NOW), "replayed");
    }

    #[test]
    fn a_wrong_answer_is_the_only_one() {
        let (challenges, ann) = (challenges(), claim("ann"));
        for wrong in ["", "x", "-1", "1e3", "070", "99999999999999999999", "18446744073709551615"] {
            let posed = challenges.pose(0, &ann, NOW);
            let sum = sum_of(&challenges, &posed, &ann);
            let by_chance = zero_bits(&posed.text, wrong) >= POW_BITS && decimal(wrong.as_bytes()).is_some();
            assert!(by_chance || !challenges.solves(&posed.text, wrong, &ann, NOW), "{wrong}");
            assert!(!challenges.solves(&posed.text, &sum, &ann, NOW), "a second try after {wrong:?}");
        }
    }

    #[test]
    fn nobody_elses_nowhere_else_and_not_later() {
        let (challenges, ann) = (challenges(), claim("ann"));
        let solve = |claim: &Claim<'_>, later: u64| {
            let posed = challenges.pose(0, &ann, NOW);
            let sum = sum_of(&challenges, &posed, &ann);
            challenges.solves(&posed.text, &sum, claim, UnixMillis(NOW.0 + later))
        };
        assert!(solve(&ann, 59_999));
        assert!(!solve(&ann, 60_000), "expired");
        assert!(!solve(&claim("bob"), 0));
        assert!(!solve(&Claim { item: ItemId::new(6).unwrap(), ..ann }, 0));
        assert!(!solve(&Claim { epoch: 4, ..ann }, 0));
        let other_process = Challenges::new(2, &[9; 64], 60_000, POW_BITS);
        let posed = other_process.pose(0, &ann, NOW);
        assert!(!challenges.solves(&posed.text, &worked(&posed.text), &ann, NOW), "of another process");
    }

    #[test]
    fn of_a_hundred_concurrent_answers_one_counts() {
        let (challenges, ann) = (challenges(), claim("ann"));
        for _ in 0..20 {
            let posed = challenges.pose(0, &ann, NOW);
            let (sum, start) = (sum_of(&challenges, &posed, &ann), Barrier::new(100));
            let answer = || {
                start.wait();
                challenges.solves(&posed.text, &sum, &ann, NOW)
            };
            let won = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..100).map(|_| scope.spawn(answer)).collect();
                threads.into_iter().map(|t| t.join().unwrap()).filter(|&won| won).count()
            });
            assert_eq!(won, 1);
        }
    }
}

//! A cache of verified tokens, one per core: recognising a known token costs a hash.
//!
//! One table for all connections of the core, since behind a proxy the requests of many buyers share a
//! connection. The key is a keyed 128-bit hash of the token: nobody can choose tokens that collide. Bounded:
//! [`VERDICTS_MAX`] tokens, in sets of [`WAYS`]; in a full set the least recently used one is evicted. Only
//! tokens with a valid signature get in, so invalid ones evict nothing; an expired token is kept as well, since
//! its buyer sends it again and again, and is evicted first. A table belongs to one [`super::Identity`]: tokens
//! that were verified with other keys are dropped.

use stampede_core::types::{HashSecret, UnixMillis};

use super::buyer::Buyer;
use super::token::{Reason, Verdict};
use crate::http::limits::VERDICTS_MAX;

/// Tokens of one set; their hashes fill a cache line.
const WAYS: usize = 4;
const SETS: usize = VERDICTS_MAX / WAYS;
const _: () = assert!(SETS.is_power_of_two());

#[derive(Clone)]
struct Set {
    hashes: [[u64; 2]; WAYS],
    /// When each was last used, by the table's count of look-ups.
    shown: [u64; WAYS],
    verdicts: [Option<Verdict>; WAYS],
}

const FREE: Set = Set { hashes: [[0; 2]; WAYS], shown: [0; WAYS], verdicts: [const { None }; WAYS] };

/// The tokens that a core has verified, with their buyers.
pub struct VerdictCache {
    secret: HashSecret,
    /// The number of the identity that verified them.
    identity: u64,
    /// Empty until the first token.
    sets: Box<[Set]>,
    looks: u64,
}

impl VerdictCache {
    /// An empty cache, which takes no memory. `secret` must be known to nobody outside.
    pub fn new(secret: HashSecret) -> Self {
        Self { secret, identity: 0, sets: Box::default(), looks: 0 }
    }

    /// Forgets all tokens, and keeps the memory.
    pub fn forget(&mut self) {
        self.sets.fill(FREE);
    }

    /// The buyer of this token, or why it is not valid now; `None` if this identity has not verified it.
    pub(super) fn get(
        &mut self,
        identity: u64,
        token: &[u8],
        now: UnixMillis,
    ) -> Option<Result<Buyer, Reason>> {
        if self.sets.is_empty() {
            return None;
        }
        if self.identity != identity {
            self.forget();
            return None;
        }
        let hash = self.secret.token(token);
        self.looks += 1;
        let set = &mut self.sets[hash[0] as usize & (SETS - 1)];
        let way = set.hashes.iter().position(|known| *known == hash)?;
        set.shown[way] = self.looks;
        set.verdicts[way].as_ref().map(|verdict| verdict.at(now))
    }

    /// Remembers a token that this identity has verified at `now`.
    pub(super) fn put(&mut self, identity: u64, token: &[u8], verdict: Verdict, now: UnixMillis) {
        if self.identity != identity {
            self.forget();
            self.identity = identity;
        }
        if self.sets.is_empty() {
            self.sets = vec![FREE; SETS].into_boxed_slice();
        }
        let hash = self.secret.token(token);
        self.looks += 1;
        let set = &mut self.sets[hash[0] as usize & (SETS - 1)];
        let own = set.hashes.iter().position(|known| *known == hash);
        // Free places first, then expired tokens, then the least recently used.
        let counts = |verdict: &Verdict| verdict.until_ms > now.0;
        let cost = |way: usize| (set.verdicts[way].as_ref().map(counts), set.shown[way]);
        let cheapest = (0..WAYS).min_by_key(|&way| cost(way)).filter(|&way| {
            // An expired token evicts no valid one.
            counts(&verdict) || cost(way).0 != Some(true)
        });
        let Some(way) = own.or(cheapest) else { return };
        (set.hashes[way], set.shown[way], set.verdicts[way]) = (hash, self.looks, Some(verdict));
    }
}

impl std::fmt::Debug for VerdictCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerdictCache").field("looks", &self.looks).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use stampede_core::types::Subject;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000);

    fn cache() -> VerdictCache {
        VerdictCache::new(HashSecret([5; 16]))
    }

    fn verdict(name: &str) -> Verdict {
        let subject = Subject::new(name.as_bytes()).expect("a name");
        Verdict { buyer: Buyer { subject, level: 1, since_s: None }, from_ms: 0, until_ms: 2_000 }
    }

    fn name(cache: &mut VerdictCache, token: &str, now: UnixMillis) -> Option<String> {
        let buyer = cache.get(1, token.as_bytes(), now)?.ok()?;
        Some(String::from_utf8(buyer.subject.as_bytes().to_vec()).expect("a name"))
    }

    #[test]
    fn many_tokens_are_known_while_they_are_valid() {
        let mut cache = cache();
        assert_eq!(name(&mut cache, "t1", NOW), None);
        for n in 0..1_000 {
            cache.put(1, format!("t{n}").as_bytes(), verdict(&format!("b{n}")), NOW);
        }
        for n in 0..1_000 {
            assert_eq!(name(&mut cache, &format!("t{n}"), NOW), Some(format!("b{n}")));
        }
        assert_eq!(name(&mut cache, "t1000", NOW), None);
        assert_eq!(name(&mut cache, "t1", UnixMillis(2_000)), None, "its time is over");
        assert_eq!(name(&mut cache, "", NOW), None, "a free place is nobody's");
    }

    #[test]
    fn the_table_is_bounded_and_keeps_tokens_in_use() {
        let mut cache = cache();
        cache.put(1, b"regular", verdict("regular"), NOW);
        for n in 0..4 * VERDICTS_MAX {
            cache.put(1, &n.to_le_bytes(), verdict("stranger"), NOW);
            if n % 64 == 0 {
                assert_eq!(name(&mut cache, "regular", NOW).as_deref(), Some("regular"));
            }
        }
        assert_eq!(cache.sets.len() * WAYS, VERDICTS_MAX);
        let known = (0..4 * VERDICTS_MAX).filter(|n| cache.get(1, &n.to_le_bytes(), NOW).is_some());
        assert!(known.count() < VERDICTS_MAX);
    }

    #[test]
    fn what_other_keys_verified_is_not_valid() {
        let mut cache = cache();
        cache.put(1, b"t", verdict("bob"), NOW);
        assert!(cache.get(2, b"t", NOW).is_none());
        cache.put(2, b"u", verdict("eve"), NOW);
        assert!(cache.get(1, b"u", NOW).is_none() && cache.get(1, b"t", NOW).is_none());
    }

    #[test]
    fn a_token_verified_again_keeps_its_place() {
        let mut cache = cache();
        cache.put(1, b"t", verdict("bob"), NOW);
        cache.put(1, b"t", Verdict { until_ms: 9_000, ..verdict("bob") }, NOW);
        assert!(cache.get(1, b"t", UnixMillis(8_000)).is_some_and(|known| known.is_ok()));
    }

    #[test]
    fn an_expired_token_is_known_and_evicts_no_other() {
        let mut cache = cache();
        let before = Verdict { from_ms: 1_500, ..verdict("early") };
        cache.put(1, b"early", before, NOW);
        assert_eq!(cache.get(1, b"early", NOW), Some(Err(Reason::NotYet)));
        assert_eq!(name(&mut cache, "early", UnixMillis(1_500)).as_deref(), Some("early"));
        assert_eq!(cache.get(1, b"early", UnixMillis(2_000)), Some(Err(Reason::Expired)));
        let mut cache = self::cache();
        for n in 0..4 * VERDICTS_MAX {
            cache.put(1, &n.to_le_bytes(), verdict("bob"), NOW);
        }
        let count = |cache: &mut VerdictCache| {
            (0..4 * VERDICTS_MAX).filter(|n| cache.get(1, &n.to_le_bytes(), NOW).is_some()).count()
        };
        let known = count(&mut cache);
        for n in 0..4 * VERDICTS_MAX {
            let over = Verdict { until_ms: NOW.0, ..verdict("late") };
            cache.put(1, &(!n).to_le_bytes(), over, NOW);
        }
        assert_eq!(count(&mut cache), known);
    }
}

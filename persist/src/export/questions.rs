//! Which differences the engine was asked about, and what it said.
//!
//! At most one question per item is open, so that no difference is answered twice; the
//! protocol is in [`super::event`]. Pure values: time is an argument.

use std::collections::HashMap;
use std::time::Instant;

use stampede_core::types::ItemId;

use super::limits::ANSWER_WAIT_MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ask {
    /// Asked, not answered.
    Open { delta: i64, since: Instant },
    /// The engine could not bear this much, and paused.
    Declined { delta: i64 },
}

/// Questions about items, open or declined.
#[derive(Default, Debug)]
pub(super) struct Asks {
    asks: HashMap<ItemId, Ask>,
}

impl Asks {
    /// Whether to ask about this difference now; if so, the question counts as asked.
    pub(super) fn ask(&mut self, item: ItemId, delta: i64, now: Instant) -> bool {
        let fresh = match self.asks.get(&item) {
            None => delta != 0,
            Some(Ask::Open { .. }) => false,
            Some(Ask::Declined { delta: before }) => delta != 0 && delta != *before,
        };
        if fresh {
            self.asks.insert(item, Ask::Open { delta, since: now });
        }
        fresh
    }

    /// The engine adjusted its stock, or the merchant wants it asked again.
    pub(super) fn clear(&mut self, item: ItemId) {
        self.asks.remove(&item);
    }

    /// The engine paused the item instead.
    pub(super) fn declined(&mut self, item: ItemId, delta: i64) {
        self.asks.insert(item, Ask::Declined { delta });
    }

    /// Gives up questions without an answer. Only right when everything durable has been
    /// exported, since the answer may stand in the log.
    pub(super) fn expire(&mut self, now: Instant) {
        for ask in self.asks.values_mut() {
            if let Ask::Open { delta, since } = *ask
                && now.duration_since(since) >= ANSWER_WAIT_MAX
            {
                *ask = Ask::Declined { delta };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_at_a_time() {
        let (item, now) = (ItemId::new(1).expect("1 is an item"), Instant::now());
        let mut asks = Asks::default();
        assert!(!asks.ask(item, 0, now), "no difference, no question");
        assert!(asks.ask(item, 5, now));
        assert!(!asks.ask(item, 5, now), "it is open");
        assert!(!asks.ask(item, 9, now), "the answer to the first may be under way");
        asks.clear(item);
        assert!(asks.ask(item, 4, now));
        asks.declined(item, 4);
        assert!(!asks.ask(item, 4, now), "declined stays declined");
        assert!(asks.ask(item, 3, now), "until the row changes again");
        asks.expire(now + ANSWER_WAIT_MAX);
        assert!(!asks.ask(item, 3, now));
        asks.clear(item);
        assert!(asks.ask(item, 3, now), "or the merchant resumes the item");
    }
}

//! Which stock differences the engine was asked about, and which it has declined.
//!
//! At most one question per item is open, so that no difference is answered twice; the
//! protocol is in [`super::event`]. Pure values: time is an argument.

use std::collections::HashMap;
use std::time::Instant;

use stampede_core::types::ItemId;

use super::limits::ANSWER_WAIT_MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Question {
    /// Asked, not answered.
    Open { delta: i64, since: Instant },
    /// The engine could not withdraw that many units, and paused the item.
    Declined { delta: i64 },
}

/// Questions about items, open or declined.
#[derive(Default, Debug)]
pub(super) struct Questions {
    questions: HashMap<ItemId, Question>,
}

impl Questions {
    /// Whether to ask about this difference now; if so, the question is open from then on.
    pub(super) fn ask(&mut self, item: ItemId, delta: i64, now: Instant) -> bool {
        let fresh = match self.questions.get(&item) {
            None => delta != 0,
            Some(Question::Open { .. }) => false,
            Some(Question::Declined { delta: before }) => delta != 0 && delta != *before,
        };
        if fresh {
            self.questions.insert(item, Question::Open { delta, since: now });
        }
        fresh
    }

    /// The engine adjusted its stock, or the merchant resumed the item, so that it is asked again.
    pub(super) fn clear(&mut self, item: ItemId) {
        self.questions.remove(&item);
    }

    /// The engine paused the item instead.
    pub(super) fn declined(&mut self, item: ItemId, delta: i64) {
        self.questions.insert(item, Question::Declined { delta });
    }

    /// Gives up questions without an answer. Only allowed when everything durable is exported,
    /// since the answer may be in the log.
    pub(super) fn expire(&mut self, now: Instant) {
        for question in self.questions.values_mut() {
            if let Question::Open { delta, since } = *question
                && now.duration_since(since) >= ANSWER_WAIT_MAX
            {
                *question = Question::Declined { delta };
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
        let mut questions = Questions::default();
        assert!(!questions.ask(item, 0, now), "no difference, no question");
        assert!(questions.ask(item, 5, now));
        assert!(!questions.ask(item, 5, now), "it is open");
        assert!(!questions.ask(item, 9, now), "the answer to the first may be under way");
        questions.clear(item);
        assert!(questions.ask(item, 4, now));
        questions.declined(item, 4);
        assert!(!questions.ask(item, 4, now), "declined stays declined");
        assert!(questions.ask(item, 3, now), "until the row changes again");
        questions.expire(now + ANSWER_WAIT_MAX);
        assert!(!questions.ask(item, 3, now));
        questions.clear(item);
        assert!(questions.ask(item, 3, now), "or the merchant resumes the item");
    }
}

//! What happened in a history, in order: a digest always, a text when somebody reads it.

use crate::book::mix;

/// The events of one history.
pub(crate) struct Trace {
    digest: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(keeps_text: bool) -> Self {
        Self { digest: 0, lines: keeps_text.then(Vec::new) }
    }
    /// Notes an event; its text is made only where it is kept.
    pub(crate) fn note(&mut self, code: &'static str, numbers: &[u64], text: impl FnOnce() -> String) {
        self.digest = mix(self.digest, code.as_bytes());
        for number in numbers {
            self.digest = mix(self.digest, &number.to_le_bytes());
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{code:<10} {}", text()));
        }
    }
    /// Notes bytes that were seen.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.digest = mix(self.digest, bytes);
    }
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }
    pub(crate) fn lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

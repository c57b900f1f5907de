//! Remembers the last refusal, so that the same words need not be read a million times.

use crate::meaning::Code;

/// The last refusal of a thread.
#[derive(Default)]
pub(super) struct LastRefusal {
    status: u16,
    body: Vec<u8>,
    code: Option<Code>,
}

impl LastRefusal {
    /// The meaning of a response, if it is word for word the last refusal.
    pub(super) fn known(&self, status: u16, body: &[u8]) -> Option<Code> {
        self.code.filter(|_| self.status == status && self.body == body)
    }

    pub(super) fn remember(&mut self, status: u16, body: &[u8], code: Code) {
        (self.status, self.code) = (status, Some(code));
        self.body.clear();
        self.body.extend_from_slice(body);
    }
}

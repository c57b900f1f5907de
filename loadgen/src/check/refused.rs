//! Whether a run tried anything: a server that refuses everybody breaks no promise.
//!
//! Next: [`crate::meaning::Code::is_let_in`], which tells a refusal before the sale from one by the sale.

use crate::history::History;
use crate::meaning::{CODES, Code};

/// Outcomes that are named in words; the rest is left out.
const NAMED_MAX: usize = 3;

/// If no request of a run got as far as the sale: what the server said instead, the most frequent
/// outcomes first. A history without any request counts as such.
pub fn nothing_let_in(history: &History) -> Option<String> {
    let mut counts = [0u64; CODES];
    let ends =
        history.entries().iter().map(|entry| entry.code).chain(history.refused().map(|(_, code)| code));
    for code in ends {
        if code.is_let_in() {
            return None;
        }
        counts[code as usize] += 1;
    }
    let mut said: Vec<_> = Code::ALL.iter().map(|&code| (counts[code as usize], code)).collect();
    said.retain(|&(count, _)| count > 0);
    said.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
    let words: Vec<_> =
        said.iter().take(NAMED_MAX).map(|(count, code)| format!("{count} × {}", code.name())).collect();
    Some(if words.is_empty() { "none was sent".to_owned() } else { words.join(", ") })
}

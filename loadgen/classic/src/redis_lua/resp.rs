//! Redis's protocol, as far as the front needs it: one command out, two kinds of reply in.
//!
//! Pure bytes. The command's head is the same for every purchase of an item and is built once.
//! Next: [`super::front`].

use super::Keys;

/// The beginning of a call of the script for one item, up to its keys.
pub(super) struct CallHead(Vec<u8>);

impl CallHead {
    pub(super) fn new(hash: &str, item: u32) -> Self {
        let keys = Keys::of(item);
        let [stock, bought, orders] = keys.in_order();
        let mut head = b"*9\r\n".to_vec();
        for word in ["EVALSHA", hash, "3", stock, bought, orders] {
            push(&mut head, word);
        }
        Self(head)
    }

    /// Adds a whole call.
    pub(super) fn call(&self, out: &mut Vec<u8>, buyer: &str, key: &str, cap: u32) {
        out.extend_from_slice(&self.0);
        push(out, buyer);
        push(out, key);
        push(out, &cap.to_string());
    }
}

/// A command of plain words.
pub(super) fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| push(&mut out, word));
    out
}

fn push(out: &mut Vec<u8>, word: &str) {
    out.push(b'$');
    out.extend_from_slice(word.len().to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reply<'a> {
    /// A string.
    Text(&'a str),
    /// What Redis refuses, with its reason.
    Error(&'a str),
}

/// What came is no reply that this program can read: the connection is of no more use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unreadable;

/// The first reply in the bytes and how many it took, if it is whole.
pub(super) fn reply(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Unreadable> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n") else { return Ok(None) };
    let text = |from: usize, to: usize| std::str::from_utf8(&bytes[from..to]).map_err(|_| Unreadable);
    let (line, after) = (text(1.min(end), end)?, end + 2);
    match bytes.first() {
        Some(b'+') => Ok(Some((Reply::Text(line), after))),
        Some(b'-') => Ok(Some((Reply::Error(line), after))),
        Some(b'$') => {
            let length: usize = line.parse().map_err(|_| Unreadable)?;
            let whole = after.checked_add(length).and_then(|end| end.checked_add(2)).ok_or(Unreadable)?;
            if bytes.len() < whole {
                return Ok(None);
            }
            Ok(Some((Reply::Text(text(after, after + length)?), whole)))
        }
        _ => Err(Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_whole_and_one_after_another() {
        let bytes = b"$5\r\na\r\nbc\r\n-ERR no\r\n+OK\r\n";
        for cut in 0..11 {
            assert_eq!(reply(&bytes[..cut]), Ok(None), "at {cut}");
        }
        let mut rest = &bytes[..];
        for expected in [Reply::Text("a\r\nbc"), Reply::Error("ERR no"), Reply::Text("OK")] {
            let (found, used) = reply(rest).unwrap().unwrap();
            assert_eq!(found, expected);
            rest = &rest[used..];
        }
        for bad in ["\r\n", ":1\r\n", "$-1\r\n", "$x\r\n"] {
            assert_eq!(reply(bad.as_bytes()), Err(Unreadable), "{bad:?}");
        }
    }

    #[test]
    fn a_call_is_one_command() {
        let mut out = Vec::new();
        CallHead::new("h", 1).call(&mut out, "b", "", 1);
        let keys = Keys::of(1);
        let [stock, bought, orders] = keys.in_order();
        assert_eq!(out, command(&["EVALSHA", "h", "3", stock, bought, orders, "b", "", "1"]));
    }
}

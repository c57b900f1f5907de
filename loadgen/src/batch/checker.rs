//! What a thread of the engine knows about its batches: it writes them, and checks every answer.
//!
//! Answers have to come one for each record and in its order. Orders of an item get numbers that only
//! grow, as long as nobody else buys it; a payment names its order. No socket, no clock.

use std::collections::HashMap;

use super::answer::Answer;
use super::body::Body;
use super::shape::{Batch, Mode, Trouble};
use super::wire::{self, Names};

/// What came of the records of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) won: u64,
    pub(crate) sold_out: u64,
    pub(crate) paid: u64,
}

/// See above.
pub(crate) struct Checker {
    batch: Batch,
    host: String,
    names: Names,
    /// The last order of each item.
    last_seqs: Vec<u32>,
    /// Whether all requests leave on one connection, and so are decided in their order.
    in_order: bool,
    /// Orders that wait for their payment, by the request that won them.
    to_pay: HashMap<u32, Vec<u64>>,
}

impl Checker {
    pub(crate) fn new(batch: &Batch, host: &str, in_order: bool) -> Self {
        Self {
            batch: batch.clone(),
            host: host.to_owned(),
            names: Names::new(batch.tag),
            last_seqs: vec![0; batch.items as usize],
            in_order,
            to_pay: HashMap::new(),
        }
    }

    /// How many records the request with this number has.
    pub(crate) fn records(&self, request: u32, pays: bool) -> u64 {
        match pays {
            true => self.to_pay.get(&request).map_or(0, |orders| orders.len() as u64),
            false => self.batch.records_of(request),
        }
    }

    /// Appends the purchases of a request, or the payments of what they won.
    pub(crate) fn write(&self, request: u32, pays: bool, out: &mut Vec<u8>) {
        let to = (&self.batch, self.host.as_str());
        if pays {
            let orders = self.to_pay.get(&request).map_or(&[][..], Vec::as_slice);
            return wire::payments(out, to, orders);
        }
        wire::purchases(out, to, &self.names, self.batch.first_of(request), self.batch.records_of(request));
    }

    /// Checks the response to a request, and counts. Whether there is something to pay now: [`Self::records`].
    pub(crate) fn read(
        &mut self,
        (request, pays): (u32, bool),
        status: u16,
        body: &[u8],
    ) -> Result<Counts, Trouble> {
        if status != 200 {
            return Err(Trouble::Refused(format!("{status} {}", String::from_utf8_lossy(body))));
        }
        if pays { self.read_payments(request, body) } else { self.read_purchases(request, body) }
    }

    fn read_purchases(&mut self, request: u32, bytes: &[u8]) -> Result<Counts, Trouble> {
        let (first, count) = (self.batch.first_of(request), self.batch.records_of(request));
        let mut body = Body::new(self.batch.format, bytes, count)?;
        let (mut counts, mut won) = (Counts::default(), Vec::new());
        if !self.in_order {
            self.last_seqs.fill(0);
        }
        for number in first..first + count {
            let index = (number % u64::from(self.batch.items)) as usize;
            match body.answer()? {
                Answer::Order { status: 201, order, paid: false } => {
                    let (item, seq) = ((order >> 32) as u32, order as u32);
                    if item != self.batch.item + index as u32 || seq <= self.last_seqs[index] {
                        return broken(format!("purchase {number} got order {order}, out of its order"));
                    }
                    self.last_seqs[index] = seq;
                    counts.won += 1;
                    if self.batch.mode == Mode::HoldAndPay {
                        won.push(order);
                    }
                }
                Answer::SoldOut if self.batch.mode == Mode::SoldOut => counts.sold_out += 1,
                other => return broken(format!("purchase {number} was answered {other:?}")),
            }
        }
        body.end()?;
        if !won.is_empty() {
            self.to_pay.insert(request, won);
        }
        Ok(counts)
    }

    fn read_payments(&mut self, request: u32, bytes: &[u8]) -> Result<Counts, Trouble> {
        let orders = self.to_pay.remove(&request).unwrap_or_default();
        let mut body = Body::new(self.batch.format, bytes, orders.len() as u64)?;
        for &expected in &orders {
            match body.answer()? {
                Answer::Order { status: 200, order, paid: true } if order == expected => {}
                other => return broken(format!("the payment of {expected} was answered {other:?}")),
            }
        }
        body.end()?;
        Ok(Counts { paid: orders.len() as u64, ..Counts::default() })
    }
}

fn broken<T>(what: String) -> Result<T, Trouble> {
    Err(Trouble::Broken(what))
}

#[cfg(test)]
mod tests {
    use super::super::shape::Format;
    use super::*;

    fn checker(mode: Mode) -> Checker {
        let token = "t".to_owned();
        let batch =
            Batch { token, item: 7, items: 1, count: 3, records: 2, format: Format::Jsonl, mode, tag: 1 };
        Checker::new(&batch, "h:1", true)
    }

    fn orders(status: u16, state: &str, seqs: &[u64]) -> String {
        let line = |seq: &u64| {
            let order = (7 << 32) | seq;
            format!(
                "{{\"status\":{status},\"order_id\":\"{order}\",\"item_id\":7,\"quantity\":1,\"state\":\"{state}\",\
                 \"created_at_ms\":1}}\n"
            )
        };
        seqs.iter().map(line).collect()
    }

    fn broken_words(read: Result<Counts, Trouble>) -> String {
        match read {
            Err(Trouble::Broken(words)) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_won_is_paid_in_a_later_request() {
        let mut checker = checker(Mode::HoldAndPay);
        let read = checker.read((0, false), 200, orders(201, "held", &[1, 2]).as_bytes());
        assert_eq!(read, Ok(Counts { won: 2, ..Counts::default() }));
        assert_eq!(
            (checker.records(0, true), checker.records(1, false), checker.records(1, true)),
            (2, 1, 0)
        );
        let mut request = Vec::new();
        checker.write(0, true, &mut request);
        let text = String::from_utf8(request).unwrap();
        assert!(
            text.contains("\"order_id\":\"30064771073\"") && text.contains("\"order_id\":\"30064771074\""),
            "{text}"
        );
        let read = checker.read((0, true), 200, orders(200, "paid", &[1, 2]).as_bytes());
        assert_eq!((read, checker.records(0, true)), (Ok(Counts { paid: 2, ..Counts::default() }), 0));
    }

    #[test]
    fn each_planted_fault_is_named() {
        let sold = |seqs: &[u64]| orders(201, "confirmed", seqs);
        for (body, words) in [
            (sold(&[1]), "fewer answers than records"),
            (sold(&[1, 2, 3]), "bytes after the last answer"),
            (sold(&[2, 2]), "purchase 1 got order 30064771074, out of its order"),
            (sold(&[2, 1]), "out of its order"),
            (orders(200, "confirmed", &[1, 2]), "purchase 0 was answered"),
            (orders(201, "paid", &[1, 2]), "purchase 0 was answered"),
            ("{\"status\":409,\"code\":\"sold_out\"}\n".repeat(2), "was answered SoldOut"),
        ] {
            let said = broken_words(checker(Mode::Winners).read((0, false), 200, body.as_bytes()));
            assert!(said.contains(words), "`{said}` for {body}");
        }
        // Across requests of one connection, too.
        let mut one = checker(Mode::Winners);
        assert!(one.read((0, false), 200, sold(&[4, 5]).as_bytes()).is_ok());
        assert!(broken_words(one.read((1, false), 200, sold(&[5]).as_bytes())).contains("purchase 2 got"));
        let refused = checker(Mode::Winners).read((0, false), 503, b"busy");
        assert_eq!(refused, Err(Trouble::Refused("503 busy".to_owned())));
    }
}

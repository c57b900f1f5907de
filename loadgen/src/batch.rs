//! Drives the batch call of the merchant listener over one connection, and checks every answer.
//!
//! ```text
//!  writer ──batches, `pipeline` of them open──▶ server ──answers──▶ reader (checks, counts)
//!    ▲                                                                 │ orders to pay
//!    └─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Answers have to come one for each record and in its order: orders of an item get numbers that
//! only grow, as long as nobody else buys it, and a payment names its order. Next: `wire` for
//! the two formats, `lines` for what is special to JSON.

mod answer;
mod lines;
mod plan;
mod wire;

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use answer::Answer;
pub use plan::{BatchError, Format, Mode, Plan, RECORDS_MAX};
use wire::{Inbox, Names};

/// Longest latency that is told from a longer one, in microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;
/// How long one read or write may stand still.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// From the first byte sent to the last one received.
    pub elapsed: Duration,
    /// Answers, of purchases and payments alike.
    pub answers: u64,
    /// Purchases that won.
    pub winners: u64,
    /// Purchases that were refused as sold out.
    pub refused: u64,
    /// Orders that were paid.
    pub paid: u64,
    /// From the first byte of a batch to the last byte of its answers, in microseconds.
    pub latency_us: Histogram<u64>,
}

/// A batch that was sent.
enum Sent {
    /// Purchases, from this number on.
    Purchases { first: u64, count: u64, at: Instant },
    /// Payments of these orders.
    Payments { orders: Vec<u64>, at: Instant },
}

impl Report {
    /// As one object, for other programs.
    pub fn to_json(&self, plan: &Plan) -> Value {
        let seconds = self.elapsed.as_secs_f64();
        let ms = |quantile| self.latency_us.value_at_quantile(quantile) as f64 / 1_000.0;
        json!({
            "mode": name_of(&plan.mode),
            "format": name_of(&plan.format),
            "seconds": seconds,
            "records": self.answers,
            "winners": self.winners,
            "refused": self.refused,
            "paid": self.paid,
            "answers_per_s": self.answers as f64 / seconds,
            "winners_per_s": self.winners as f64 / seconds,
            "p50_ms": ms(0.5),
            "p99_ms": ms(0.99),
        })
    }
}

fn name_of(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Runs it to its end.
///
/// # Errors
/// See [`BatchError`].
pub fn run(plan: &Plan) -> Result<Report, BatchError> {
    let socket = TcpStream::connect_timeout(&plan.addr, PATIENCE)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let (to_reader, sent) = sync_channel(plan.pipeline.saturating_sub(1));
    let (to_writer, orders) = channel();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let out = socket.try_clone()?;
        let writing = scope.spawn(move || {
            let written = send_all(plan, &out, &to_reader, &orders);
            if written.is_err() {
                let _closed = out.shutdown(Shutdown::Both);
            }
            written
        });
        let read = Reader::new(plan, socket.try_clone()?).read_all(&sent, &to_writer);
        drop((sent, to_writer));
        if read.is_err() {
            let _closed = socket.shutdown(Shutdown::Both);
        }
        let written: io::Result<()> = writing.join().map_err(|_| io::Error::other("the writer panicked"))?;
        let mut report = read?;
        written?;
        report.elapsed = began.elapsed();
        check_sum(plan, &report)?;
        Ok(report)
    })
}

fn check_sum(plan: &Plan, report: &Report) -> Result<(), BatchError> {
    let asked_of = |item: u64| (plan.count + u64::from(plan.items) - 1 - item) / u64::from(plan.items);
    let expected: u64 = (0..u64::from(plan.items)).map(|item| asked_of(item).min(plan.stock)).sum();
    let paid = if plan.mode == Mode::HoldAndPay { report.winners } else { 0 };
    let fits = report.winners == expected
        && report.winners + report.refused == plan.count
        && report.paid == paid
        && report.answers == plan.count + paid;
    if fits {
        return Ok(());
    }
    Err(BatchError::Broken(format!(
        "{} winners of {expected}, {} refused, {} paid of {} purchases",
        report.winners, report.refused, report.paid, plan.count
    )))
}

/// Sends every batch. Ends early without an error when the reader has ended.
fn send_all(
    plan: &Plan,
    mut out: &TcpStream,
    to_reader: &SyncSender<Sent>,
    orders: &Receiver<Vec<u64>>,
) -> io::Result<()> {
    let (mut bought, mut to_pay, mut request) = (0, 0, Vec::new());
    let names = Names::new(plan.tag);
    loop {
        let known = match (bought < plan.count, to_pay > 0) {
            (false, false) => return Ok(()),
            (false, true) => orders.recv().ok(),
            (true, _) => match orders.try_recv() {
                Ok(orders) => Some(orders),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return Ok(()),
            },
        };
        let at = Instant::now();
        let sent = match known {
            Some(orders) => {
                to_pay -= 1;
                wire::payments(&mut request, plan, &orders);
                Sent::Payments { orders, at }
            }
            None if bought < plan.count => {
                let count = plan.batch.min(plan.count - bought);
                wire::purchases(&mut request, plan, &names, bought, count);
                let first = bought;
                bought += count;
                to_pay += u64::from(plan.mode == Mode::HoldAndPay);
                Sent::Purchases { first, count, at }
            }
            None => return Ok(()),
        };
        if to_reader.send(sent).is_err() {
            return Ok(());
        }
        out.write_all(&request)?;
    }
}

/// Checks and counts.
struct Reader<'a> {
    plan: &'a Plan,
    inbox: Inbox,
    /// The last order of each item.
    last_seqs: Vec<u32>,
    report: Report,
}

impl<'a> Reader<'a> {
    fn new(plan: &'a Plan, socket: TcpStream) -> Self {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("bounds of a histogram");
        let (elapsed, answers, winners, refused, paid) = (Duration::ZERO, 0, 0, 0, 0);
        let report = Report { elapsed, answers, winners, refused, paid, latency_us };
        Self { plan, inbox: Inbox::new(socket), last_seqs: vec![0; plan.items as usize], report }
    }

    fn read_all(mut self, sent: &Receiver<Sent>, to_writer: &Sender<Vec<u64>>) -> Result<Report, BatchError> {
        while let Ok(sent) = sent.recv() {
            let at = match sent {
                Sent::Purchases { first, count, at } => {
                    let won = self.read_purchases(first, count)?;
                    if self.plan.mode == Mode::HoldAndPay {
                        // Nobody to pay it is an end that the sum will tell.
                        let _taken = to_writer.send(won);
                    }
                    at
                }
                Sent::Payments { orders, at } => {
                    self.read_payments(&orders)?;
                    at
                }
            };
            let took_us = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.report.latency_us.saturating_record(took_us);
        }
        Ok(self.report)
    }

    fn read_purchases(&mut self, first: u64, count: u64) -> Result<Vec<u64>, BatchError> {
        let holds = self.plan.mode == Mode::HoldAndPay;
        let mut won = Vec::with_capacity(if holds { count as usize } else { 0 });
        self.inbox.begin(self.plan.format, count)?;
        for number in first..first + count {
            let index = (number % u64::from(self.plan.items)) as usize;
            match self.inbox.answer(self.plan.format)? {
                Answer::Order { status: 201, order, paid: false } => {
                    let (item, seq) = ((order >> 32) as u32, order as u32);
                    if item != self.plan.item + index as u32 || seq <= self.last_seqs[index] {
                        return broken(format!("purchase {number} got order {order}, out of its order"));
                    }
                    self.last_seqs[index] = seq;
                    self.report.winners += 1;
                    if holds {
                        won.push(order);
                    }
                }
                Answer::SoldOut if self.plan.mode == Mode::SoldOut => self.report.refused += 1,
                other => return broken(format!("purchase {number} was answered {other:?}")),
            }
        }
        self.report.answers += count;
        self.inbox.end()?;
        Ok(won)
    }

    fn read_payments(&mut self, orders: &[u64]) -> Result<(), BatchError> {
        self.inbox.begin(self.plan.format, orders.len() as u64)?;
        for &expected in orders {
            match self.inbox.answer(self.plan.format)? {
                Answer::Order { status: 200, order, paid: true } if order == expected => {}
                other => return broken(format!("the payment of {expected} was answered {other:?}")),
            }
        }
        self.report.paid += orders.len() as u64;
        self.report.answers += orders.len() as u64;
        self.inbox.end()
    }
}

fn broken<T>(what: String) -> Result<T, BatchError> {
    Err(BatchError::Broken(what))
}

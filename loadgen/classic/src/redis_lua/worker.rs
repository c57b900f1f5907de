//! The worker of the Redis rival: takes orders from the stream and writes them into Postgres.
//!
//! It reads all that is there, up to a batch, and by the time that is committed the next batch has gathered:
//! no timer. An entry leaves the stream when its transaction has committed. Whatever a worker that
//! died had taken, the next one takes over (XAUTOCLAIM), and what it had written already is not
//! written twice (ON CONFLICT). So orders that are in Redis get into Postgres, each once, whoever is killed.
//! Next: [`super`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postgres::{Client, NoTls, Statement};
use redis::Connection;

use super::{Keys, order_of};
use crate::error::ClassicError;
use stampede_loadgen::printer;
use stampede_testkit::redis_connect;

/// Most orders of one transaction.
const BATCH_ORDERS: usize = 5_000;
/// How long a read waits for an order: the wish to stop is seen this soon.
const BLOCK_MS: usize = 100;
/// Pause before Redis or Postgres is tried again.
const TRY_EVERY: Duration = Duration::from_millis(20);
/// The group of all workers.
const GROUP: &str = "postgres";
/// One transaction by itself: orders that are new, and the stock by as many.
const WRITE: &str = "\
    WITH new AS (
        INSERT INTO stock_order (id, sid, buyer, create_time)
        SELECT u.id, $1, u.buyer, 'epoch'::timestamptz + u.at_ms * interval '1 millisecond'
        FROM unnest($2::bigint[], $3::text[], $4::bigint[]) AS u (id, buyer, at_ms)
        ON CONFLICT (id) DO NOTHING RETURNING 1
    ), sum AS (SELECT count(*) AS units FROM new)
    UPDATE stock SET count = count - units, sale = sale + units, version = version + 1 FROM sum WHERE id = $1";

/// An entry of the stream: its id, and its fields one after another.
type Entry = (String, Vec<String>);

/// What a worker is connected to.
struct Worker {
    redis: Connection,
    postgres: Client,
    write: Statement,
    keys: Keys,
    item: u32,
    /// Its name in the group.
    name: String,
}

/// Writes orders of one item until `stop` is set. What fails is tried again for ever; the first failure is said.
pub fn work(redis_url: &str, postgres_url: &str, item: u32, stop: &AtomicBool) {
    let mut is_told = false;
    while !stop.load(Ordering::Relaxed) {
        let worked = Worker::connect(redis_url, postgres_url, item).and_then(|mut worker| worker.run(stop));
        if let Err(error) = worked {
            if !is_told {
                printer::tell(&format!("stampede-classic worker: {error}; it goes on trying"));
                is_told = true;
            }
            thread::sleep(TRY_EVERY);
        }
    }
}

impl Worker {
    fn connect(redis_url: &str, postgres_url: &str, item: u32) -> Result<Self, ClassicError> {
        let mut redis = redis_connect(redis_url)?;
        let mut postgres = Client::connect(postgres_url, NoTls)?;
        let write = postgres.prepare(WRITE)?;
        let keys = Keys::of(item);
        let mut create = redis::cmd("XGROUP");
        let created =
            create.arg("CREATE").arg(&keys.orders).arg(GROUP).arg("0").arg("MKSTREAM").exec(&mut redis);
        match created {
            Err(error) if error.code() != Some("BUSYGROUP") => return Err(error.into()),
            _ => {}
        }
        let name = format!("{}-{:08x}", std::process::id(), stampede_testkit::random() as u32);
        Ok(Self { redis, postgres, write, keys, item, name })
    }

    fn run(&mut self, stop: &AtomicBool) -> Result<(), ClassicError> {
        self.take_over()?;
        while !stop.load(Ordering::Relaxed) {
            let mut read = redis::cmd("XREADGROUP");
            read.arg("GROUP").arg(GROUP).arg(&self.name).arg("COUNT").arg(BATCH_ORDERS);
            read.arg("BLOCK").arg(BLOCK_MS).arg("STREAMS").arg(&self.keys.orders).arg(">");
            let read: Option<Vec<(String, Vec<Entry>)>> = read.query(&mut self.redis)?;
            for (_, entries) in read.unwrap_or_default() {
                self.write(&entries)?;
            }
        }
        Ok(())
    }

    /// What others had taken and not finished. Somebody who only seems dead does no harm: both write it,
    /// and it is there once.
    fn take_over(&mut self) -> Result<(), ClassicError> {
        let mut from = "0-0".to_owned();
        loop {
            let mut claim = redis::cmd("XAUTOCLAIM");
            claim.arg(&self.keys.orders).arg(GROUP).arg(&self.name).arg(0).arg(&from);
            claim.arg("COUNT").arg(BATCH_ORDERS);
            let (next, entries, _gone): (String, Vec<Entry>, Vec<String>) = claim.query(&mut self.redis)?;
            self.write(&entries)?;
            if next == "0-0" {
                return Ok(());
            }
            from = next;
        }
    }

    fn write(&mut self, entries: &[Entry]) -> Result<(), ClassicError> {
        if entries.is_empty() {
            return Ok(());
        }
        let (mut ids, mut buyers, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for (id, fields) in entries {
            let buyer = fields.iter().position(|field| field == "buyer").and_then(|at| fields.get(at + 1));
            // Somebody else's entry is left in nobody's way: it is acked below and not written.
            let Some(((order_id, at_ms), buyer)) = order_of(id).zip(buyer) else { continue };
            ids.push(order_id);
            buyers.push(buyer);
            times.push(at_ms);
        }
        self.postgres.execute(&self.write, &[&i64::from(self.item), &ids, &buyers, &times])?;
        let (mut done, mut ack, mut delete) = (redis::pipe(), redis::cmd("XACK"), redis::cmd("XDEL"));
        ack.arg(&self.keys.orders).arg(GROUP);
        delete.arg(&self.keys.orders);
        for (id, _) in entries {
            ack.arg(id);
            delete.arg(id);
        }
        done.atomic().add_command(ack).ignore().add_command(delete).ignore();
        Ok(done.exec(&mut self.redis)?)
    }
}

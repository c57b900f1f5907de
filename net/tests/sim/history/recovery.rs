//! Starts that succeed: nothing durable is missing (I2), a replay gives the state of before (I8), the clock goes on (I14).

use super::History;
use crate::book::{Red, ensure};
use crate::coverage::Step;
use crate::engine::recover;

impl History<'_> {
    /// Opens, recovers, checks and starts. `false`: it refused, or died in between.
    pub(super) fn boot(&mut self) -> Result<bool, Red> {
        self.step = Step::Boot;
        let mut book = std::mem::take(&mut self.book);
        let recovered = recover(&self.start(), &mut book);
        self.book = book;
        let refusal = match recovered? {
            Ok(recovery) => {
                if !self.recovered_enough(recovery.replayed.durable().0)? {
                    return Ok(false);
                }
                recovery.judge(&mut self.book)?;
                self.was_started();
                self.shop.check_seen(&self.book)?;
                if let Some((digest, lsn)) = self.expected.take()
                    && lsn == self.book.lsn
                {
                    let found = recovery.replayed.shards().iter().map(|shard| shard.digest());
                    let found = found.fold(0, u64::wrapping_add);
                    ensure!(found == digest, "I8 replay gives another state than the live one");
                }
                let attaches = self.rng.coin();
                match recovery.start(&self.start(), attaches) {
                    Ok(life) => {
                        if life.imported {
                            self.last_group = self.book.lsn;
                            life.audit(&mut self.book)?;
                            self.durable = self.durable.max(life.log.status.durable_lsn().0);
                        }
                        self.check_attached(&life)?;
                        let (now, last) = (life.shared.clock.now().sale.0, self.book.last_ms);
                        ensure!(now >= last, "I14 the sale clock begins at {now}, the log has {last}");
                        self.life = Some(life);
                        self.passed_over = vec![0; self.cores * self.cores];
                        self.cover.lives += 1;
                        let numbers = [self.book.lsn, self.cores as u64];
                        self.trace
                            .note("up", &numbers, || format!("{} cores, LSN {}", numbers[1], numbers[0]));
                        return Ok(true);
                    }
                    Err(refusal) => refusal,
                }
            }
            Err(refusal) => refusal,
        };
        self.refused(&refusal)?;
        Ok(false)
    }

    /// After a misdirected write the last group may be missing.
    pub(super) fn recovered_enough(&mut self, durable: u64) -> Result<bool, Red> {
        if durable < self.durable && self.misdirected.is_some_and(|before| durable >= before) {
            self.cover.unwitnessed += 1;
            self.damaged = true;
            return Ok(false);
        }
        ensure!(
            durable >= self.durable,
            "I2 recovered up to LSN {durable}, {} was said to be durable",
            self.durable
        );
        self.durable = durable;
        Ok(true)
    }

    /// If everything decided is durable: notes the state that a replay has to give.
    pub(super) fn note_end_of_life(&mut self) -> Result<(), Red> {
        self.step = Step::Rest;
        let Some(life) = &self.life else { return Ok(()) };
        let durable = life.log.status.durable_lsn().0;
        if life.log.queue.is_empty() && life.log.status.failure().is_none() && self.misdirected.is_none() {
            life.audit(&mut self.book)?;
            if self.book.lsn != durable {
                // A read was misdirected.
                return Ok(());
            }
            self.book.compare(life.homes.iter().map(|home| home.owner().shard()))?;
            let digests = life.homes.iter().map(|home| home.owner().shard().digest());
            self.expected = Some((digests.fold(0, u64::wrapping_add), durable));
        }
        Ok(())
    }
}

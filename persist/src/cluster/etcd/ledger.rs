//! The ledger on etcd: every verb is one transaction, but for the compaction behind a trim.
//!
//! The append compares the leader's record and the end of the chain, byte for byte, in the transaction that adds the block. So an
//! append of an old leader changes nothing, however late it arrives, and one that arrives twice is added once. The
//! branch of the transaction that was not taken reads why. Next: [`super::registry`].

use stampede_core::types::Lsn;

use super::client::understood;
use super::messages::{self, Compare, Op, Outcome, path};
use super::store::{EtcdStore, only};
use super::values::{self, corrupt};
use crate::cluster::block::{Block, Position};
use crate::cluster::error::ClusterError;
use crate::cluster::ledger::{Ledger, Room};
use crate::cluster::limits::READ_BLOCKS_MAX;
use crate::cluster::records::LeaderRecord;

impl Ledger for EtcdStore {
    fn seal(&mut self, leader: &LeaderRecord) -> Result<Position, ClusterError> {
        let id = self.cluster_id()?;
        let (key, tail) = (self.keys.leader.clone(), self.keys.tail.clone());
        let mine = values::leader(id, leader);
        let outcome = self.txn(&[Compare::Is(&key, &mine)], &[Op::Get(&tail)], &[Op::Get(&key)])?;
        if !outcome.held {
            return Err(self.fenced(&outcome, 0, None)?);
        }
        values::read_position(&tail, self.needed(&outcome, 0, &tail)?, id)
    }

    fn append(&mut self, leader: &LeaderRecord, block: &Block) -> Result<(), ClusterError> {
        assert_eq!(leader.epoch, block.epoch(), "a leader appends blocks of its own epoch");
        let id = self.cluster_id()?;
        let (lead_key, tail_key) = (self.keys.leader.clone(), self.keys.tail.clone());
        let block_key = self.keys.block(block.first_lsn());
        let mine = values::leader(id, leader);
        let (before, after) = (values::position(id, block.before()), values::position(id, block.after()));
        let value = values::block(id, block);
        let leads = Compare::Is(&lead_key, &mine);
        let is_new = Compare::Absent(&block_key);
        let fits = Compare::Is(&tail_key, &before);
        let then = [Op::Put(&block_key, &value), Op::Put(&tail_key, &after)];
        let or = [Op::Get(&lead_key), Op::Get(&tail_key), Op::Get(&block_key)];
        match self.txn(&[leads, fits, is_new], &then, &or) {
            Ok(outcome) if outcome.held => Ok(()),
            Ok(outcome) => self.judge_refused(&outcome, leader, block),
            // etcd says so of the last write that it has taken, too: look whether it is that one.
            Err(ClusterError::OutOfSpace(why)) => {
                let looked = self.txn(&[], &or, &[])?;
                match self.judge_refused(&looked, leader, block) {
                    Err(error) if !matches!(error, ClusterError::Fenced { .. }) => {
                        Err(ClusterError::OutOfSpace(why))
                    }
                    judged => judged,
                }
            }
            Err(error) => Err(error),
        }
    }

    fn read(&mut self, from: Position, blocks_max: usize) -> Result<Vec<Block>, ClusterError> {
        let id = self.cluster_id()?;
        let limit = blocks_max.clamp(1, READ_BLOCKS_MAX);
        let tail_key = self.keys.tail.clone();
        let (first, end) = (self.keys.block(from.lsn.next()), self.keys.blocks_end());
        let outcome = self.txn(&[], &[Op::Get(&tail_key), Op::Range(&first, &end, limit as u64)], &[])?;
        let tail = values::read_position(&tail_key, self.needed(&outcome, 0, &tail_key)?, id)?;
        let rows = &outcome.found[1].rows;
        if from.lsn > tail.lsn {
            return Err(ClusterError::WentBack { found: tail.lsn, expected: from.lsn });
        }
        if from.lsn < tail.lsn && rows.first().is_none_or(|row| row.key != first) {
            return Err(self.lacking(from)?);
        }
        let mut at = from;
        let mut blocks: Vec<Block> = Vec::with_capacity(rows.len());
        for row in rows {
            let block = values::read_block(&row.key, &row.value, id)?;
            if block.before() != at || row.key != self.keys.block(block.first_lsn()) {
                let what = format!("it does not follow the place at LSN {} that this node has", at.lsn);
                return Err(corrupt(&row.key, what));
            }
            at = block.after();
            blocks.push(block);
        }
        let may_go_on = blocks.len() == limit && at.lsn < tail.lsn;
        if may_go_on || at == tail {
            return Ok(blocks);
        }
        let what =
            format!("it names another end of the chain, LSN {}, than the blocks, LSN {}", tail.lsn, at.lsn);
        Err(corrupt(&tail_key, what))
    }

    fn bounds(&mut self) -> Result<(Position, Position), ClusterError> {
        let id = self.cluster_id()?;
        let tail_key = self.keys.tail.clone();
        let (from, end) = (self.keys.block(Lsn::ZERO), self.keys.blocks_end());
        let outcome = self.txn(&[], &[Op::Get(&tail_key), Op::Range(&from, &end, 1)], &[])?;
        let tail = values::read_position(&tail_key, self.needed(&outcome, 0, &tail_key)?, id)?;
        let first = outcome.found[1].rows.first();
        let first = first.map(|row| values::read_block(&row.key, &row.value, id)).transpose()?;
        let start = first.map_or(tail, |block| block.before());
        if start.lsn > tail.lsn {
            return Err(corrupt(&tail_key, format!("the chain begins behind its end, at LSN {}", start.lsn)));
        }
        Ok((start, tail))
    }

    fn trim(&mut self, leader: &LeaderRecord, up_to: Position) -> Result<(), ClusterError> {
        let id = self.cluster_id()?;
        let (lead_key, mine) = (self.keys.leader.clone(), values::leader(id, leader));
        // Whoever does not lead hears that first.
        self.seal(leader)?;
        self.check_end(up_to)?;
        let (from, end) = (self.keys.block(Lsn::ZERO), self.keys.block(up_to.lsn.next()));
        // It only deletes: so it is possible when etcd is out of space, too.
        let delete = [Op::DeleteRange(&from, &end)];
        let leads = [Compare::Is(&lead_key, &mine)];
        let outcome = self.txn(&leads, &delete, &[Op::Get(&lead_key)])?;
        if !outcome.held {
            return Err(self.fenced(&outcome, 0, None)?);
        }
        self.compact(outcome.revision)
    }

    fn room(&mut self) -> Result<Room, ClusterError> {
        // Also says whether a majority is there at all.
        let alarms = self.client.call(path::ALARM, &[])?;
        let mut room = Room { quota_bytes: self.quota_bytes, ..Room::default() };
        room.is_out = understood(messages::read_is_out(&alarms))?;
        let answers = self.client.ask_all(path::STATUS, &[]);
        if answers.is_empty() {
            return Err(ClusterError::Unavailable("no member says how full it is".into()));
        }
        for answer in answers {
            let status = understood(messages::read_status(&answer))?;
            room.file_bytes = room.file_bytes.max(status.file_bytes);
            room.used_bytes = room.used_bytes.max(status.used_bytes);
            if status.quota_bytes > 0 {
                room.quota_bytes = status.quota_bytes;
            }
        }
        Ok(room)
    }
}

impl EtcdStore {
    /// What a comparison that did not hold has read instead of the leader's own record.
    pub(super) fn fenced(
        &self,
        outcome: &Outcome,
        at: usize,
        kept: Option<bool>,
    ) -> Result<ClusterError, ClusterError> {
        let (key, id) = (&self.keys.leader, self.id.expect("asked for before any transaction"));
        let found = values::read_leader(key, self.needed(outcome, at, key)?, id)?;
        Ok(ClusterError::Fenced { epoch: found.epoch, leader: found.name().to_owned(), kept })
    }

    /// Why an append was not added now: it is there already, another leads, or the chain ends elsewhere.
    fn judge_refused(
        &self,
        outcome: &Outcome,
        leader: &LeaderRecord,
        block: &Block,
    ) -> Result<(), ClusterError> {
        let id = self.id.expect("asked for before any transaction");
        let Self { keys, .. } = self;
        let found = values::read_leader(&keys.leader, self.needed(outcome, 0, &keys.leader)?, id)?;
        let tail = values::read_position(&keys.tail, self.needed(outcome, 1, &keys.tail)?, id)?;
        let key = keys.block(block.first_lsn());
        let there =
            only(outcome, 2, &key)?.map(|row| values::read_block(&key, &row.value, id)).transpose()?;
        // It may be trimmed and still be the end of the chain.
        let is_there = there.as_ref() == Some(block) || tail == block.after();
        if found != *leader {
            // A chain that is longer and has no block here was trimmed: nobody can tell any more.
            let is_trimmed = there.is_none() && !is_there && tail.lsn >= block.first_lsn();
            return Err(self.fenced(outcome, 0, (!is_trimmed).then_some(is_there))?);
        }
        if is_there {
            return Ok(());
        }
        if tail != block.before() {
            return Err(ClusterError::WentBack { found: tail.lsn, expected: block.before().lsn });
        }
        Err(corrupt(&key, "a block stands behind the end of the chain"))
    }

    /// Why there is no block behind this place although the chain goes on: it was trimmed, or is broken.
    fn lacking(&mut self, from: Position) -> Result<ClusterError, ClusterError> {
        let (start, _) = self.bounds()?;
        Ok(if from.lsn < start.lsn {
            ClusterError::Compacted { first: start.lsn.next() }
        } else {
            corrupt(&self.keys.block(from.lsn.next()), "the chain goes on, and no block begins here")
        })
    }

    /// Makes sure that a block ends here, or that everything up to here was trimmed already.
    fn check_end(&mut self, up_to: Position) -> Result<(), ClusterError> {
        let id = self.cluster_id()?;
        let (tail_key, key) = (self.keys.tail.clone(), self.keys.block(up_to.lsn.next()));
        let outcome = self.txn(&[], &[Op::Get(&tail_key), Op::Get(&key)], &[])?;
        let tail = values::read_position(&tail_key, self.needed(&outcome, 0, &tail_key)?, id)?;
        let next =
            only(&outcome, 1, &key)?.map(|row| values::read_block(&key, &row.value, id)).transpose()?;
        if next.map_or(tail, |block| block.before()) == up_to || up_to.lsn < self.bounds()?.0.lsn {
            return Ok(());
        }
        Err(corrupt(&key, format!("no block ends with LSN {} and this hash; nothing was trimmed", up_to.lsn)))
    }

    /// Gives the space of what was deleted or replaced back to etcd.
    fn compact(&mut self, revision: u64) -> Result<(), ClusterError> {
        match self.client.call(path::COMPACT, &messages::compact(revision)) {
            Ok(_) => Ok(()),
            // It was compacted up to here already: by us, or by etcd's own rule.
            Err(ClusterError::Unusable(why)) if why.contains("has been compacted") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

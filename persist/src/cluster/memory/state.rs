//! The store itself: what a request does to it, without a network. Next: [`super::store`].

use std::collections::BTreeMap;

use stampede_core::types::Lsn;

use crate::cluster::block::{Block, Position};
use crate::cluster::error::ClusterError;
use crate::cluster::ledger::Room;
use crate::cluster::limits::READ_BLOCKS_MAX;
use crate::cluster::names::NodeName;
use crate::cluster::records::{ClusterRecord, LeaderRecord, NodeRecord};
use crate::cluster::registry::{Founded, Seen, Swap};

/// What can arrive late: every call that changes something.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Found(ClusterRecord),
    RaiseLevel(LeaderRecord, u32, u32),
    Swap(LeaderRecord, LeaderRecord),
    Announce(NodeRecord),
    Depart(NodeRecord),
    Append(LeaderRecord, Box<Block>),
    Trim(LeaderRecord, Position),
}

/// What a write answers.
#[derive(Clone, Debug)]
pub(super) enum Written {
    Done,
    Found(Founded),
    Raised(bool),
    Swap(Swap),
}

/// One cluster's keys.
#[derive(Debug)]
struct Keys {
    cluster: ClusterRecord,
    leader: LeaderRecord,
    start: Position,
    tail: Position,
    blocks: BTreeMap<Lsn, Block>,
    nodes: BTreeMap<NodeName, NodeRecord>,
}

/// A store that holds at most one cluster.
#[derive(Debug, Default)]
pub(super) struct State {
    keys: Option<Keys>,
    revision: u64,
    pub(super) quota_bytes: u64,
}

impl State {
    fn keys(&self) -> Result<&Keys, ClusterError> {
        self.keys.as_ref().ok_or_else(|| ClusterError::NotFounded("in memory".into()))
    }

    fn keys_of(&mut self, leader: &LeaderRecord) -> Result<&mut Keys, ClusterError> {
        let keys = self.keys.as_mut().ok_or_else(|| ClusterError::NotFounded("in memory".into()))?;
        if keys.leader == *leader { Ok(keys) } else { Err(fenced(&keys.leader, None)) }
    }

    pub(super) fn write(&mut self, write: &Write) -> Result<Written, ClusterError> {
        let written = match write {
            Write::Found(cluster) => Written::Found(self.found(cluster)),
            Write::RaiseLevel(leader, from, to) => {
                let cluster = &mut self.keys_of(leader)?.cluster;
                if cluster.level == *from {
                    cluster.level = *to;
                }
                Written::Raised(cluster.level == *to)
            }
            Write::Swap(old, candidate) => Written::Swap(self.swap(old, candidate)?),
            Write::Announce(node) => self.announce(node).map(|()| Written::Done)?,
            Write::Depart(node) => {
                self.keys()?;
                let nodes = self.keys.as_mut().map(|keys| &mut keys.nodes).expect("looked just now");
                if nodes.get(&node.node).is_some_and(|there| there.nonce == node.nonce) {
                    nodes.remove(&node.node);
                }
                Written::Done
            }
            Write::Append(leader, block) => self.append(leader, block).map(|()| Written::Done)?,
            Write::Trim(leader, up_to) => self.trim(leader, *up_to).map(|()| Written::Done)?,
        };
        self.revision += 1;
        Ok(written)
    }

    fn found(&mut self, cluster: &ClusterRecord) -> Founded {
        match &self.keys {
            Some(keys) if keys.cluster == *cluster => Founded::Now,
            Some(keys) => Founded::Already(keys.cluster.clone()),
            None => {
                let start = Position::start_of(cluster.log_id);
                let (cluster, leader) = (cluster.clone(), LeaderRecord::nobody());
                let (blocks, nodes) = (BTreeMap::new(), BTreeMap::new());
                self.keys = Some(Keys { cluster, leader, start, tail: start, blocks, nodes });
                Founded::Now
            }
        }
    }

    fn swap(&mut self, old: &LeaderRecord, candidate: &LeaderRecord) -> Result<Swap, ClusterError> {
        self.keys()?;
        let leader = self.keys.as_mut().map(|keys| &mut keys.leader).expect("looked just now");
        let new = LeaderRecord { epoch: old.epoch.next(), ..candidate.clone() };
        if leader == old {
            *leader = new.clone();
        }
        Ok(if *leader == new { Swap::Won(new) } else { Swap::Lost(leader.clone()) })
    }

    fn announce(&mut self, node: &NodeRecord) -> Result<(), ClusterError> {
        self.keys()?;
        let nodes = self.keys.as_mut().map(|keys| &mut keys.nodes).expect("looked just now");
        match nodes.get(&node.node) {
            Some(other) if other.nonce != node.nonce => {
                Err(ClusterError::NameTaken { node: other.node.clone(), address: other.address.clone() })
            }
            _ => {
                nodes.insert(node.node.clone(), node.clone());
                Ok(())
            }
        }
    }

    fn append(&mut self, leader: &LeaderRecord, block: &Block) -> Result<(), ClusterError> {
        let used = self.room().used_bytes + block.bytes().len() as u64;
        let quota = self.quota_bytes;
        let keys = self.keys.as_mut().ok_or_else(|| ClusterError::NotFounded("in memory".into()))?;
        let is_there = keys.blocks.get(&block.first_lsn()) == Some(block) || keys.tail == block.after();
        if keys.leader != *leader {
            let is_trimmed = !is_there && block.first_lsn() <= keys.start.lsn;
            return Err(fenced(&keys.leader, (!is_trimmed).then_some(is_there)));
        }
        if is_there {
            return Ok(());
        }
        if keys.tail != block.before() {
            return Err(ClusterError::WentBack { found: keys.tail.lsn, expected: block.before().lsn });
        }
        if quota > 0 && used > quota {
            return Err(ClusterError::OutOfSpace(format!("{used} of {quota} bytes")));
        }
        keys.blocks.insert(block.first_lsn(), block.clone());
        keys.tail = block.after();
        Ok(())
    }

    fn trim(&mut self, leader: &LeaderRecord, up_to: Position) -> Result<(), ClusterError> {
        let keys = self.keys_of(leader)?;
        if up_to.lsn < keys.start.lsn || up_to == keys.start {
            return Ok(());
        }
        if !keys.blocks.values().any(|block| block.after() == up_to) {
            let (key, what) = (format!("block {}", up_to.lsn.next()), "no block ends before it".to_owned());
            return Err(ClusterError::Corrupt { key, what });
        }
        keys.blocks = keys.blocks.split_off(&up_to.lsn.next());
        keys.start = up_to;
        Ok(())
    }

    pub(super) fn cluster(&self) -> Result<ClusterRecord, ClusterError> {
        self.keys().map(|keys| keys.cluster.clone())
    }

    pub(super) fn leader(&self) -> Result<(LeaderRecord, Seen), ClusterError> {
        self.keys().map(|keys| (keys.leader.clone(), Seen(self.revision)))
    }

    pub(super) fn seal(&self, leader: &LeaderRecord) -> Result<Position, ClusterError> {
        let keys = self.keys()?;
        if keys.leader == *leader { Ok(keys.tail) } else { Err(fenced(&keys.leader, None)) }
    }

    pub(super) fn read(&self, from: Position, blocks_max: usize) -> Result<Vec<Block>, ClusterError> {
        let keys = self.keys()?;
        if from.lsn < keys.start.lsn {
            return Err(ClusterError::Compacted { first: keys.start.lsn.next() });
        }
        if from.lsn > keys.tail.lsn {
            return Err(ClusterError::WentBack { found: keys.tail.lsn, expected: from.lsn });
        }
        let limit = blocks_max.clamp(1, READ_BLOCKS_MAX);
        let blocks: Vec<Block> =
            keys.blocks.range(from.lsn.next()..).map(|(_, b)| b.clone()).take(limit).collect();
        if blocks.first().map_or(keys.tail, Block::before) == from {
            return Ok(blocks);
        }
        let what = format!("the chain has no place like the one at LSN {}", from.lsn);
        Err(ClusterError::Corrupt { key: format!("block {}", from.lsn.next()), what })
    }

    pub(super) fn bounds(&self) -> Result<(Position, Position), ClusterError> {
        self.keys().map(|keys| (keys.start, keys.tail))
    }

    pub(super) fn room(&self) -> Room {
        let blocks = self.keys.iter().flat_map(|keys| keys.blocks.values());
        let used_bytes = blocks.map(|block| block.bytes().len() as u64).sum();
        let is_out = self.quota_bytes > 0 && used_bytes >= self.quota_bytes;
        Room { file_bytes: used_bytes, used_bytes, quota_bytes: self.quota_bytes, is_out }
    }

    pub(super) fn nodes(&self) -> Result<Vec<NodeRecord>, ClusterError> {
        self.keys().map(|keys| keys.nodes.values().cloned().collect())
    }

    /// A node's presence has run out.
    pub(super) fn forget(&mut self, name: &NodeName) {
        if self.keys.as_mut().is_some_and(|keys| keys.nodes.remove(name).is_some()) {
            self.revision += 1;
        }
    }

    pub(super) const fn seen(&self) -> Seen {
        Seen(self.revision)
    }
}

fn fenced(leader: &LeaderRecord, kept: Option<bool>) -> ClusterError {
    ClusterError::Fenced { epoch: leader.epoch, leader: leader.name().to_owned(), kept }
}

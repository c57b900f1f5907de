//! The registry on etcd: transactions, one lease for each node's presence, and a watch as a doorbell.
//!
//! The watch only says *that* something has changed: what it is, is read by transactions, from a majority. A
//! member that hangs rings no bell; so whoever has waited in vain asks a majority before it says that
//! nothing has changed. Next: [`super::ledger`].

use std::time::Duration;

use super::client::understood;
use super::messages::{self, Compare, Op, path};
use super::store::{EtcdStore, Presence, only};
use super::values::{self, check_texts, corrupt};
use crate::cluster::block::Position;
use crate::cluster::error::ClusterError;
use crate::cluster::ledger::Ledger as _;
use crate::cluster::limits::{NODES_MAX, PRESENCE_S};
use crate::cluster::names::{ClusterId, NodeName};
use crate::cluster::records::{ClusterRecord, LeaderRecord, NodeRecord};
use crate::cluster::registry::{Founded, Registry, Seen, Swap};

impl Registry for EtcdStore {
    fn found(&mut self, cluster: &ClusterRecord) -> Result<Founded, ClusterError> {
        let keys = self.keys.clone();
        let record = values::cluster(cluster);
        let nobody = values::leader(cluster.id, &LeaderRecord::nobody());
        let begin = values::position(cluster.id, Position::start_of(cluster.log_id));
        let all = [&keys.cluster, &keys.leader, &keys.tail];
        let compares = all.map(|key| Compare::Absent(key));
        let then =
            [Op::Put(&keys.cluster, &record), Op::Put(&keys.leader, &nobody), Op::Put(&keys.tail, &begin)];
        let outcome = self.txn(&compares, &then, &all.map(|key| Op::Get(key)))?;
        if outcome.held {
            return Ok(Founded::Now);
        }
        let there = values::read_cluster(&keys.cluster, self.needed(&outcome, 0, &keys.cluster)?)?;
        Ok(if there == *cluster { Founded::Now } else { Founded::Already(there) })
    }

    fn cluster(&mut self) -> Result<ClusterRecord, ClusterError> {
        self.read_cluster()
    }

    fn raise_level(&mut self, leader: &LeaderRecord, from: u32, to: u32) -> Result<bool, ClusterError> {
        assert!(to > from, "a level is raised");
        let old = self.read_cluster()?;
        if old.level != from {
            self.seal(leader)?;
            return Ok(old.level == to);
        }
        let (lead_key, key) = (self.keys.leader.clone(), self.keys.cluster.clone());
        let new = values::cluster(&ClusterRecord { level: to, ..old });
        let (mine, old) = (values::leader(old.id, leader), values::cluster(&old));
        let compares = [Compare::Is(&lead_key, &mine), Compare::Is(&key, &old)];
        let outcome = self.txn(&compares, &[Op::Put(&key, &new)], &[Op::Get(&lead_key), Op::Get(&key)])?;
        if outcome.held {
            return Ok(true);
        }
        if self.needed(&outcome, 0, &lead_key)? != mine {
            return Err(self.fenced(&outcome, 0, None)?);
        }
        // An answer of ours that was lost, or somebody else's level.
        Ok(self.needed(&outcome, 1, &key)? == new)
    }

    fn leader(&mut self) -> Result<(LeaderRecord, Seen), ClusterError> {
        let (id, key) = (self.cluster_id()?, self.keys.leader.clone());
        let outcome = self.txn(&[], &[Op::Get(&key)], &[])?;
        let leader = values::read_leader(&key, self.needed(&outcome, 0, &key)?, id)?;
        Ok((leader, Seen(outcome.revision)))
    }

    fn swap(&mut self, old: &LeaderRecord, candidate: &LeaderRecord) -> Result<Swap, ClusterError> {
        check_texts(&candidate.address, "")?;
        if candidate.node.is_none() {
            return Err(ClusterError::Unusable("a candidate has a name".into()));
        }
        let (id, key) = (self.cluster_id()?, self.keys.leader.clone());
        let new = LeaderRecord { epoch: old.epoch.next(), ..candidate.clone() };
        let (before, after) = (values::leader(id, old), values::leader(id, &new));
        let outcome = self.txn(&[Compare::Is(&key, &before)], &[Op::Put(&key, &after)], &[Op::Get(&key)])?;
        if outcome.held {
            return Ok(Swap::Won(new));
        }
        let found = values::read_leader(&key, self.needed(&outcome, 0, &key)?, id)?;
        // An answer that was lost: the record is our own, nonce and all.
        Ok(if found == new { Swap::Won(new) } else { Swap::Lost(found) })
    }

    fn announce(&mut self, node: &NodeRecord, presence_s: u32) -> Result<(), ClusterError> {
        check_texts(&node.address, &node.version)?;
        let presence_s = presence_s.clamp(*PRESENCE_S.start(), *PRESENCE_S.end());
        let (id, key) = (self.cluster_id()?, self.keys.node(&node.node));
        let value = values::node(id, node);
        if self.is_kept(node, &key, &value)? {
            return Ok(());
        }
        let granted = self.client.call(path::LEASE_GRANT, &messages::lease_grant(presence_s))?;
        let (lease, _) = understood(messages::read_lease(&granted))?;
        let put = [Op::PutLeased(&key, &value, lease)];
        let mut outcome = self.txn(&[Compare::Absent(&key)], &put, &[Op::Get(&key)])?;
        while !outcome.held {
            // It was there; it may be gone by the next look, and then there is nothing to compare.
            let there = only(&outcome, 0, &key)?.map(|row| row.value.clone());
            let compare = match &there {
                None => Compare::Absent(&key),
                Some(bytes) => {
                    let other = values::read_node(&key, bytes, id)?;
                    if other.nonce != node.nonce {
                        self.revoke(lease);
                        return Err(ClusterError::NameTaken { node: other.node, address: other.address });
                    }
                    Compare::Is(&key, bytes)
                }
            };
            outcome = self.txn(&[compare], &put, &[Op::Get(&key)])?;
        }
        // The record goes with the new lease now, so the end of the old one takes nothing with it.
        let presence = Presence { node: node.node.clone(), nonce: node.nonce, lease };
        if let Some(old) = self.presence.replace(presence).filter(|old| old.is_of(node)) {
            self.revoke(old.lease);
        }
        Ok(())
    }

    fn depart(&mut self, node: &NodeRecord) -> Result<(), ClusterError> {
        let (id, key) = (self.cluster_id()?, self.keys.node(&node.node));
        let outcome = self.txn(&[], &[Op::Get(&key)], &[])?;
        if let Some(row) = only(&outcome, 0, &key)?
            && values::read_node(&key, &row.value, id)?.nonce == node.nonce
        {
            self.txn(&[Compare::Is(&key, &row.value)], &[Op::Delete(&key)], &[])?;
        }
        if let Some(presence) = self.presence.take_if(|presence| presence.is_of(node)) {
            self.revoke(presence.lease);
        }
        Ok(())
    }

    fn node(&mut self, name: &NodeName) -> Result<Option<NodeRecord>, ClusterError> {
        let (id, key) = (self.cluster_id()?, self.keys.node(name));
        let outcome = self.txn(&[], &[Op::Get(&key)], &[])?;
        only(&outcome, 0, &key)?.map(|row| self.read_node(&key, &row.value, id)).transpose()
    }

    fn nodes(&mut self) -> Result<Vec<NodeRecord>, ClusterError> {
        let (id, (from, to)) = (self.cluster_id()?, self.keys.nodes());
        let outcome = self.txn(&[], &[Op::Range(&from, &to, NODES_MAX as u64 + 1)], &[])?;
        let rows = &outcome.found[0].rows;
        if rows.len() > NODES_MAX {
            return Err(corrupt(&from, format!("more than {NODES_MAX} nodes")));
        }
        rows.iter().map(|row| self.read_node(&row.key, &row.value, id)).collect()
    }

    fn wait(&mut self, seen: Seen, wait: Duration) -> Result<Seen, ClusterError> {
        let (from, to) = self.keys.watched();
        let begin = messages::watch(&from, &to, seen.0.saturating_add(1));
        let deadline = std::time::Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let Some(word) = self.client.watched(&begin, left)? else { break };
            if word.is_cancelled {
                self.client.forget_watch();
                if word.compact_revision == 0 {
                    self.client.forget_login();
                    return Err(ClusterError::Unavailable("etcd has ended the watch".into()));
                }
                // What lies before was compacted: something may have changed, so the caller has to read.
                return Ok(seen.max(Seen(word.compact_revision)));
            }
            if word.revision > seen.0 {
                return Ok(Seen(word.revision));
            }
        }
        let answer = self.client.call(path::RANGE, &messages::changed_since(&from, &to, seen.0))?;
        let found = understood(messages::read_range(&answer))?;
        match found.rows.first() {
            Some(row) if row.mod_revision > seen.0 => {
                // The watch has missed it: it hangs, or is late.
                self.client.forget_watch();
                Ok(Seen(row.mod_revision))
            }
            _ => Ok(seen),
        }
    }
}

impl EtcdStore {
    /// Renews the lease of an earlier call; `false` = there is none, or the record is not there as it should be.
    fn is_kept(&mut self, node: &NodeRecord, key: &[u8], value: &[u8]) -> Result<bool, ClusterError> {
        let Some(lease) = self.presence.as_ref().filter(|old| old.is_of(node)).map(|old| old.lease) else {
            return Ok(false);
        };
        let renewed = self.client.call(path::LEASE_KEEP_ALIVE, &messages::lease(lease))?;
        let (_, left_s) = understood(messages::read_lease(&renewed))?;
        let is_there = self.txn(&[Compare::Is(key, value)], &[], &[])?.held;
        Ok(left_s > 0 && is_there)
    }

    /// Ends a lease that nobody needs any more. If it cannot be ended it ends by itself.
    fn revoke(&mut self, lease: u64) {
        drop(self.client.call(path::LEASE_REVOKE, &messages::lease(lease)));
    }

    fn read_node(&self, key: &[u8], value: &[u8], id: ClusterId) -> Result<NodeRecord, ClusterError> {
        let node = values::read_node(key, value, id)?;
        if self.keys.node(&node.node) == key { Ok(node) } else { Err(corrupt(key, "it names another node")) }
    }
}

//! The handle: one thread's way to one cluster's keys. Its verbs are in [`super::ledger`] and [`super::registry`].

use super::client::{Client, understood};
use super::keys::Keys;
use super::messages::{self, Compare, Found, KeyValue, Op, Outcome, path};
use super::options::EtcdOptions;
use super::values::{self, corrupt};
use crate::cluster::error::ClusterError;
use crate::cluster::names::{ClusterId, NodeName, Nonce};
use crate::cluster::records::{ClusterRecord, NodeRecord};

/// A cluster's ledger and registry on etcd. One for each thread; a connection is made when it is needed.
pub struct EtcdStore {
    pub(super) client: Client,
    pub(super) keys: Keys,
    pub(super) quota_bytes: u64,
    /// What this node expects, or what it has found.
    pub(super) id: Option<ClusterId>,
    pub(super) presence: Option<Presence>,
    /// Which etcd has answered first.
    etcd: Option<u64>,
    name: String,
}

/// The lease of the node that was announced last.
pub(super) struct Presence {
    pub(super) node: NodeName,
    pub(super) nonce: Nonce,
    pub(super) lease: u64,
}

impl Presence {
    pub(super) fn is_of(&self, record: &NodeRecord) -> bool {
        self.node == record.node && self.nonce == record.nonce
    }
}

impl EtcdStore {
    /// Checks the options and reads the certificates; asks nobody yet.
    ///
    /// # Errors
    /// [`ClusterError::Unusable`] or [`ClusterError::Denied`].
    pub fn new(options: &EtcdOptions) -> Result<Self, ClusterError> {
        Ok(Self {
            client: Client::new(options)?,
            keys: Keys::of(&options.name),
            quota_bytes: options.quota_bytes,
            id: options.expected,
            presence: None,
            etcd: None,
            name: options.name.to_string(),
        })
    }

    /// Which cluster's values are right; asks for it the first time.
    pub(super) fn cluster_id(&mut self) -> Result<ClusterId, ClusterError> {
        match self.id {
            Some(id) => Ok(id),
            None => self.read_cluster().map(|record| record.id),
        }
    }

    pub(super) fn read_cluster(&mut self) -> Result<ClusterRecord, ClusterError> {
        let key = self.keys.cluster.clone();
        let outcome = self.txn(&[], &[Op::Get(&key)], &[])?;
        let Some(row) = only(&outcome, 0, &key)? else {
            return Err(ClusterError::NotFounded(self.name.clone()));
        };
        let record = values::read_cluster(&key, &row.value)?;
        match self.id {
            Some(expected) if expected != record.id => {
                Err(ClusterError::OtherCluster { found: record.id, expected })
            }
            _ => {
                self.id = Some(record.id);
                Ok(record)
            }
        }
    }

    /// A transaction. As many results as the branch has operations.
    pub(super) fn txn(
        &mut self,
        compares: &[Compare<'_>],
        then: &[Op<'_>],
        or: &[Op<'_>],
    ) -> Result<Outcome, ClusterError> {
        let answer = self.client.call(path::TXN, &messages::txn(compares, then, or))?;
        let outcome = understood(messages::read_txn(&answer))?;
        if *self.etcd.get_or_insert(outcome.etcd) != outcome.etcd {
            let said = "the endpoints belong to more than one etcd, or it was made anew from a backup; correct the endpoints, \
                        or start this node again";
            return Err(ClusterError::Unusable(said.into()));
        }
        let expected = if outcome.held { then.len() } else { or.len() };
        if outcome.found.len() == expected {
            Ok(outcome)
        } else {
            Err(ClusterError::Unusable("what answers is not etcd; correct the endpoints".into()))
        }
    }

    /// A value that is there from the cluster's beginning to its end.
    pub(super) fn needed<'o>(
        &self,
        outcome: &'o Outcome,
        at: usize,
        key: &[u8],
    ) -> Result<&'o [u8], ClusterError> {
        let row = only(outcome, at, key)?;
        row.map(|row| row.value.as_slice()).ok_or_else(|| {
            corrupt(key, "it is gone, and was made with the cluster; is this the cluster's etcd?")
        })
    }
}

/// What a read of one key has found.
pub(super) fn only<'o>(
    outcome: &'o Outcome,
    at: usize,
    key: &[u8],
) -> Result<Option<&'o KeyValue>, ClusterError> {
    let Found { rows, .. } = &outcome.found[at];
    match rows.as_slice() {
        [] => Ok(None),
        [row] if row.key == key => Ok(Some(row)),
        _ => Err(corrupt(key, "another key answers for it")),
    }
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

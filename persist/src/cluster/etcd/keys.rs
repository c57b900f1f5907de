//! Where everything is kept in etcd. docs/CLUSTER.md has the table. Next: [`super::values`].

use stampede_core::types::Lsn;

use crate::cluster::names::{ClusterName, NodeName};

/// The one partition that a cluster has. Its number is in the keys, so that a later cluster may have more.
const PARTITION: &str = "0";

/// The keys of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
    pub(super) cluster: Vec<u8>,
    pub(super) leader: Vec<u8>,
    pub(super) tail: Vec<u8>,
}

impl Keys {
    pub(super) fn of(name: &ClusterName) -> Self {
        let prefix = format!("/stampede/{name}/");
        let key = |rest: &str| format!("{prefix}{rest}").into_bytes();
        let (cluster, leader) = (key("cluster"), key(&format!("leader/{PARTITION}")));
        let tail = key(&format!("tail/{PARTITION}"));
        Self { prefix, cluster, leader, tail }
    }

    /// The block that begins with this LSN. Keys are in the order of LSNs.
    pub(super) fn block(&self, first: Lsn) -> Vec<u8> {
        format!("{}block/{PARTITION}/{:016x}", self.prefix, first.0).into_bytes()
    }

    /// Behind every block.
    pub(super) fn blocks_end(&self) -> Vec<u8> {
        // `g` comes after the digits of every LSN.
        format!("{}block/{PARTITION}/g", self.prefix).into_bytes()
    }

    pub(super) fn node(&self, name: &NodeName) -> Vec<u8> {
        format!("{}node/{name}", self.prefix).into_bytes()
    }

    /// All nodes: from the first key up to, not with, the second.
    pub(super) fn nodes(&self) -> (Vec<u8>, Vec<u8>) {
        (format!("{}node/", self.prefix).into_bytes(), format!("{}node0", self.prefix).into_bytes())
    }

    /// Everything but blocks: whoever follows a cluster watches it.
    pub(super) fn watched(&self) -> (Vec<u8>, Vec<u8>) {
        (self.cluster.clone(), format!("{}u", self.prefix).into_bytes())
    }
}

/// A key as text for a sentence; what is no text is escaped.
pub(super) fn shown(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_in_order_and_not_among_the_watched() {
        let keys = Keys::of(&ClusterName::new("a").expect("a name"));
        let blocks = [0, 1, 9, 10, 255, 256, u64::MAX].map(|lsn| keys.block(Lsn(lsn)));
        assert!(blocks.is_sorted() && blocks[6] < keys.blocks_end());
        let (from, to) = keys.watched();
        let is_watched = |key: &[u8]| from.as_slice() <= key && key < to.as_slice();
        let node = keys.node(&NodeName::new("z").expect("a name"));
        for key in [&keys.cluster, &keys.leader, &keys.tail, &node] {
            assert!(is_watched(key), "{}", shown(key));
        }
        assert!(!blocks.iter().any(|key| is_watched(key)) && !is_watched(&keys.blocks_end()));
        assert!(keys.nodes().0 < node && node < keys.nodes().1);
        assert_eq!(shown(&blocks[2]), "/stampede/a/block/0/0000000000000009");
    }

    #[test]
    fn no_cluster_has_keys_among_another_ones() {
        let (a, ab) =
            (Keys::of(&ClusterName::new("a").unwrap()), Keys::of(&ClusterName::new("a-b").unwrap()));
        let within = |keys: &Keys, key: &[u8]| key.starts_with(keys.prefix.as_bytes());
        assert!(within(&a, &a.tail) && !within(&a, &ab.tail) && !within(&ab, &a.tail));
    }
}

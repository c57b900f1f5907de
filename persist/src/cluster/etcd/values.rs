//! The values below our keys: strict both ways, and nothing is guessed.
//!
//! ```text
//! u8 version 1 │ u8 kind │ 16 cluster │ fields, little-endian │ u32 CRC-32C of all before it
//! ```
//!
//! Every value names its cluster, so that keys of another one under the same name are known at the first that is read.
//! The same value always has the same bytes: transactions compare them. Next: [`super::store`].

use stampede_core::types::Lsn;

use super::keys::shown;
use crate::cluster::block::{Block, Position};
use crate::cluster::error::ClusterError;
use crate::cluster::limits::{ADDRESS_BYTES_MAX, LEDGER_BLOCK_BYTES_MAX, NAME_BYTES_MAX, VERSION_BYTES_MAX};
use crate::cluster::names::{ClusterId, Epoch, NodeName, Nonce};
use crate::cluster::records::{ClusterRecord, LeaderRecord, NodeRecord, fits};
use crate::log::identity::LogId;

const VERSION: u8 = 1;
const CRC_BYTES: usize = 4;

/// What a value is; its second byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Cluster = 1,
    Leader = 2,
    /// The place where the chain ends.
    Position = 3,
    Block = 4,
    Node = 5,
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(kind: Kind, id: ClusterId) -> Self {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&[VERSION, kind as u8]);
        out.extend_from_slice(&id.0);
        Self(out)
    }
    fn put(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn u32(self, value: u32) -> Self {
        self.put(&value.to_le_bytes())
    }
    fn u64(self, value: u64) -> Self {
        self.put(&value.to_le_bytes())
    }
    fn text(self, text: &str) -> Self {
        let len = u8::try_from(text.len()).expect("bounded where it was made");
        self.put(&[len]).put(text.as_bytes())
    }
    fn position(self, at: Position) -> Self {
        self.u64(at.lsn.0).put(&at.hash)
    }
    fn done(mut self) -> Vec<u8> {
        let crc = crc32c::crc32c(&self.0);
        self.0.extend_from_slice(&crc.to_le_bytes());
        self.0
    }
}

/// Why bytes are not a value.
#[derive(Debug)]
enum Refused {
    Broken(String),
    Other(ClusterId),
}

type Read<T> = Result<T, Refused>;

fn broken<T>(what: impl Into<String>) -> Read<T> {
    Err(Refused::Broken(what.into()))
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    /// Checks the frame. The cluster comes before the checksum: whoever else writes under our keys has none of ours.
    fn new(bytes: &'b [u8], kind: Kind, id: Option<ClusterId>) -> Read<(Self, ClusterId)> {
        let Some((body, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else {
            return broken("it is too short");
        };
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return broken("its checksum does not match");
        }
        let mut reader = Self(body);
        let [version, found] = reader.array()?;
        if version != VERSION {
            return broken(format!("its version is {version}, and this program knows {VERSION}"));
        }
        if found != kind as u8 {
            return broken(format!("it is of kind {found} where {} stands", kind as u8));
        }
        let found = ClusterId(reader.array()?);
        match id {
            Some(id) if id != found => Err(Refused::Other(found)),
            _ => Ok((reader, found)),
        }
    }
    fn take(&mut self, len: usize) -> Read<&'b [u8]> {
        let Some((head, rest)) = self.0.split_at_checked(len) else { return broken("it ends too early") };
        self.0 = rest;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many"))
    }
    fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }
    fn text(&mut self, len_max: usize) -> Read<&'b str> {
        let [len] = self.array()?;
        if usize::from(len) > len_max {
            return broken(format!("a text of {len} bytes"));
        }
        str::from_utf8(self.take(usize::from(len))?).or_else(|_| broken("a text that is not UTF-8"))
    }
    fn position(&mut self) -> Read<Position> {
        let lsn = Lsn(self.u64()?);
        if lsn.0 >= u64::MAX / 2 {
            return broken(format!("LSN {lsn} is none that a log reaches"));
        }
        Ok(Position { lsn, hash: self.array()? })
    }
    fn node(&mut self) -> Read<NodeName> {
        NodeName::new(self.text(NAME_BYTES_MAX)?).or_else(|error| broken(error.to_string()))
    }
    fn done(self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { broken(format!("{} bytes are left over", self.0.len())) }
    }
}

/// Reads one kind of value. The error names the key.
fn decode<T>(
    key: &[u8],
    bytes: &[u8],
    (kind, id): (Kind, Option<ClusterId>),
    read: impl FnOnce(&mut Reader<'_>, ClusterId) -> Read<T>,
) -> Result<T, ClusterError> {
    let judged = Reader::new(bytes, kind, id).and_then(|(mut reader, found)| {
        let value = read(&mut reader, found)?;
        reader.done()?;
        Ok(value)
    });
    judged.map_err(|refused| match (refused, id) {
        (Refused::Other(found), Some(expected)) => ClusterError::OtherCluster { found, expected },
        (Refused::Other(found), None) => corrupt(key, format!("it is cluster {found}'s")),
        (Refused::Broken(what), _) => corrupt(key, what),
    })
}

/// That a key does not hold what it has to.
pub(super) fn corrupt(key: &[u8], what: impl Into<String>) -> ClusterError {
    ClusterError::Corrupt { key: shown(key), what: what.into() }
}

pub(super) fn cluster(record: &ClusterRecord) -> Vec<u8> {
    let writer = Writer::new(Kind::Cluster, record.id);
    writer.put(&record.log_id.0).put(&record.secret).u32(record.level).done()
}

/// Of whichever cluster it is.
pub(super) fn read_cluster(key: &[u8], bytes: &[u8]) -> Result<ClusterRecord, ClusterError> {
    decode(key, bytes, (Kind::Cluster, None), |reader, id| {
        let (log_id, secret) = (LogId(reader.array()?), reader.array()?);
        Ok(ClusterRecord { id, log_id, secret, level: reader.u32()? })
    })
}

pub(super) fn leader(id: ClusterId, record: &LeaderRecord) -> Vec<u8> {
    let name = record.node.as_ref().map_or("", NodeName::as_str);
    let writer = Writer::new(Kind::Leader, id).u64(record.epoch.0).put(&record.nonce.0);
    writer.text(name).text(&record.address).done()
}

pub(super) fn read_leader(key: &[u8], bytes: &[u8], id: ClusterId) -> Result<LeaderRecord, ClusterError> {
    decode(key, bytes, (Kind::Leader, Some(id)), |reader, _| {
        let (epoch, nonce) = (Epoch(reader.u64()?), Nonce(reader.array()?));
        let name = reader.text(NAME_BYTES_MAX)?;
        let address = reader.text(ADDRESS_BYTES_MAX)?.to_owned();
        if epoch == Epoch::NONE && name.is_empty() {
            return Ok(LeaderRecord { epoch, node: None, address, nonce });
        }
        let node = Some(NodeName::new(name).or_else(|error| broken(error.to_string()))?);
        if epoch == Epoch::NONE || epoch.0 > u64::MAX / 2 {
            return broken(format!("epoch {epoch} has no leader"));
        }
        Ok(LeaderRecord { epoch, node, address, nonce })
    })
}

pub(super) fn position(id: ClusterId, at: Position) -> Vec<u8> {
    Writer::new(Kind::Position, id).position(at).done()
}

pub(super) fn read_position(key: &[u8], bytes: &[u8], id: ClusterId) -> Result<Position, ClusterError> {
    decode(key, bytes, (Kind::Position, Some(id)), |reader, _| reader.position())
}

pub(super) fn block(id: ClusterId, block: &Block) -> Vec<u8> {
    let writer = Writer::new(Kind::Block, id).u64(block.epoch().0).position(block.before());
    writer.position(block.after()).put(block.bytes()).done()
}

/// A block whose hash is right.
pub(super) fn read_block(key: &[u8], bytes: &[u8], id: ClusterId) -> Result<Block, ClusterError> {
    decode(key, bytes, (Kind::Block, Some(id)), |reader, _| {
        let epoch = Epoch(reader.u64()?);
        let (before, after) = (reader.position()?, reader.position()?);
        if reader.0.len() > LEDGER_BLOCK_BYTES_MAX {
            return broken(format!("{} bytes", reader.0.len()));
        }
        let facts = reader.take(reader.0.len())?.to_vec();
        let block =
            Block::new(epoch, before, after.lsn, facts).or_else(|refused| broken(refused.to_string()))?;
        if block.after() != after {
            return broken("its hash does not match its bytes");
        }
        Ok(block)
    })
}

pub(super) fn node(id: ClusterId, record: &NodeRecord) -> Vec<u8> {
    let writer = Writer::new(Kind::Node, id).put(&record.nonce.0).u32(record.level);
    writer.text(record.node.as_str()).text(&record.address).text(&record.version).done()
}

pub(super) fn read_node(key: &[u8], bytes: &[u8], id: ClusterId) -> Result<NodeRecord, ClusterError> {
    decode(key, bytes, (Kind::Node, Some(id)), |reader, _| {
        let (nonce, level) = (Nonce(reader.array()?), reader.u32()?);
        let node = reader.node()?;
        let address = reader.text(ADDRESS_BYTES_MAX)?.to_owned();
        Ok(NodeRecord { node, address, nonce, version: reader.text(VERSION_BYTES_MAX)?.to_owned(), level })
    })
}

/// Asks of what is to be written that its texts fit.
pub(super) fn check_texts(address: &str, version: &str) -> Result<(), ClusterError> {
    if fits(address, version) {
        return Ok(());
    }
    Err(ClusterError::Unusable(format!(
        "address {address:?} or version {version:?} is too long or has control characters; an address has at most \
         {ADDRESS_BYTES_MAX} bytes"
    )))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: ClusterId = ClusterId([1; 16]);
    const KEY: &[u8] = b"/stampede/a/x";

    fn block_of(bytes: Vec<u8>) -> Block {
        let before = Position { lsn: Lsn(4), hash: [9; 32] };
        Block::new(Epoch(3), before, Lsn(8), bytes).expect("a block")
    }

    fn all() -> Vec<Vec<u8>> {
        let node = NodeName::new("n1").expect("a name");
        let nonce = Nonce([7; 16]);
        let lead = LeaderRecord { epoch: Epoch(5), node: Some(node.clone()), address: "h:1".into(), nonce };
        let there = NodeRecord { node, address: "h:1".into(), nonce, version: "0.1.0".into(), level: 2 };
        vec![
            cluster(&ClusterRecord { id: ID, log_id: LogId([2; 16]), secret: [3; 32], level: 1 }),
            leader(ID, &LeaderRecord::nobody()),
            leader(ID, &lead),
            position(ID, Position { lsn: Lsn(8), hash: [4; 32] }),
            block(ID, &block_of(vec![0, 1, 2])),
            super::node(ID, &there),
        ]
    }

    /// Reads it as every kind; how many of them take it.
    fn readers(bytes: &[u8], id: ClusterId) -> Vec<Result<String, ClusterError>> {
        vec![
            read_cluster(KEY, bytes).map(|v| format!("{:?} {:?}", v, v.secret)),
            read_leader(KEY, bytes, id).map(|v| format!("{v:?}")),
            read_position(KEY, bytes, id).map(|v| format!("{v:?}")),
            read_block(KEY, bytes, id).map(|v| format!("{v:?}")),
            read_node(KEY, bytes, id).map(|v| format!("{v:?}")),
        ]
    }

    #[test]
    fn a_value_is_of_one_kind_and_comes_back() {
        for bytes in all() {
            assert_eq!(readers(&bytes, ID).iter().filter(|read| read.is_ok()).count(), 1);
        }
        let block_in = block_of(vec![5; 1000]);
        assert_eq!(read_block(KEY, &block(ID, &block_in), ID), Ok(block_in));
    }

    #[test]
    fn another_clusters_value_is_known_as_such() {
        let other = ClusterId([8; 16]);
        for bytes in &all()[1..] {
            let told = readers(bytes, other);
            assert!(
                told.contains(&Err(ClusterError::OtherCluster { found: ID, expected: other })),
                "{told:?}"
            );
        }
    }

    #[test]
    fn a_hash_that_does_not_fit_is_seen_below_a_right_checksum() {
        let mut bytes = block(ID, &block_of(vec![0, 1, 2]));
        let end = bytes.len() - CRC_BYTES;
        bytes[end - 1] ^= 1;
        let crc = crc32c::crc32c(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&crc);
        let told = read_block(KEY, &bytes, ID).expect_err("changed");
        assert!(told.to_string().contains("hash"), "{told}");
    }

    proptest! {
        #[test]
        fn a_damaged_value_is_never_taken(which in 0..6_usize, at in any::<prop::sample::Index>(), flip in 1..=255_u8, cut in any::<prop::sample::Index>()) {
            let whole = all()[which].clone();
            let mut damaged = whole.clone();
            let at = at.index(damaged.len());
            damaged[at] ^= flip;
            prop_assert!(readers(&damaged, ID).iter().all(Result::is_err));
            prop_assert!(readers(&whole[..cut.index(whole.len())], ID).iter().all(Result::is_err));
        }

        /// With a right checksum over anything: taken only if it says the same again.
        #[test]
        fn hostile_values_are_refused_or_mean_themselves(which in 0..6_usize, mut body in prop::collection::vec(any::<u8>(), 0..120), keep in any::<prop::sample::Index>()) {
            let whole = all()[which].clone();
            let mut bytes = whole[..keep.index(whole.len() - CRC_BYTES)].to_vec();
            bytes.append(&mut body);
            let crc = crc32c::crc32c(&bytes);
            bytes.extend_from_slice(&crc.to_le_bytes());
            if let Ok(v) = read_leader(KEY, &bytes, ID) {
                prop_assert_eq!(leader(ID, &v), bytes);
            } else if let Ok(v) = read_block(KEY, &bytes, ID) {
                prop_assert_eq!(block(ID, &v), bytes);
            } else if let Ok(v) = read_node(KEY, &bytes, ID) {
                prop_assert_eq!(node(ID, &v), bytes);
            } else if let Ok(v) = read_position(KEY, &bytes, ID) {
                prop_assert_eq!(position(ID, v), bytes);
            }
        }
    }
}

//! The messages of etcd's API that are needed, by the numbers of their fields (etcd's `rpc.proto`, `kv.proto`, the same
//! from 3.4 to 3.6). Fields that are not named here are passed over. Next: [`super::client`].

use super::proto::{Malformed, Message, each_field};

/// The calls, as gRPC names them.
pub(super) mod path {
    pub(in super::super) const TXN: &str = "/etcdserverpb.KV/Txn";
    pub(in super::super) const RANGE: &str = "/etcdserverpb.KV/Range";
    pub(in super::super) const COMPACT: &str = "/etcdserverpb.KV/Compact";
    pub(in super::super) const WATCH: &str = "/etcdserverpb.Watch/Watch";
    pub(in super::super) const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
    pub(in super::super) const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
    pub(in super::super) const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
    pub(in super::super) const STATUS: &str = "/etcdserverpb.Maintenance/Status";
    pub(in super::super) const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";
    pub(in super::super) const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
}

/// What a transaction compares. All of them have to hold.
pub(super) enum Compare<'k> {
    /// The key has this value.
    Is(&'k [u8], &'k [u8]),
    /// There is no such key.
    Absent(&'k [u8]),
}

/// What a transaction does.
#[derive(Clone)]
pub(super) enum Op<'k> {
    /// Reads one key.
    Get(&'k [u8]),
    /// Reads keys from one up to, not with, another, by key; at most so many.
    Range(&'k [u8], &'k [u8], u64),
    /// Writes.
    Put(&'k [u8], &'k [u8]),
    /// Writes a key that goes with this lease.
    PutLeased(&'k [u8], &'k [u8], u64),
    /// Deletes one key.
    Delete(&'k [u8]),
    /// Deletes keys from one up to, not with, another.
    DeleteRange(&'k [u8], &'k [u8]),
}

const EQUAL: u64 = 0;
const TARGET_CREATE: u64 = 1;
const TARGET_VALUE: u64 = 3;
const SORT_DESCEND: u64 = 2;

fn compare(what: &Compare<'_>) -> Message {
    let message = Message::default().number(1, EQUAL);
    // Which of a choice is there counts, also when it is zero or empty.
    match what {
        Compare::Is(key, value) => message.number(2, TARGET_VALUE).bytes(3, key).chosen_bytes(7, value),
        Compare::Absent(key) => message.number(2, TARGET_CREATE).bytes(3, key).chosen_number(5, 0),
    }
}

fn range(from: &[u8], to: &[u8], limit: u64) -> Message {
    Message::default().bytes(1, from).bytes(2, to).number(3, limit)
}

fn op(what: &Op<'_>) -> Message {
    let (field, request) = match *what {
        Op::Get(key) => (1, range(key, b"", 0)),
        Op::Range(from, to, limit) => (1, range(from, to, limit)),
        Op::Put(key, value) => (2, Message::default().bytes(1, key).bytes(2, value)),
        Op::PutLeased(key, value, lease) => {
            (2, Message::default().bytes(1, key).bytes(2, value).number(3, lease))
        }
        Op::Delete(key) => (3, Message::default().bytes(1, key)),
        Op::DeleteRange(from, to) => (3, Message::default().bytes(1, from).bytes(2, to)),
    };
    Message::default().message(field, &request)
}

/// A transaction: if all comparisons hold `then`, else `or`.
pub(super) fn txn(compares: &[Compare<'_>], then: &[Op<'_>], or: &[Op<'_>]) -> Vec<u8> {
    let mut message = Message::default();
    for what in compares {
        message = message.message(1, &compare(what));
    }
    for (field, ops) in [(2, then), (3, or)] {
        for what in ops {
            message = message.message(field, &op(what));
        }
    }
    message.into_bytes()
}

/// The newest key between the two that was changed after this revision; without its value.
pub(super) fn changed_since(from: &[u8], to: &[u8], revision: u64) -> Vec<u8> {
    let by_revision = range(from, to, 1).number(5, SORT_DESCEND).number(6, 3);
    by_revision.flag(8, true).number(10, revision.saturating_add(1)).into_bytes()
}

pub(super) fn compact(revision: u64) -> Vec<u8> {
    Message::default().number(1, revision).into_bytes()
}

/// Watches keys from one up to another, from this revision on.
pub(super) fn watch(from: &[u8], to: &[u8], revision: u64) -> Vec<u8> {
    let create = Message::default().bytes(1, from).bytes(2, to).number(3, revision);
    Message::default().message(1, &create).into_bytes()
}

pub(super) fn lease_grant(ttl_s: u32) -> Vec<u8> {
    Message::default().number(1, u64::from(ttl_s)).into_bytes()
}

/// To revoke one, and to keep one alive.
pub(super) fn lease(id: u64) -> Vec<u8> {
    Message::default().number(1, id).into_bytes()
}

pub(super) fn authenticate(user: &str, password: &str) -> Vec<u8> {
    Message::default().bytes(1, user.as_bytes()).bytes(2, password.as_bytes()).into_bytes()
}

/// A key with its value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct KeyValue {
    pub(super) key: Vec<u8>,
    pub(super) mod_revision: u64,
    pub(super) value: Vec<u8>,
}

/// What one reading operation found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Found {
    pub(super) revision: u64,
    pub(super) rows: Vec<KeyValue>,
}

/// What became of a transaction. Operations that only write have an empty [`Found`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Outcome {
    /// Which etcd has answered, by its own number.
    pub(super) etcd: u64,
    pub(super) revision: u64,
    pub(super) held: bool,
    pub(super) found: Vec<Found>,
}

/// The number of the etcd that answers, and its revision.
fn header(bytes: &[u8]) -> Result<(u64, u64), Malformed> {
    let (mut etcd, mut revision) = (0, 0);
    each_field(bytes, |field, value| {
        match field {
            1 => etcd = value.number()?,
            3 => revision = value.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((etcd, revision))
}

fn key_value(bytes: &[u8]) -> Result<KeyValue, Malformed> {
    let mut row = KeyValue::default();
    each_field(bytes, |field, value| {
        match field {
            1 => row.key = value.bytes()?.to_vec(),
            3 => row.mod_revision = value.number()?,
            5 => row.value = value.bytes()?.to_vec(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(row)
}

pub(super) fn read_range(bytes: &[u8]) -> Result<Found, Malformed> {
    let mut found = Found::default();
    each_field(bytes, |field, value| {
        match field {
            1 => (_, found.revision) = header(value.bytes()?)?,
            2 => found.rows.push(key_value(value.bytes()?)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

pub(super) fn read_txn(bytes: &[u8]) -> Result<Outcome, Malformed> {
    let mut outcome = Outcome::default();
    each_field(bytes, |field, value| {
        match field {
            1 => (outcome.etcd, outcome.revision) = header(value.bytes()?)?,
            2 => outcome.held = value.number()? != 0,
            3 => {
                let mut found = Found::default();
                each_field(value.bytes()?, |field, value| {
                    if field == 1 {
                        found = read_range(value.bytes()?)?;
                    }
                    Ok(())
                })?;
                outcome.found.push(found);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(outcome)
}

/// A message of a watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Watched {
    /// The highest revision of its events; 0 = it has none.
    pub(super) revision: u64,
    pub(super) is_cancelled: bool,
    /// What was compacted, if that is why it was cancelled.
    pub(super) compact_revision: u64,
}

pub(super) fn read_watch(bytes: &[u8]) -> Result<Watched, Malformed> {
    let mut watched = Watched::default();
    each_field(bytes, |field, value| {
        match field {
            4 => watched.is_cancelled = value.number()? != 0,
            5 => watched.compact_revision = value.number()?,
            11 => each_field(value.bytes()?, |field, value| {
                if field == 2 {
                    watched.revision = watched.revision.max(key_value(value.bytes()?)?.mod_revision);
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(watched)
}

/// The lease, and how long it lives from now on, in seconds; 0 = it has ended.
pub(super) fn read_lease(bytes: &[u8]) -> Result<(u64, u64), Malformed> {
    let (mut id, mut ttl_s) = (0, 0);
    each_field(bytes, |field, value| {
        match field {
            2 => id = value.number()?,
            3 => ttl_s = value.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((id, ttl_s))
}

/// How a member is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Status {
    pub(super) file_bytes: u64,
    pub(super) used_bytes: u64,
    /// Since etcd 3.6; 0 = it does not say.
    pub(super) quota_bytes: u64,
}

pub(super) fn read_status(bytes: &[u8]) -> Result<Status, Malformed> {
    let mut status = Status::default();
    each_field(bytes, |field, value| {
        match field {
            3 => status.file_bytes = value.number()?,
            9 => status.used_bytes = value.number()?,
            12 => status.quota_bytes = value.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(status)
}

/// Whether some member is out of space, out of the answer to an empty alarm request.
pub(super) fn read_is_out(bytes: &[u8]) -> Result<bool, Malformed> {
    const NO_SPACE: u64 = 1;
    let mut is_out = false;
    each_field(bytes, |field, value| {
        if field == 2 {
            each_field(value.bytes()?, |field, value| {
                is_out |= field == 2 && value.number()? == NO_SPACE;
                Ok(())
            })?;
        }
        Ok(())
    })?;
    Ok(is_out)
}

pub(super) fn read_token(bytes: &[u8]) -> Result<String, Malformed> {
    let mut token = String::new();
    each_field(bytes, |field, value| {
        if field == 2 {
            token = String::from_utf8(value.bytes()?.to_vec()).map_err(|_| Malformed)?;
        }
        Ok(())
    })?;
    Ok(token)
}

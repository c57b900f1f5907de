//! The exporter's own bounds, by name. Bounds shared between crates are in the core's `limits`.

use std::time::Duration;

/// Most facts folded into one transaction. At most two such batches are in memory, one being written and one
/// read ahead: 5 MiB each for rows, plus the texts of its facts, at most 512 bytes for an order.
pub const FACTS_PER_BATCH_MAX: usize = 1 << 16;
/// From this many new orders on, a batch goes by binary COPY instead of an insert over arrays.
pub const COPY_ROWS_MIN: usize = 2_000;
/// Facts read ahead at a time while the database works: few enough that its connection does not wait.
pub const AHEAD_FACTS: usize = 1_024;
/// Bytes of one message of a COPY: large enough that a message costs nothing per row.
pub const COPY_CHUNK_BYTES: usize = 1 << 17;
/// Most rows tried at once when the batch holds a row that Postgres refuses.
pub const CAREFUL_ROWS_MAX: usize = 4_096;
/// Most items whose ledger is kept in memory between batches.
pub const LEDGERS_MAX: usize = 1 << 16;
/// Most items that one sweep for outside changes returns.
pub const SWEEP_ITEMS_MAX: i64 = 1_024;
/// Items that one page of the preheating holds.
pub const PREHEAT_PAGE_ITEMS: i64 = 1_000;
/// Orders, or blocked buyers, that one page of the preheating holds.
pub const PREHEAT_PAGE_ORDERS: i64 = 5_000;

/// Longest wait for a connection, its handshake included.
pub const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest wait for another session's lock before the stock rows of a batch are put off.
pub const LOCK_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long stock rows stay put off after that.
pub const STOCK_REST: Duration = Duration::from_secs(5);
/// How long a stock row that Postgres refuses is not touched.
pub const REFUSED_REST: Duration = Duration::from_secs(60);
/// Longest time between two checks whether another process has taken over the database. A batch checks, too.
pub const FENCE_PERIOD: Duration = Duration::from_secs(1);
/// Least time between two sweeps for outside changes.
pub const SWEEP_PERIOD: Duration = Duration::from_millis(1_000);
/// A sweep may take at most this share of the time: one part in this many.
pub const SWEEP_SHARE: u32 = 20;
/// How long the engine has to answer a change that was made outside.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long facts may wait without one being exported, before an alarm is raised.
pub const STALL_MAX: Duration = Duration::from_secs(30);
/// Pause between two small batches.
pub const GATHER_WAIT: Duration = Duration::from_millis(5);
/// Pause when everything is exported.
pub const IDLE_WAIT: Duration = Duration::from_millis(10);
/// Most orders in one transaction of a refill.
pub const REFILL_ORDERS: usize = 8_192;
/// Most items, or blocked buyers, in one transaction of a refill.
pub const REFILL_ITEMS: usize = 1_000;
/// Most foreign rows that a refused refill names.
pub const REFILL_NAMED_MAX: usize = 10;
/// First wait after a lost connection; doubled each time.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest wait between two attempts to connect.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);

const _: () = {
    assert!(COPY_ROWS_MIN <= FACTS_PER_BATCH_MAX);
    assert!(CAREFUL_ROWS_MAX <= FACTS_PER_BATCH_MAX);
    assert!(BACKOFF_MIN.as_millis() < BACKOFF_MAX.as_millis());
};

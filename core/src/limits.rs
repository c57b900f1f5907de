//! Every bound of the product that is not a setting, by name, in one place.
//!
//! A queue, table or buffer whose size a client could influence takes its bound
//! from here. Relations between bounds are checked when this file compiles.

/// Longest subject (the buyer's opaque name), in bytes: what OpenID Connect allows an issuer
/// (Core 1.0 section 2).
pub const SUBJECT_BYTES_MAX: usize = 255;
/// Longest `Idempotency-Key`, in bytes: what payment providers take.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Longest reference of a payment or a refund, in bytes.
pub const PAYMENT_REF_BYTES_MAX: usize = 255;
/// Most bytes of a value between cores that are stored inline; a longer value is allocated.
pub const INLINE_BYTES_MAX: usize = 62;
/// Longest item name, in characters.
pub const ITEM_NAME_CHARS_MAX: usize = 200;
/// Longest item name, in bytes of UTF-8.
pub const ITEM_NAME_BYTES_MAX: usize = 4 * ITEM_NAME_CHARS_MAX;
/// An ISO 4217 code: three letters.
pub const CURRENCY_BYTES: usize = 3;
/// Longest name of who made a change, in bytes (an address, or a part of the engine).
pub const ACTOR_BYTES_MAX: usize = 64;

/// Largest item id: it fills the upper half of an order id and still fits a
/// signed 64-bit column.
pub const ITEM_ID_MAX: u32 = i32::MAX as u32;
/// Most units in one purchase, and the largest cap per buyer.
pub const QUANTITY_MAX: u32 = 1_000_000;
/// Largest stock ever granted to one item: sums of stocks stay far from overflow.
pub const STOCK_MAX: u64 = 1 << 40;
/// Largest price in minor units (JSON readers keep integers exact up to 2^53).
pub const PRICE_MINOR_MAX: u64 = 1 << 53;
/// Latest time accepted from outside, in Unix milliseconds (year 9999).
pub const UNIX_MILLIS_MAX: u64 = 253_402_300_799_999;
/// Longest hold, in milliseconds (30 days); fits the 32 bits that an order keeps of it.
pub const HOLD_MS_MAX: u64 = 30 * 24 * 3_600_000;

/// Shortest and longest draw phase, in milliseconds (1 s, 7 days).
pub const DRAW_MS_MIN: u32 = 1_000;
/// See [`DRAW_MS_MIN`].
pub const DRAW_MS_MAX: u32 = 7 * 24 * 3_600_000;

/// Most items in one engine; beyond it a new item is refused as `overloaded`.
pub const ITEMS_MAX: usize = 1 << 21;
/// Most orders kept by one shard; beyond it purchases are refused as `overloaded`.
pub const ORDERS_PER_SHARD_MAX: usize = 1 << 30;
/// Most bytes of buyers' names that one shard keeps, one name for each buyer and item; beyond it
/// purchases are refused as `overloaded`. A position among them fits 40 bits.
pub const SUBJECT_BYTES_PER_SHARD_MAX: u64 = 1 << 37;
/// Most bytes of idempotency keys and references that one shard keeps; beyond it purchases are refused
/// as `overloaded`. Payments and refunds go on up to twice that; a position then fits 38 bits.
pub const TEXT_BYTES_PER_SHARD_MAX: u64 = 1 << 37;
/// Most refunds and late payments recorded for one order. Beyond it a refund is refused; a further late
/// payment gets the same answer, but is not recorded.
pub const MONEY_ROWS_PER_ORDER_MAX: usize = 64;
/// Most orders of one item that a buyer may place, in whatever state they are, unless the item's cap is
/// larger: then as many as the cap. Beyond it purchases are refused as `cap_reached`. A cancelled order
/// gives the cap back, but not its memory.
pub const ORDERS_PER_BUYER_AND_ITEM_MAX: u8 = 64;
/// Most blocked buyers; beyond it blocking is refused as `overloaded`.
pub const BLOCKED_BUYERS_MAX: usize = 100_000;
/// Latest idempotency keys of merchant calls that are kept for one item: a call that is sent again counts
/// once, as long as no more than this many came after it.
pub const CALL_KEYS_PER_ITEM: usize = 64;
/// How full a table is when it raises an alarm, in percent of its bound.
pub const ALARM_PERCENT: u64 = 80;

/// Most CPU time of one operation of an owner, in microseconds, however large its tables are:
/// a purchase, a page of a list, a step of a draw, a tick. `cargo bench -p stampede-core`
/// measures it; the bounds below are chosen for it.
pub const VERB_CPU_US_MAX: u64 = 2_000;
/// Most rows in a part of an index, and so the most that one call moves: seven eighths of 4,096.
pub const INDEX_PART_ROWS_MAX: usize = 3_584;
/// Most rows that one tick looks at, whether they turn out to be due or not.
pub const TICK_STEPS_MAX: usize = 1_024;
/// Orders that one step of a draw looks at while it gathers the entries.
pub const DRAW_STEP_ORDERS: usize = 1_024;
/// Most orders that one page of a draw's entries looks at.
pub const SCAN_ORDERS_MAX: usize = 2_048;
/// Parts of a filter of holders that are made at once, ahead of their use: 256 KiB.
pub const FILTER_PARTS_AT_ONCE: usize = 16;
/// Merchant changes that one shard keeps in memory for the audit trail; the log keeps all.
pub const AUDIT_ENTRIES_MAX: usize = 10_000;

/// Most cores of one engine.
pub const CORES_MAX: usize = 64;
/// Most commands that an owner decides before it looks at its other duties.
pub const OWNER_BATCH_MAX: usize = 128;
/// Slots of the queue of facts to the journal; a power of two.
pub const JOURNAL_SLOTS: usize = 1 << 15;
/// Most bytes of one encoded fact, without the header of its record. A slot of the queue to the
/// journal then takes nineteen cache lines.
pub const FACT_BYTES_MAX: usize = 1_204;

/// The bounds of a shard's tables, as parameters: tests set small ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// See [`ITEMS_MAX`]; each shard has its share of it.
    pub items: usize,
    /// See [`ORDERS_PER_SHARD_MAX`].
    pub orders: usize,
    /// See [`SUBJECT_BYTES_PER_SHARD_MAX`].
    pub subject_bytes: u64,
    /// See [`TEXT_BYTES_PER_SHARD_MAX`].
    pub text_bytes: u64,
    /// See [`BLOCKED_BUYERS_MAX`].
    pub blocked: usize,
    /// See [`ORDERS_PER_BUYER_AND_ITEM_MAX`].
    pub orders_per_buyer_and_item: u8,
}

impl Bounds {
    /// The bounds of the product.
    pub const DEFAULT: Self = Self {
        items: ITEMS_MAX,
        orders: ORDERS_PER_SHARD_MAX,
        subject_bytes: SUBJECT_BYTES_PER_SHARD_MAX,
        text_bytes: TEXT_BYTES_PER_SHARD_MAX,
        blocked: BLOCKED_BUYERS_MAX,
        orders_per_buyer_and_item: ORDERS_PER_BUYER_AND_ITEM_MAX,
    };
}

const _: () = {
    assert!(JOURNAL_SLOTS.is_power_of_two());
    // Each owner checks for room before a batch and may then add a whole batch;
    // all of them at once must still fit.
    assert!(CORES_MAX * OWNER_BATCH_MAX <= JOURNAL_SLOTS / 2);
    assert!(HOLD_MS_MAX <= u32::MAX as u64);
    // The largest fact is an order with its buyer, its key, and two references; 120 bytes cover its
    // fixed part, and that of an item with a full name.
    assert!(ITEM_NAME_BYTES_MAX + ACTOR_BYTES_MAX + 120 <= FACT_BYTES_MAX);
    assert!(
        SUBJECT_BYTES_MAX + IDEMPOTENCY_KEY_BYTES_MAX + 2 * PAYMENT_REF_BYTES_MAX + ACTOR_BYTES_MAX + 120
            <= FACT_BYTES_MAX
    );
    // Their lengths are one byte in the log and in memory.
    assert!(SUBJECT_BYTES_MAX <= 255 && IDEMPOTENCY_KEY_BYTES_MAX <= 255 && PAYMENT_REF_BYTES_MAX <= 255);
};

//! Every limit of the HTTP code, by name. Relations between them are checked at compile time.
//!
//! There is no limit on what a client sends anywhere else in [`crate::http`].

/// Longest head unless `limits.head_bytes` says otherwise, in bytes: request line, header lines and
/// the empty line.
pub const HEAD_BYTES: usize = 8 * 1024;
/// The most that `limits.head_bytes` can allow: shops have many cookies.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most header lines.
pub const HEADERS_MAX: usize = 64;
/// Longest request target, in bytes.
pub const TARGET_BYTES_MAX: usize = 2 * 1024;
/// Longest request line with its line end: target, method, version, spaces.
pub const REQUEST_LINE_BYTES_MAX: usize = TARGET_BYTES_MAX + 64;
/// Longest method that is looked at, in bytes.
pub const METHOD_BYTES_MAX: usize = 32;
/// Longest body of a purchase, in bytes.
pub const BUY_BODY_BYTES_MAX: usize = 4 * 1024;
/// Longest body of any other request, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// What a connection's buffer holds at first, in bytes; one that is larger is given back when empty.
pub const CONN_BUFFER_BYTES: usize = 4 * 1024;
/// Most digits of a chunk's size.
pub const CHUNK_DIGITS_MAX: usize = 16;
/// Most bytes of extensions in all chunks of a body together; none has a meaning.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 1024;
/// Longest trailer behind the last chunk, in bytes; it has no effect.
pub const TRAILER_BYTES_MAX: usize = HEAD_BYTES;
/// Room to read into where a body of full length is in the buffer and the end of its chunks is not.
const CHUNK_ROOM_BYTES: usize = 1024;
/// What a connection's buffer can grow to where a head has so many bytes at most.
pub const fn conn_buffer_bytes_max(head_bytes: usize) -> usize {
    head_bytes + BODY_BYTES_MAX + CHUNK_ROOM_BYTES
}
/// The same for heads of the default length, in bytes.
pub const CONN_BUFFER_BYTES_MAX: usize = conn_buffer_bytes_max(HEAD_BYTES);

/// Most records in a batch.
pub const BATCH_RECORDS_MAX: usize = 8_192;
/// Longest body of a batch, in bytes: it is taken piece by piece and never kept whole.
pub const BATCH_BODY_BYTES_MAX: usize = 8 << 20;
/// Longest line of a batch, in bytes, without its line feed.
pub const BATCH_LINE_BYTES_MAX: usize = 4 * 1024;
/// What a connection's buffer holds while a batch comes in, in bytes.
pub const BATCH_BUFFER_BYTES: usize = 64 * 1024;

/// A head has to be complete this long after its first byte, in milliseconds.
pub const HEAD_MS_MAX: u64 = 5_000;
/// A body has to be complete this long after its head, in milliseconds.
pub const BODY_MS_MAX: u64 = 5_000;
/// A batch has to be complete this long after its head, in milliseconds; the time that the server
/// makes it wait does not count.
pub const BATCH_MS_MAX: u64 = 30_000;
/// An idle connection is kept for this long unless `limits.idle_ms` says otherwise, in
/// milliseconds: longer than the proxies' own 60 s, so that they close first.
pub const IDLE_MS: u64 = 75_000;
/// And for this much longer than clients are told: a request that was sent in time may be on its way.
pub const IDLE_GRACE_MS: u64 = 1_000;

/// Longest wait that `?wait_ms=` can ask for, in milliseconds.
pub const WAIT_MS_MAX: u32 = 30_000;
/// Orders in a buyer's list when `?limit=` is absent.
pub const BUYER_LIST_DEFAULT: u16 = 50;
/// Most orders in a buyer's list.
pub const BUYER_LIST_MAX: u16 = 200;
/// Most entries in a page of a draw, and how many when `?limit=` is absent.
pub const DRAW_LIST_MAX: u16 = 1_000;
/// Most orders in a page of an item's books: some 200 µs of work for the item's owner core.
pub const BOOKS_ORDERS_MAX: u16 = 1_000;
/// Most items in a page of the public list, and how many when `?limit=` is absent.
pub const PUBLIC_LIST_MAX: u16 = 100;
/// Rows in a merchant's list when `?limit=` is absent.
pub const MERCHANT_LIST_DEFAULT: u16 = 100;
/// Most rows in a merchant's list.
pub const MERCHANT_LIST_MAX: u16 = 1_000;

/// Deepest nesting of a JSON value.
pub const JSON_DEPTH_MAX: u32 = 16;
/// Longest name of a field that an `unknown_field` answer repeats, in bytes.
pub const FIELD_NAME_BYTES_MAX: usize = 32;

/// Longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// Verified tokens that a core remembers: some 5 MB of them, and another 8 MB where all names are of the longest.
pub const VERDICTS_MAX: usize = 1 << 15;

const _: () = {
    assert!(REQUEST_LINE_BYTES_MAX < HEAD_BYTES && HEAD_BYTES <= HEAD_BYTES_MAX);
    assert!(METHOD_BYTES_MAX + TARGET_BYTES_MAX + " HTTP/1.1 \r\n".len() < REQUEST_LINE_BYTES_MAX);
    assert!(BUY_BODY_BYTES_MAX <= BODY_BYTES_MAX);
    assert!(CONN_BUFFER_BYTES <= HEAD_BYTES);
    // The longest line with its line feed fits several times, and so does the longest record.
    assert!(BATCH_LINE_BYTES_MAX * 4 <= BATCH_BUFFER_BYTES);
    assert!(BATCH_BUFFER_BYTES <= CONN_BUFFER_BYTES_MAX);
    assert!(16 + BATCH_RECORDS_MAX * (24 + 3 * 255) <= BATCH_BODY_BYTES_MAX);
    // Offsets within a head are kept in 16 bits.
    assert!(HEAD_BYTES_MAX <= u16::MAX as usize);
};

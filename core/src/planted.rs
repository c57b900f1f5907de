//! Bugs planted on purpose, one at a time, to prove that the tests bite.
//!
//! Each stands at the place where a good engineer could make it, behind [`planted`]. Without
//! the feature `planted` that is `false` when compiled, and nothing of it is in the program.
//! With it, the bug that the environment variable `STAMPEDE_PLANTED` names is alive;
//! `make mutants` goes through all of them and prints which test noticed which
//! (`net/tests/mutants/`). A program that was built so says it when it starts.

macro_rules! bugs {
    ($($bug:ident, $name:literal, $what:literal;)*) => {
        /// A mistake that can be planted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Bug {
            $(#[doc = $what] $bug,)*
        }

        impl Bug {
            /// All of them, in the order of the table that `make mutants` prints.
            pub const ALL: &[Self] = &[$(Self::$bug),*];

            /// What `STAMPEDE_PLANTED` calls it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => $name,)* }
            }

            /// The mistake, in words.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$bug => $what,)* }
            }
        }
    };
}

bugs! {
    CheckThenAct, "check-then-act", "stock is looked at, then taken, in two steps";
    DedupeAfterTaking, "dedupe-after-taking", "a retry takes stock before its key is looked up";
    KeysInMemory, "keys-in-memory", "idempotency keys do not survive a restart";
    PayloadIgnored, "payload-ignored", "a key with another payload gets the old order";
    CapForgotten, "cap-forgotten", "orders that had moved on before a snapshot do not count against the cap after it";
    CapKept, "cap-kept", "a cancelled unit does not give the cap back";
    EarlySoldOut, "early-sold-out", "a winner's retry is answered sold out by the home core";
    FilterTooLate, "filter-too-late", "a winner enters the filter after the stock shows zero";
    ClosesLate, "closes-late", "the last millisecond after the window still sells";
    LatePayment, "late-payment", "a hold that has run out can still be paid";
    ExpiresTwice, "expires-twice", "an order that is paid or cancelled expires all the same";
    ReplayDecides, "replay-decides", "replay lets timers run, besides the facts";
    BlocklistForgotten, "blocklist-forgotten", "a snapshot leaves the blocklist out";
    LoserCounts, "loser-counts", "a lost entry counts against the cap";
    WalksNumbers, "walks-numbers", "the numbers between two orders are walked like orders";
    ReservesAtOnce, "reserves-at-once", "a table that grows moves all its rows in one call";
    OrdersUnbounded, "orders-unbounded", "a buyer may place and call off as many orders as there are numbers";
    FilterForgets, "filter-forgets", "a larger filter of holders takes the place of the smaller one, without its buyers";
    SnapshotOneArena, "snapshot-one-arena", "a snapshot is made in one shard, whose tables end before those of many owners do";
    AckBeforeSync, "ack-before-sync", "the watermark moves before the sync has returned";
    RetriedSync, "retried-sync", "a failed write of the log is tried once more";
    ShortWriteIgnored, "short-write-ignored", "a write that ended early counts as whole";
    TrimBeforeExport, "trim-before-export", "a segment goes that Postgres does not hold";
    ExportsByFlag, "exports-by-flag", "a start without a database trims what the log's database lacks";
    TrimBeforeSnapshot, "trim-before-snapshot", "a segment goes that no snapshot covers";
    TrimmedForgotten, "trimmed-forgotten", "a trimmed segment that cannot be taken back is forgotten, and those behind it, and counts for ever";
    TrimsAtOnce, "trims-at-once", "a start removes trimmed segments before it is durable that they do not count";
    DamageCut, "damage-cut", "damage to durable records is cut like a torn tail";
    ChainUnchecked, "chain-unchecked", "a block need not follow the one before it";
    SnapshotUnsynced, "snapshot-unsynced", "a snapshot is renamed before it is synced";
    EntryUnsynced, "entry-unsynced", "a new segment's directory entry is not synced";
    ParentUnsynced, "parent-unsynced", "of several new levels of a data directory only the first one's entry is synced";
    NamesTrusted, "names-trusted", "names that a killed process left are built upon without a sync";
    OneControlSlot, "one-control-slot", "the control file is overwritten in place";
    OverlayTaken, "overlay-taken", "an overlay whose upper layer lies in memory passes for a disk";
    GroupGoesOn, "group-goes-on", "a group goes on after a block that is not full, and recovery takes a lost block for a full one";
    ControlLags, "control-lags", "a fact that comes in time puts off the control file's turn, again and again";
    ClockTurnsBack, "clock-turns-back", "the sale clock starts at the wall clock, whatever the log says";
    ClockNotFollowed, "clock-not-followed", "the wall clock is read once, at the start";
    VersionUnchecked, "version-unchecked", "a stock row is overwritten without a version check";
    CursorOutside, "cursor-outside", "the cursor is moved in a transaction of its own, after the rows";
    CursorBefore, "cursor-before", "the cursor is moved in a transaction of its own, before the rows";
    CommitAssumed, "commit-assumed", "a COMMIT without an answer counts as done";
    ExportedEarly, "exported-early", "facts count as exported before the COMMIT";
    AheadDropped, "ahead-dropped", "facts that were read ahead are forgotten when the batch in front is written again";
    BatchGrows, "batch-grows", "a batch that may be committed takes more facts in";
    OldBackupTaken, "old-backup-taken", "a database from before the trim point is taken";
    RefillPassesOver, "refill-passes-over", "filling a database from a snapshot passes over rows of other orders";
    FenceDropped, "fence-dropped", "an engine does not notice that another has taken its place";
    StandbyStopsSale, "standby-stops-sale", "a database that lost its last commits ends the export, although the log has what it lacks";
    GivenSinceIgnored, "given-since-ignored", "a process takes a cursor back that was given to another one since";
    SameNonce, "same-nonce", "every process goes by the same number: two copies of a directory count as one";
    HashNotCompared, "hash-not-compared", "a database that holds other facts under the same LSNs is taken";
    LockedRowForgotten, "locked-row-forgotten", "a stock row that was locked is never looked at again";
    BadRowBlocks, "bad-row-blocks", "a row that Postgres refuses stops the export";
    SettingsLeftBehind, "settings-left-behind", "what the exporter sets for itself stays with the server's end of its connection";
    UnfitTaken, "unfit-taken", "a database is taken that cannot hold what is exported";
    SwallowedUnseen, "swallowed-unseen", "rows that a trigger swallows count as written";
    StallUntold, "stall-untold", "nobody is told of an export that makes no progress";
    ForeignRowReplaced, "foreign-row-replaced", "a row of somebody else gives way to the engine's";
    SellsBeforePreheat, "sells-before-preheat", "a log that was never attached sells what its database may know";
    PreheatStopsSale, "preheat-stops-sale", "a known database that fails while its new rows are read ends the start";
    VoidAlarmDropped, "void-alarm-dropped", "beside a refused row, nobody is told of a withdrawal that is void";
    ShownEarly, "shown-early", "a retry's answer does not wait for the log";
    ReadEarly, "read-early", "an order is read as placed before it is durable";
    ChunkedTaken, "chunked-taken", "Transfer-Encoding is ignored, and a Content-Length beside it counts";
    LengthTwice, "length-twice", "the last of several Content-Lengths counts";
    BareLineFeed, "bare-line-feed", "a line may end with a bare line feed";
    GoesOnAfterDoubt, "goes-on-after-doubt", "a connection goes on after a request that was refused unread";
    MacByEquals, "mac-by-equals", "a ticket's seal is compared with `==`";
    AppendedUnchecked, "appended-unchecked", "a fact from Postgres is appended before the rule of replay is asked";
    ImportCheckWeaker, "import-check-weaker", "an item to be taken over is judged by a weaker rule than that of replay";
    ImportEndsEarly, "import-ends-early", "any switch of an item whose import a crash cut short counts as the end of it";
    ImportForgotten, "import-forgotten", "an item whose import a crash cut short counts as taken over";
    VerifyByOwnRule, "verify-by-own-rule", "`log verify` keeps books and does not ask the rule of replay";
    ForeignPages, "foreign-pages", "pages of other sites may send what changes something";
    LaxChunks, "lax-chunks", "the line of a chunk may end with a bare line feed";
    ShortBatchTaken, "short-batch-taken", "a batch in chunks that ends before the last of its records counts";
    PlaceKept, "place-kept", "an item keeps its place in the list for buyers when it is over or its window moves";
    TagsByVersion, "tags-by-version", "a page's tag counts changes since the start, as its gauge does";
    TicketForAnyone, "ticket-for-anyone", "a ticket's seal does not cover the buyer";
    GivesWay, "gives-way", "a core's loop gives way through its executor, which then sleeps where nothing wakes it";
    LooksBeforeLowering, "looks-before-lowering", "a core looks for work before it asks to be woken";
    PausesWithoutEnd, "pauses-without-end", "the exporter asks again for a pause that the log has brought back";
    OwnRowsForeign, "own-rows-foreign", "rows that a log wrote before its cursor was lost are taken for somebody else's";
    FenceBySweep, "fence-by-sweep", "whether another process has taken the database over is not looked at by a timer";
    BlockUndone, "block-undone", "an earlier change of the blocklist that stood in line undoes a later one on the core that decides";
    RefillDropsVoid, "refill-drops-void", "a refill does not tell of a withdrawal that is void";
    ImportedLeftOut, "imported-left-out", "orders that came from a database are not written to the one that stands in for it";
    FirstHomeFirst, "first-home-first", "an owner under load begins with the first home each time";
    OwnFirst, "own-first", "an owner under load answers its own core's connections before all others";
    ChunkUncut, "chunk-uncut", "a chunk of a batch is decided in one go, whatever else waits";
    OneVerdict, "one-verdict", "of the tokens that were verified only the last is remembered";
    JunkUncharged, "junk-uncharged", "tokens are verified whatever their address has sent before";
    JunkForFree, "junk-for-free", "where no address has a rate, tokens are verified whatever it has sent before";
    ProxyAnyPeer, "proxy-any-peer", "a PROXY header counts from everybody, not from named proxies alone";
    ProxyWordDropped, "proxy-word-dropped", "the address that a PROXY header gives is read and not used";
    ContinueOvertakes, "continue-overtakes", "a client is told to go on before the answer that it is owed";
    AudienceUnread, "audience-unread", "a token that was made for another service counts";
    LifeUnbounded, "life-unbounded", "a token may count for as long as it says";
    EndsAlone, "ends-alone", "a core that has drained ends before the others, whose questions its owner should answer";
    AddressSilent, "address-silent", "nobody is told that a trusted proxy does not say whose requests it sends";
    StopsUntold, "stops-untold", "nobody is told that selling has stopped but who asks";
    UrlUnchecked, "url-unchecked", "the database's URL is read by its beginning alone, until the exporter starts";
    DiesOfHangup, "dies-of-hangup", "signals that mean nothing to the server are left to end it";
    WaitsForReaders, "waits-for-readers", "whoever logs a line writes it, waits for the reader, and panics where there is none";
    PaymentForgiven, "payment-forgiven", "a database that was filled from a snapshot may lack the reference of any payment";
    TellsFirst, "tells-first", "the watch over the cores takes a lock before it wakes or ends anything";
    BlamesForStops, "blames-for-stops", "the time in which the whole process was stopped counts against its cores";
    DumpsCore, "dumps-core", "a broken process ends by a signal, and the kernel writes its memory to a file";
    ServesInTurn, "serves-in-turn", "whoever stands in for the cores serves one client after the other";
    LeftToTheTick, "left-to-the-tick", "a sleeping core finds what others have for it at its next tick";
    AcceptsUnseen, "accepts-unseen", "nobody is told that the system lets no connection in";
    RefundOfAnyPayment, "refund-of-any-payment", "a refund that names another payment is taken for the order's";
    RefundedLooksExpired, "refunded-looks-expired", "a payment that was refunded is told to be given back once more";
    LatePaymentForgotten, "late-payment-forgotten", "a payment that comes too late leaves no trace";
    TakenAgainOverCap, "taken-again-over-cap", "an order that is taken again does not count against the cap";
    HoldWithoutEnd, "hold-without-end", "a hold may be extended beyond the item's bound";
    CallKeysIgnored, "call-keys-ignored", "a restock counts as often as it is sent";
    PriceOfToday, "price-of-today", "an order shows the price that its item has now";
    EndForgotten, "end-forgotten", "nobody keeps when an order was cancelled or expired";
    ReturnForgotten, "return-forgotten", "a snapshot does not know that a late payment was given back";
    PaymentsLeftOut, "payments-left-out", "late payments and refunds of parts are not written to the database";
    TextsForgotten, "texts-forgotten", "a snapshot leaves keys and references out";
    AcquiresLate, "acquires-late", "a core gets its ring only after the choice of the transport";
    HugePagesLocked, "huge-pages-locked", "what an executor registers lies in huge pages, each charged in full";
    StaysSilent, "stays-silent", "nobody looks whether the cores still turn";
    StartsSilent, "starts-silent", "nobody answers a health check while the log is replayed";
    EndsUntold, "ends-untold", "a core that has ended counts as one that stands still";
    CutsNewcomers, "cuts-newcomers", "whoever comes in while the engine closes is cut off without a word";
    GoesWithoutGoodbye, "goes-without-goodbye", "the answers of a core's last turn are not sent off";
    OneLessWaits, "one-less-waits", "a core of the waiting room that ends by itself is not missed";
}

/// Whether this bug is alive.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

/// Whether this bug is alive.
///
/// # Panics
/// When `STAMPEDE_PLANTED` names no bug: a typing error must not look like a bug that escaped.
#[cfg(feature = "planted")]
pub fn planted(bug: Bug) -> bool {
    alive() == Some(bug)
}

/// The bug that is alive in this process, if any.
#[cfg(feature = "planted")]
pub fn alive() -> Option<Bug> {
    static ALIVE: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    *ALIVE.get_or_init(|| {
        let name = std::env::var("STAMPEDE_PLANTED").ok().filter(|name| !name.is_empty())?;
        let bug = Bug::ALL.iter().copied().find(|bug| bug.name() == name);
        Some(bug.unwrap_or_else(|| panic!("STAMPEDE_PLANTED={name} is no planted bug")))
    })
}

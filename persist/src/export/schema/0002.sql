-- Version 2: who may write, told by what no copy of a data directory repeats, and whose rows are whose.

-- The epoch is handed out here: one more with each process that takes over. nonce names that
-- process (NULL: one of a program of version 1). chain is the SHA-256 of the log's block that holds
-- LSN lsn (NULL: not known yet, the next batch enters it): a log that has another hash there holds
-- other facts under the same numbers, and may not write here.
ALTER TABLE stampede_cursor
    ADD COLUMN nonce text CHECK (nonce ~ '^[0-9a-f]{32}$'),
    ADD COLUMN chain text CHECK (chain ~ '^[0-9a-f]{64}$');

-- For kind 'order': the id of the order that was set aside. The row that stands under this id in
-- stock_order, if there is one, is not the engine's, and what becomes of the order is not written to it.
ALTER TABLE stampede_set_aside ADD COLUMN order_id bigint;
CREATE INDEX stampede_set_aside_order ON stampede_set_aside (order_id) WHERE order_id IS NOT NULL;

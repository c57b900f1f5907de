-- Version 4: what was told of an order's money beside its payment, and when it ended.

-- One row for each late payment and each refund, also of a part. order_id: that of stock_order. lsn: the fact.
-- An LSN alone names no row: a database may hold orders of a log before this one. payment_ref: the late
-- payment's reference. refund_ref: the refund's own, or the idempotency key that stood for one. quantity: units
-- given back. Nothing refers to stock_order, so that either table may be tidied up alone.
CREATE TABLE stock_payment (
    order_id    bigint NOT NULL,
    lsn         bigint NOT NULL,
    sid         bigint NOT NULL,
    kind        text NOT NULL,
    payment_ref text,
    refund_ref  text,
    quantity    integer NOT NULL DEFAULT 0,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (order_id, lsn)
);

-- When an order was cancelled or expired (NULL: it was not, or a program before this version saw it);
-- it stays if the order was taken again since.
ALTER TABLE stock_order ADD COLUMN end_time timestamptz;

-- Facts up to this LSN were exported before there was a stock_payment: their rows may be missing in it.
ALTER TABLE stampede_cursor ADD COLUMN payments_after bigint NOT NULL DEFAULT 0;
UPDATE stampede_cursor SET payments_after = lsn;

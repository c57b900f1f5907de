-- Version 3: what an order cost, and what was given back of it.

-- price_minor and currency: of one unit, at the moment of the purchase (NULL: an order of an older
-- program). refund_ref: the last refund's own reference, never the payment's. refunded: units given back.
-- The columns are nullable or have a constant default, so that this takes no time however many orders
-- there are.
ALTER TABLE stock_order
    ADD COLUMN price_minor bigint,
    ADD COLUMN currency text,
    ADD COLUMN refund_ref text,
    ADD COLUMN refunded integer NOT NULL DEFAULT 0;

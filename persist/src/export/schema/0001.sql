-- Version 1: the tables of the field's tutorials, and the engine's own beside them.

-- What is on sale. The engine owns every column but count: an edit of count by
-- somebody else is taken over as a restock or a withdrawal. granted = count + held + sale.
CREATE TABLE stock (
    id                bigint PRIMARY KEY CHECK (id BETWEEN 1 AND 2147483647),
    name              text NOT NULL,
    count             bigint NOT NULL CHECK (count >= 0),
    held              bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    sale              bigint NOT NULL DEFAULT 0 CHECK (sale >= 0),
    version           bigint NOT NULL DEFAULT 0,
    price_minor       bigint NOT NULL DEFAULT 0 CHECK (price_minor >= 0),
    currency          text NOT NULL DEFAULT 'CNY' CHECK (currency ~ '^[A-Z]{3}$'),
    opens_at_ms       bigint NOT NULL DEFAULT 0 CHECK (opens_at_ms >= 0),
    closes_at_ms      bigint NOT NULL DEFAULT 253402300799999 CHECK (closes_at_ms > opens_at_ms),
    cap               integer NOT NULL DEFAULT 1 CHECK (cap >= 1),
    payment           text NOT NULL DEFAULT 'on_order' CHECK (payment IN ('on_order', 'hold', 'on_payment')),
    hold_ms           bigint NOT NULL DEFAULT 0 CHECK (hold_ms >= 0),
    ticket            text NOT NULL DEFAULT 'never' CHECK (ticket IN ('never', 'required')),
    challenge         text NOT NULL DEFAULT 'never' CHECK (challenge IN ('never', 'suspicious', 'always')),
    min_level         integer NOT NULL DEFAULT 0 CHECK (min_level BETWEEN 0 AND 255),
    min_account_age_s bigint NOT NULL DEFAULT 0 CHECK (min_account_age_s >= 0),
    admit_per_s       bigint NOT NULL DEFAULT 0 CHECK (admit_per_s >= 0),
    paused            boolean NOT NULL DEFAULT false,
    closed            boolean NOT NULL DEFAULT false,
    ended             boolean NOT NULL DEFAULT false,
    update_time       timestamptz NOT NULL DEFAULT now()
);

-- Who bought what. id = sid * 2^32 + the order's number within its item, so the orders
-- of an item are a range of the primary key. lsn 0 = not written by the engine.
-- buyer, idem_key and payment_ref are opaque bytes shown as text: bytes that are not
-- UTF-8, and NUL, as \xHH, a backslash as \\.
-- No index on buyer: values in random order make the drain two to three times slower.
-- Whoever looks orders up by buyer here adds it, best after the sale:
-- CREATE INDEX CONCURRENTLY stock_order_buyer ON stock_order (buyer);
CREATE TABLE stock_order (
    id          bigint PRIMARY KEY,
    sid         bigint NOT NULL,
    name        text,
    buyer       text NOT NULL,
    quantity    integer NOT NULL CHECK (quantity > 0),
    state       text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    pay_by      timestamptz,
    update_time timestamptz NOT NULL DEFAULT now(),
    payment_ref text,
    idem_key    text,
    lsn         bigint NOT NULL DEFAULT 0
);

-- How far each log has come; epoch names the one process that may write.
CREATE TABLE stampede_cursor (
    log_id      text PRIMARY KEY,
    epoch       bigint NOT NULL,
    lsn         bigint NOT NULL,
    update_time timestamptz NOT NULL DEFAULT now()
);

-- The engine's own books: what the facts up to the cursor say (count, held, sale),
-- what others changed in stock.count and the engine has not answered yet (outside), and
-- the stock row as it was last left (row_*). A stock row that differs from row_* was
-- changed by somebody else; one that differs from the books is behind them.
CREATE TABLE stampede_item (
    id                bigint PRIMARY KEY,
    name              text NOT NULL,
    count             bigint NOT NULL,
    held              bigint NOT NULL,
    sale              bigint NOT NULL,
    price_minor       bigint NOT NULL,
    currency          text NOT NULL,
    opens_at_ms       bigint NOT NULL,
    closes_at_ms      bigint NOT NULL,
    cap               integer NOT NULL,
    payment           text NOT NULL,
    hold_ms           bigint NOT NULL,
    ticket            text NOT NULL,
    challenge         text NOT NULL,
    min_level         integer NOT NULL,
    min_account_age_s bigint NOT NULL,
    admit_per_s       bigint NOT NULL,
    paused            boolean NOT NULL DEFAULT false,
    closed            boolean NOT NULL DEFAULT false,
    ended             boolean NOT NULL DEFAULT false,
    outside           bigint NOT NULL DEFAULT 0,
    row_version       bigint,
    row_count         bigint,
    row_held          bigint,
    row_sale          bigint,
    pause_reason      text
);

-- Buyers who may not buy.
CREATE TABLE stampede_blocked (
    buyer text PRIMARY KEY,
    actor text NOT NULL DEFAULT '',
    since timestamptz NOT NULL DEFAULT now(),
    lsn   bigint NOT NULL DEFAULT 0
);

-- Rows that Postgres refused for their own sake: what, and why.
CREATE TABLE stampede_set_aside (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time   timestamptz NOT NULL DEFAULT now(),
    lsn    bigint NOT NULL,
    kind   text NOT NULL,
    what   text NOT NULL,
    reason text NOT NULL
);

//! Rows as no author thought of them: every column of the tables over its whole SQL type.
//!
//! A case is a small shop that is in order, and a few columns of it overwritten with odd values.
//! Values are SQL literals, so that NULL, infinity and numbers out of range are values like any
//! other. What the tables' own constraints refuse is simply not there.

use std::fmt;

use proptest::prelude::*;

/// A row of some table, as columns and literals.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    table: &'static str,
    columns: Vec<(&'static str, String)>,
}

impl Row {
    fn new(table: &'static str, columns: Vec<(&'static str, String)>) -> Self {
        Self { table, columns }
    }

    fn set(&mut self, column: &'static str, value: &str) {
        self.columns.retain(|(known, _)| *known != column);
        self.columns.push((column, value.to_owned()));
    }

    pub(crate) fn insert(&self) -> String {
        let (names, values): (Vec<&str>, Vec<&str>) =
            self.columns.iter().map(|(name, value)| (*name, value.as_str())).unzip();
        format!("INSERT INTO {} ({}) VALUES ({})", self.table, names.join(", "), values.join(", "))
    }
}

/// A shop, and what somebody does to it while it is open.
#[derive(Clone)]
pub(crate) struct Shop {
    /// Whether the tables have lost their constraints.
    pub(crate) loose: bool,
    pub(crate) rows: Vec<Row>,
    pub(crate) edits: Vec<String>,
}

/// As SQL, to be tried by hand.
impl fmt::Debug for Shop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "-- loose: {}", self.loose)?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{};", row.insert()))?;
        self.edits.iter().try_for_each(|edit| writeln!(f, "{edit}; -- while it runs"))
    }
}

/// What can stand in a column.
#[derive(Clone, Copy)]
enum Kind {
    Big,
    Int,
    Text,
    Time,
    Bool,
}
use Kind::{Big, Bool, Int, Text, Time};

const STOCK: [(&str, Kind); 22] = [
    ("id", Big),
    ("name", Text),
    ("count", Big),
    ("held", Big),
    ("sale", Big),
    ("version", Big),
    ("price_minor", Big),
    ("currency", Text),
    ("opens_at_ms", Big),
    ("closes_at_ms", Big),
    ("cap", Int),
    ("payment", Text),
    ("hold_ms", Big),
    ("ticket", Text),
    ("challenge", Text),
    ("min_level", Int),
    ("min_account_age_s", Big),
    ("admit_per_s", Big),
    ("paused", Bool),
    ("closed", Bool),
    ("ended", Bool),
    ("update_time", Time),
];

const ORDERS: [(&str, Kind); 17] = [
    ("id", Big),
    ("sid", Big),
    ("name", Text),
    ("buyer", Text),
    ("quantity", Int),
    ("state", Text),
    ("create_time", Time),
    ("pay_by", Time),
    ("update_time", Time),
    ("payment_ref", Text),
    ("idem_key", Text),
    ("lsn", Big),
    ("price_minor", Big),
    ("currency", Text),
    ("refund_ref", Text),
    ("refunded", Int),
    ("end_time", Time),
];

const PAYMENTS: [(&str, Kind); 8] = [
    ("order_id", Big),
    ("lsn", Big),
    ("sid", Big),
    ("kind", Text),
    ("payment_ref", Text),
    ("refund_ref", Text),
    ("quantity", Int),
    ("create_time", Time),
];

const STATES: [&str; 9] =
    ["confirmed", "held", "pending", "paid", "cancelled", "expired", "refunded", "entered", "lost"];

/// Items of a case; the last has the highest number there is.
const ITEMS: [i64; 3] = [1, 2, i32::MAX as i64];

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn odd_number(kind: Kind) -> BoxedStrategy<String> {
    let edges = match kind {
        Int => vec![0, 1, -1, 2, 255, 256, 1_000_000, 1_000_001, i64::from(i32::MAX), i64::from(i32::MIN)],
        _ => vec![
            0,
            1,
            -1,
            7,
            1 << 31,
            (1 << 31) - 1,
            1 << 32,
            1 << 40,
            (1 << 40) + 1,
            (1 << 53) + 1,
            253_402_300_799_999,
            253_402_300_800_000,
            i64::MAX,
            i64::MIN,
        ],
    };
    let any = any::<i64>().prop_map(move |n| if matches!(kind, Int) { i64::from(n as i32) } else { n });
    prop_oneof![
        1 => Just("NULL".to_owned()),
        6 => prop::sample::select(edges).prop_map(|n| n.to_string()),
        2 => any.prop_map(|n| n.to_string()),
    ]
    .boxed()
}

fn odd_text() -> BoxedStrategy<String> {
    let long = |n: usize| "x".repeat(n);
    let some = vec![
        String::new(),
        " ".to_owned(),
        long(64),
        long(65),
        long(200),
        long(201),
        long(20_000),
        "秒".repeat(21),
        "秒".repeat(22),
        "e\u{301}\u{202e}\u{feff}🦀".to_owned(),
        "a\u{1}\n\t\u{7f}".to_owned(),
        "\\".to_owned(),
        "\\\\".to_owned(),
        "\\x00".to_owned(),
        "\\xZZ".to_owned(),
        "O'Brien; DROP TABLE stock".to_owned(),
        "PAID".to_owned(),
        "paid ".to_owned(),
        "hold".to_owned(),
        "on_payment".to_owned(),
        "required".to_owned(),
        "always".to_owned(),
        "EUR".to_owned(),
        "ÄÖÜ".to_owned(),
    ];
    let states = prop::sample::select(STATES.to_vec()).prop_map(quoted);
    let any = "\\PC{0,80}".prop_map(|text| quoted(&text));
    prop_oneof![
        1 => Just("NULL".to_owned()),
        5 => prop::sample::select(some).prop_map(|text| quoted(&text)),
        1 => states,
        2 => any,
    ]
    .boxed()
}

fn odd_time() -> BoxedStrategy<String> {
    let some = [
        "NULL",
        "'infinity'",
        "'-infinity'",
        "'4713-01-01 00:00:00+00 BC'",
        "'294276-12-31 23:59:59.999999+00'",
        "'1970-01-01 00:00:00+00'",
        "'1969-12-31 23:59:59.9996+00'",
        "'1969-12-31 00:00:00+00'",
        "'9999-12-31 23:59:59.999999+00'",
        "'10000-01-01 00:00:00+00'",
        "'2024-05-01 12:00:00.0004+00'",
        "'2024-05-01 12:00:00+00'",
        "'2024-05-01 12:30:00+00'",
        "'2099-05-01 12:30:00+14'",
        "now()",
    ];
    prop::sample::select(some.to_vec()).prop_map(str::to_owned).boxed()
}

fn odd(kind: Kind) -> BoxedStrategy<String> {
    match kind {
        Big | Int => odd_number(kind),
        Text => odd_text(),
        Time => odd_time(),
        Bool => prop::sample::select(vec!["NULL", "true", "false"]).prop_map(str::to_owned).boxed(),
    }
}

/// A column of the table and an odd value for it.
fn odd_column(columns: &'static [(&'static str, Kind)]) -> impl Strategy<Value = (&'static str, String)> {
    (0..columns.len()).prop_flat_map(move |at| {
        let (name, kind) = columns[at];
        odd(kind).prop_map(move |value| (name, value))
    })
}

/// None, mostly; now and then some.
fn odd_columns(
    columns: &'static [(&'static str, Kind)],
) -> impl Strategy<Value = Vec<(&'static str, String)>> {
    prop_oneof![
        12 => Just(Vec::new()),
        3 => prop::collection::vec(odd_column(columns), 1..2),
        1 => prop::collection::vec(odd_column(columns), 2..5),
    ]
}

/// An order: how far its number is from the one before, its state, units, deadline, and its odd
/// columns.
type OrderCase = (u32, usize, i64, &'static str, Vec<(&'static str, String)>);

/// What single columns hardly make: values that are odd only beside each other.
fn deadline() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        10 => Just("NULL"),
        8 => Just("'2024-05-01 12:15:00+00'"),
        1 => Just("'2024-05-01 12:00:00+00'"),
        1 => Just("'2020-05-01 12:00:00+00'"),
    ]
}

fn orders() -> impl Strategy<Value = Vec<OrderCase>> {
    let near = prop_oneof![1 => Just(0), 12 => 1..3_u32];
    // Numbers of orders may have huge gaps.
    let step = prop_oneof![3 => near, 1 => any::<u32>()].boxed();
    let one = (step, 0..STATES.len(), 1..4_i64, deadline(), odd_columns(&ORDERS));
    prop::collection::vec(one, 0..6)
}

/// A stock row that agrees with its orders, and these; then what is odd about them.
fn item(id: i64) -> impl Strategy<Value = Vec<Row>> {
    (orders(), 0..20_i64, odd_columns(&STOCK)).prop_map(move |(orders, count, odd)| {
        let (mut held, mut sale, mut rows, mut seq) = (0, 0, Vec::new(), 0_u32);
        for (step, state, units, deadline, odd) in orders {
            seq = seq.saturating_add(step);
            match STATES[state] {
                "held" => held += units,
                "confirmed" | "paid" => sale += units,
                _ => {}
            }
            rows.push(order(id, seq, (STATES[state], units, deadline), &odd));
        }
        let mut stock = Row::new(
            "stock",
            vec![
                ("id", id.to_string()),
                ("name", quoted(&format!("item {id}"))),
                ("count", count.to_string()),
                ("held", held.to_string()),
                ("sale", sale.to_string()),
            ],
        );
        odd.iter().for_each(|(column, value)| stock.set(column, value));
        rows.push(stock);
        rows
    })
}

fn order(
    id: i64,
    seq: u32,
    (state, units, pay_by): (&str, i64, &str),
    odd: &[(&'static str, String)],
) -> Row {
    let mut row = Row::new(
        "stock_order",
        vec![
            ("id", ((id << 32) + i64::from(seq)).to_string()),
            ("sid", id.to_string()),
            ("buyer", quoted(&format!("buyer {seq}"))),
            ("quantity", units.to_string()),
            ("state", quoted(state)),
            ("create_time", "'2024-05-01 12:00:00+00'".to_owned()),
            ("pay_by", pay_by.to_owned()),
        ],
    );
    odd.iter().for_each(|(column, value)| row.set(column, value));
    row
}

/// What was told of the money of an order that may be there: under an LSN that the engine may come to use.
fn payment() -> impl Strategy<Value = Row> {
    let which = prop::sample::select(ITEMS.to_vec());
    (which, 1..15_i64, 1..60_i64, odd_columns(&PAYMENTS)).prop_map(|(id, seq, lsn, odd)| {
        let mut row = Row::new(
            "stock_payment",
            vec![
                ("order_id", ((id << 32) + seq).to_string()),
                ("lsn", lsn.to_string()),
                ("sid", id.to_string()),
                ("kind", quoted("late_payment")),
                ("payment_ref", quoted("theirs")),
                ("create_time", "'2024-05-01 12:00:00+00'".to_owned()),
            ],
        );
        odd.iter().for_each(|(column, value)| row.set(column, value));
        row
    })
}

/// An order of no item in the shop, and a buyer who may not buy.
fn strays() -> impl Strategy<Value = Vec<Row>> {
    let stray = (3..9_i64, 1..9_u32, odd_columns(&ORDERS))
        .prop_map(|(id, seq, odd)| order(id, seq, ("paid", 1, "NULL"), &odd));
    let blocked = odd_text().prop_map(|buyer| Row::new("stampede_blocked", vec![("buyer", buyer)]));
    prop::collection::vec(prop_oneof![1 => stray, 1 => blocked, 2 => payment()], 0..4)
}

/// What somebody does by SQL while the engine runs.
fn edit() -> impl Strategy<Value = String> {
    let which = prop::sample::select(ITEMS.to_vec());
    let of_stock = (which.clone(), odd_column(&STOCK))
        .prop_map(|(id, (column, value))| format!("UPDATE stock SET {column} = {value} WHERE id = {id}"));
    let of_order = (which.clone(), 1..15_i64, odd_column(&ORDERS)).prop_map(|(id, seq, (column, value))| {
        format!("UPDATE stock_order SET {column} = {value} WHERE id = {}", (id << 32) + seq)
    });
    let new_order = (which.clone(), 1..40_u32, odd_columns(&ORDERS))
        .prop_map(|(id, seq, odd)| order(id, seq, ("confirmed", 1, "NULL"), &odd).insert());
    let new_payment = payment().prop_map(|row| row.insert());
    let of_payment = odd_column(&PAYMENTS)
        .prop_map(|(column, value)| format!("UPDATE stock_payment SET {column} = {value}"));
    let gone = which.clone().prop_map(|id| format!("DELETE FROM stock WHERE id = {id}"));
    let orders_gone = which.prop_map(|id| format!("DELETE FROM stock_order WHERE id >> 32 = {id}"));
    prop_oneof![
        4 => of_stock, 4 => of_order, 2 => new_order, 1 => gone, 1 => orders_gone, 1 => new_payment, 1 => of_payment
    ]
}

/// A case.
pub(crate) fn shop() -> impl Strategy<Value = Shop> {
    let items = (item(ITEMS[0]), item(ITEMS[1]), prop::option::weighted(0.3, item(ITEMS[2])));
    let edits = prop::collection::vec(edit(), 0..5);
    (any::<bool>(), items, strays(), edits).prop_map(|(loose, (one, two, last), strays, edits)| {
        let rows = [one, two, last.unwrap_or_default(), strays].concat();
        Shop { loose, rows, edits }
    })
}

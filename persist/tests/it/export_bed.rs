//! What the export's tests stand on: one throw-away cluster with a database per test, a
//! log in memory, a slow model of what the rows must be, and a proxy that cuts connections.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crc32c::crc32c;
use postgres::{Client, NoTls};
use stampede_core::fact::Fact;
use stampede_core::item::{ChallengeRule, ItemSpec, OrderState, Payment, Pile, TicketRule};
use stampede_core::limits::FACT_BYTES_MAX;
use stampede_core::money::Price;
use stampede_core::sample::{self, Item, Order, item_id};
use stampede_core::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};
use stampede_persist::codec;
use stampede_persist::export::{
    Alarm, ExportEvent, ExportPort, ExportStatus, Exporter, ExporterOptions, LogId, Nonce, Step,
};
use stampede_persist::feed::{FactFeed, FeedError};
use stampede_persist::log::block::ChainHash;
use stampede_testkit::{ClusterOptions, PostgresCluster};

pub(crate) const LOG: LogId = LogId([7; 16]);
/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const T0: u64 = 1_800_000_000_000;

/// The one cluster of this test binary. Its warden removes it when the process ends.
pub(crate) fn cluster() -> &'static PostgresCluster {
    static CLUSTER: OnceLock<PostgresCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| PostgresCluster::new(ClusterOptions::default()).expect("a throw-away cluster"))
}

/// A database of the test's own; its name.
pub(crate) fn fresh_database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
    client(&cluster().url()).batch_execute(&format!("CREATE DATABASE {name}")).expect("created");
    name
}

pub(crate) fn client(url: &str) -> Client {
    Client::connect(url, NoTls).expect("connected")
}

/// What the port and the test share: the log, and what the exporter said.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) facts: Vec<Fact<'static>>,
    /// By fact; see [`FakeEngine::chain_at`].
    chain: Vec<ChainHash>,
    pub(crate) first: u64,
    pub(crate) exported: Lsn,
    pub(crate) events: Vec<ExportEvent>,
    /// Up to where a feed has handed facts out.
    pub(crate) read: Lsn,
    /// The fact at which a feed breaks.
    pub(crate) breaks_at: Option<(Lsn, Break)>,
}

/// How a feed breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Break {
    /// The first that comes there cannot read it.
    Once,
    /// The log is damaged there.
    ForGood,
}

/// A log in memory and the engine's side of the exporter.
#[derive(Clone, Default)]
pub(crate) struct FakeEngine(pub(crate) Arc<Mutex<Shared>>);

impl FakeEngine {
    pub(crate) fn with(facts: impl IntoIterator<Item = Fact<'static>>) -> Self {
        let engine = Self::default();
        engine.append(facts);
        engine
    }
    pub(crate) fn append(&self, facts: impl IntoIterator<Item = Fact<'static>>) {
        self.0.lock().expect("lock").facts.extend(facts);
    }
    /// What stands for the hash of the log's block that holds this LSN: it depends on every fact up to it.
    pub(crate) fn chain_at(&self, lsn: Lsn) -> ChainHash {
        let mut guard = self.0.lock().expect("lock");
        let shared = &mut *guard;
        let mut bytes = [0; FACT_BYTES_MAX];
        while shared.chain.len() < lsn.0 as usize {
            let at = shared.chain.len();
            let len = codec::encode(&shared.facts[at], &mut bytes);
            let mut hash = crc32c(&bytes[..len]).to_le_bytes().to_vec();
            hash.extend_from_slice(shared.chain.last().map_or(&[0; 32][..], |before| before));
            let low = crc32c(&hash);
            let mut next = [0; 32];
            next[..4].copy_from_slice(&low.to_le_bytes());
            next[4..8].copy_from_slice(&hash[..4]);
            shared.chain.push(next);
        }
        lsn.0.checked_sub(1).map_or([0; 32], |last| shared.chain[last as usize])
    }
    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.0.lock().expect("lock").facts.len() as u64)
    }
    pub(crate) fn facts(&self) -> Vec<Fact<'static>> {
        self.0.lock().expect("lock").facts.clone()
    }
    pub(crate) fn events(&self) -> Vec<ExportEvent> {
        self.0.lock().expect("lock").events.clone()
    }
    pub(crate) fn exported(&self) -> Lsn {
        self.0.lock().expect("lock").exported
    }
    /// Differences that the exporter asked about, in order.
    pub(crate) fn asked(&self) -> Vec<(u32, i64)> {
        let asked = |event: &ExportEvent| match event {
            ExportEvent::StockChangedOutside { item, delta, .. } => Some((item.get(), *delta)),
            _ => None,
        };
        self.events().iter().filter_map(asked).collect()
    }
    pub(crate) fn pauses(&self) -> Vec<u32> {
        let paused = |event: &ExportEvent| match event {
            ExportEvent::PauseItem { item, .. } => Some(item.get()),
            _ => None,
        };
        self.events().iter().filter_map(paused).collect()
    }
    pub(crate) fn alarms(&self) -> Vec<Alarm> {
        let alarm = |event: &ExportEvent| match event {
            ExportEvent::Alarm(alarm) => Some(alarm.clone()),
            _ => None,
        };
        self.events().iter().filter_map(alarm).collect()
    }
    /// Everything that was said, as one text, to search in.
    pub(crate) fn said(&self) -> String {
        let words = |event: &ExportEvent| match event {
            ExportEvent::Alarm(alarm) => alarm.to_string(),
            ExportEvent::Refused(error) => format!("refused: {error}"),
            other => format!("{other:?}"),
        };
        self.events().iter().map(words).collect::<Vec<_>>().join("\n")
    }
}

impl Shared {
    fn break_feed(&mut self, how: Break) -> FeedError {
        let file = PathBuf::from("log");
        if how == Break::ForGood {
            return FeedError::Damaged { file, offset: 0, reason: "its checksum is wrong".to_owned() };
        }
        self.breaks_at = None;
        FeedError::Io { file, source: std::io::Error::other("unreadable") }
    }
}

struct FakeFeed {
    engine: FakeEngine,
    next: usize,
}

impl FactFeed for FakeFeed {
    fn read(
        &mut self,
        up_to: Lsn,
        max: usize,
        visit: &mut dyn FnMut(Lsn, &Fact<'_>),
    ) -> Result<usize, FeedError> {
        let mut shared = self.engine.0.lock().expect("lock");
        let end = (up_to.0 as usize).min(shared.facts.len()).min(self.next + max);
        let read = self.next..end.max(self.next);
        for at in read.clone() {
            let lsn = Lsn(at as u64 + 1);
            if let Some((_, how)) = shared.breaks_at.filter(|(at, _)| *at == lsn) {
                return Err(shared.break_feed(how));
            }
            visit(lsn, &shared.facts[at]);
            shared.read = lsn;
        }
        self.next = read.end;
        Ok(read.len())
    }

    fn chain(&mut self) -> Result<ChainHash, FeedError> {
        Ok(self.engine.chain_at(Lsn(self.next as u64)))
    }
}

impl ExportPort for FakeEngine {
    fn durable_lsn(&self) -> Lsn {
        self.durable()
    }
    fn first_retained_lsn(&self) -> Lsn {
        Lsn(self.0.lock().expect("lock").first.max(1))
    }
    fn open_feed(&mut self, after: Lsn) -> Result<Box<dyn FactFeed + Send>, FeedError> {
        Ok(Box::new(FakeFeed { engine: self.clone(), next: after.0 as usize }))
    }
    fn exported(&mut self, lsn: Lsn) {
        let mut shared = self.0.lock().expect("lock");
        assert!(lsn >= shared.exported, "exported went back from {} to {lsn}", shared.exported);
        shared.exported = lsn;
    }
    fn event(&mut self, event: ExportEvent) {
        let mut shared = self.0.lock().expect("lock");
        if let ExportEvent::Moved { found, .. } = event {
            shared.exported = found;
        }
        shared.events.push(event);
    }
}

/// An exporter on a database of the shared cluster.
pub(crate) fn exporter(engine: &FakeEngine, database: &str) -> Exporter {
    exporter_to(engine, cluster().url_of(database), |_| {})
}

pub(crate) fn exporter_to(
    engine: &FakeEngine,
    url: String,
    change: impl FnOnce(&mut ExporterOptions),
) -> Exporter {
    let mut options = ExporterOptions::new(url, LOG, Nonce::new(1));
    change(&mut options);
    engine.0.lock().expect("lock").exported = Lsn::ZERO;
    Exporter::new(options, Box::new(engine.clone()), Arc::new(ExportStatus::default())).expect("an exporter")
}

/// Steps until the condition holds.
#[track_caller]
pub(crate) fn step_until(exporter: &mut Exporter, what: &str, mut done: impl FnMut(Step, &Exporter) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let step = exporter.step();
        if done(step, exporter) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "not in time: {what}; last step {step:?}, {:?}",
            exporter.status()
        );
        if let Step::Wait(_) | Step::Idle = step {
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

/// Steps until everything is exported.
#[track_caller]
pub(crate) fn drain(exporter: &mut Exporter, engine: &FakeEngine) {
    let durable = engine.durable();
    step_until(exporter, "drained", |step, _| {
        assert_ne!(step, Step::Stopped, "stopped: {}", engine.said());
        step == Step::Idle && engine.exported() == durable
    });
}

pub(crate) fn item(id: u64) -> ItemId {
    item_id(id)
}

pub(crate) fn order(item_id: u64, seq: u32) -> OrderId {
    OrderId::new(item(item_id), seq)
}

fn units(units: u32) -> Quantity {
    Quantity::new(units.into()).expect("units")
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

pub(crate) fn spec(name: &'static str) -> ItemSpec<'static> {
    ItemSpec {
        price_minor: 499_900,
        opens_at_ms: UnixMillis(T0),
        closes_at_ms: UnixMillis(T0 + 3_600_000),
        cap: 2,
        payment: Payment::Hold,
        hold_ms: 60_000,
        ticket: TicketRule::Required,
        challenge: ChallengeRule::Suspicious,
        min_level: 3,
        min_account_age_s: 86_400,
        admit_per_s: 1_000,
        ..sample::spec(name)
    }
}

pub(crate) fn created(id: u64, granted: u64) -> Fact<'static> {
    created_by(id, granted, "merchant")
}

pub(crate) fn created_by(id: u64, granted: u64, actor: &'static str) -> Fact<'static> {
    let spec = spec(leak(format!("phone {id} 手机")));
    Item { at_ms: UnixMillis(T0), spec, actor, ..Item::new(item(id), granted) }.created()
}

fn order_by(order: OrderId, quantity: u32, state: OrderState, buyer: String) -> Order<'static> {
    Order {
        at_ms: UnixMillis(T0 + u64::from(order.seq())),
        quantity: units(quantity),
        state,
        pay_by_ms: UnixMillis(if state == OrderState::Held { T0 + 60_000 } else { 0 }),
        subject: leak(buyer).as_bytes(),
        key: leak(format!("key-{order}")).as_bytes(),
        price: Price { minor: 1_999, currency: *b"EUR" },
        ..Order::new(order)
    }
}

pub(crate) fn placed_by(order: OrderId, quantity: u32, state: OrderState, buyer: String) -> Fact<'static> {
    order_by(order, quantity, state, buyer).placed()
}

/// An order of one unit, of a buyer of its own.
pub(crate) fn order_in(id: u64, seq: u32, state: OrderState) -> Order<'static> {
    order_by(order(id, seq), 1, state, format!("buyer-{id}-{seq}"))
}

pub(crate) fn placed(id: u64, seq: u32, state: OrderState) -> Fact<'static> {
    order_in(id, seq, state).placed()
}

/// `n` confirmed orders of one unit, from `seq` on.
pub(crate) fn sales(id: u64, seq: u32, n: u32) -> Vec<Fact<'static>> {
    (seq..seq + n).map(|seq| placed(id, seq, OrderState::Confirmed)).collect()
}

pub(crate) fn moved(order: OrderId, quantity: u32, from: OrderState, to: OrderState) -> Fact<'static> {
    let payment_ref: &[u8] = if to == OrderState::Paid { b"pay-1" } else { b"" };
    if to == OrderState::Refunded {
        let quantity = units(quantity);
        return Fact::OrderRefunded {
            at_ms: UnixMillis(T0 + 1_000_000),
            order,
            quantity,
            units: quantity,
            refunded: quantity,
            refund_ref: b"back-1",
            actor: "merchant",
        };
    }
    Fact::OrderMoved {
        at_ms: UnixMillis(T0 + 1_000_000),
        order,
        quantity: units(quantity),
        from,
        to,
        payment_ref,
        actor: "merchant",
    }
}

/// A payment of it that came too late.
pub(crate) fn late(order: OrderId, payment_ref: &'static str) -> Fact<'static> {
    let (at_ms, payment_ref) = (UnixMillis(T0 + 3_000_000), payment_ref.as_bytes());
    Fact::PaymentLate { at_ms, order, payment_ref, actor: "merchant" }
}

/// The same, given back.
pub(crate) fn late_back(
    order: OrderId,
    payment_ref: &'static str,
    refund_ref: &'static str,
) -> Fact<'static> {
    let (payment_ref, refund_ref) = (payment_ref.as_bytes(), refund_ref.as_bytes());
    let at_ms = UnixMillis(T0 + 5_000_000);
    Fact::LatePaymentReturned { at_ms, order, payment_ref, refund_ref, actor: "merchant" }
}

/// Units of it that were given back, the last of so many.
pub(crate) fn part_back(
    order: OrderId,
    quantity: u32,
    back: (u32, u32),
    name: &'static str,
) -> Fact<'static> {
    Fact::OrderRefunded {
        at_ms: UnixMillis(T0 + 4_000_000),
        order,
        quantity: units(quantity),
        units: units(back.0),
        refunded: units(back.1),
        refund_ref: name.as_bytes(),
        actor: "merchant",
    }
}

/// An entry that was drawn, and if it won is to be paid until a minute later.
pub(crate) fn drawn(order: OrderId, quantity: u32, to: OrderState) -> Fact<'static> {
    let at_ms = UnixMillis(T0 + 2_000_000);
    let pay_by_ms = UnixMillis(if to == OrderState::Held { at_ms.0 + 60_000 } else { 0 });
    Fact::EntryDrawn { at_ms, order, quantity: units(quantity), to, pay_by_ms }
}

pub(crate) fn adjusted(id: u64, delta: i64, actor: &'static str) -> Fact<'static> {
    Fact::StockAdjusted { at_ms: UnixMillis(T0), item: item(id), delta, actor, key: b"" }
}

/// A sale of some items in which everything happens, from a seed.
pub(crate) fn trace(seed: u64, facts_max: usize) -> Vec<Fact<'static>> {
    use OrderState::{Cancelled, Confirmed, Entered, Expired, Held, Lost, Paid, Pending, Refunded};
    let mut random = seed;
    let mut draw = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut facts: Vec<Fact<'static>> = (1..=5).map(|id| created(id, 1_000_000)).collect();
    let mut orders: Vec<(OrderId, u32, OrderState)> = Vec::new();
    let mut seqs = [0u32; 6];
    while facts.len() < facts_max {
        let id = 1 + draw(5);
        match draw(20) {
            0 => facts.push(adjusted(id, draw(50) as i64, "merchant")),
            1 => facts.push(Fact::ClockMark { at_ms: UnixMillis(T0) }),
            2 => facts.push(Fact::BuyerBlocked {
                at_ms: UnixMillis(T0),
                subject: leak(format!("blocked-{}", draw(9))).as_bytes(),
                blocked: draw(3) > 0,
                actor: "merchant",
            }),
            3..8 if !orders.is_empty() => {
                let at = draw(orders.len() as u64) as usize;
                let (order, quantity, from) = orders[at];
                let to = match from {
                    Confirmed => [Paid, Cancelled][draw(2) as usize],
                    Held | Pending => [Paid, Cancelled, Expired][draw(3) as usize],
                    Paid => Refunded,
                    Entered => [Confirmed, Held, Pending, Lost, Cancelled][draw(5) as usize],
                    Cancelled | Expired | Refunded | Lost => {
                        facts.push(late(order, leak(format!("late\\{}", facts.len()))));
                        continue;
                    }
                };
                orders[at].2 = to;
                facts.push(match from {
                    Entered if to != Cancelled => drawn(order, quantity, to),
                    _ => moved(order, quantity, from, to),
                });
            }
            _ => {
                seqs[id as usize] += 1;
                let order = order(id, seqs[id as usize]);
                let states = [Confirmed, Held, Pending, Entered];
                let (quantity, state) = (1 + draw(3) as u32, states[draw(4) as usize]);
                let buyer = format!("b\\u{}é{}", draw(1000), if draw(50) == 0 { "\0" } else { "" });
                orders.push((order, quantity, state));
                facts.push(placed_by(order, quantity, state, buyer));
            }
        }
    }
    facts
}

/// quantity, state, buyer, payment reference, key, deadline, and money.
pub(crate) type OrderLine = (i32, String, String, String, String, i64, Money);
/// price_minor, currency, refund_ref, refunded, end_time.
pub(crate) type Money = (i64, String, String, i32, i64);

/// What the rows must be, worked out fact by fact, the slow and obvious way.
#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) struct Rows {
    /// count, held, sale by item.
    pub(crate) stock: BTreeMap<i64, (i64, i64, i64)>,
    /// quantity, state, buyer, payment reference, key, deadline, and price and refunds by order.
    pub(crate) orders: BTreeMap<i64, OrderLine>,
    pub(crate) blocked: Vec<String>,
    /// What was told of money, by LSN.
    pub(crate) payments: BTreeMap<i64, PaymentLine>,
}

/// order, kind, payment reference, refund reference, quantity, time.
pub(crate) type PaymentLine = (i64, String, String, String, i32, i64);

pub(crate) fn model(facts: &[Fact<'_>]) -> Rows {
    let mut rows = Rows::default();
    let text = stampede_persist::export::text::escape;
    let shift = |rows: &mut Rows, item: ItemId, from: Pile, to: Pile, units: Quantity| {
        let (count, held, sale) = rows.stock.get_mut(&i64::from(item.get())).expect("a known item");
        for (pile, change) in [(from, -i64::from(units.get())), (to, i64::from(units.get()))] {
            *match pile {
                Pile::Available => &mut *count,
                Pile::Held => &mut *held,
                Pile::Sold => &mut *sale,
            } += change;
        }
    };
    for (at, fact) in facts.iter().enumerate() {
        let lsn = at as i64 + 1;
        match *fact {
            Fact::ItemCreated { item, granted, .. } => {
                rows.stock.insert(item.get().into(), (granted as i64, 0, 0));
            }
            Fact::StockAdjusted { item, delta, .. } => {
                rows.stock.get_mut(&i64::from(item.get())).expect("a known item").0 += delta;
            }
            Fact::OrderPlaced { order, quantity, state, pay_by_ms, subject, key, price, .. } => {
                let (units, state_name, pay_by) = (quantity.get() as i32, state.name(), pay_by_ms.0 as i64);
                let money = (price.minor as i64, price.currency().to_owned(), String::new(), 0, 0);
                let row = (units, state_name.into(), text(subject), String::new(), text(key), pay_by, money);
                assert!(rows.orders.insert(order.get() as i64, row).is_none(), "{order} twice");
                shift(&mut rows, order.item(), Pile::Available, state.pile(), quantity);
            }
            Fact::OrderImported {
                order,
                quantity,
                state,
                pay_by_ms,
                subject,
                key,
                payment_ref,
                money,
                ..
            } => {
                let (units, state_name, pay_by) = (quantity.get() as i32, state.name(), pay_by_ms.0 as i64);
                let (price, back) = (money.price, money.refunded);
                let told =
                    (price.minor as i64, price.currency().to_owned(), text(money.refund_ref), back as i32, 0);
                let row =
                    (units, state_name.into(), text(subject), text(payment_ref), text(key), pay_by, told);
                assert!(rows.orders.insert(order.get() as i64, row).is_none(), "{order} twice");
                if let Some(live) = Quantity::new(u64::from(quantity.get() - back)) {
                    shift(&mut rows, order.item(), Pile::Available, state.pile(), live);
                }
            }
            Fact::OrderMoved { at_ms, order, quantity, from, to, payment_ref, .. } => {
                let row = rows.orders.get_mut(&(order.get() as i64)).expect("a known order");
                assert_eq!(row.1, from.name());
                row.1 = to.name().into();
                if matches!(to, OrderState::Cancelled | OrderState::Expired) {
                    row.6.4 = at_ms.0 as i64;
                }
                if !payment_ref.is_empty() {
                    row.3 = text(payment_ref);
                }
                shift(&mut rows, order.item(), from.pile(), to.pile(), quantity);
            }
            Fact::OrderRefunded { at_ms, order, quantity, units, refunded, refund_ref, .. } => {
                let (id, kind, back) = (order.get() as i64, "refund".to_owned(), units.get() as i32);
                let line = (id, kind, String::new(), text(refund_ref), back, at_ms.0 as i64);
                rows.payments.insert(lsn, line);
                let row = rows.orders.get_mut(&(order.get() as i64)).expect("a known order");
                assert_eq!(row.1, "paid");
                if refunded == quantity {
                    row.1 = "refunded".into();
                }
                if !refund_ref.is_empty() {
                    row.6.2 = text(refund_ref);
                }
                row.6.3 = refunded.get() as i32;
                shift(&mut rows, order.item(), Pile::Sold, Pile::Available, units);
            }
            Fact::PaymentLate { at_ms, order, payment_ref, .. } => {
                let (id, kind) = (order.get() as i64, "late_payment".to_owned());
                rows.payments.insert(lsn, (id, kind, text(payment_ref), String::new(), 0, at_ms.0 as i64));
            }
            Fact::LatePaymentReturned { at_ms, order, payment_ref, refund_ref, .. } => {
                let (id, kind) = (order.get() as i64, "late_payment_returned".to_owned());
                rows.payments.insert(lsn, (id, kind, text(payment_ref), text(refund_ref), 0, at_ms.0 as i64));
            }
            Fact::HoldExtended { order, pay_by_ms, .. } => {
                rows.orders.get_mut(&(order.get() as i64)).expect("a known order").5 = pay_by_ms.0 as i64;
            }
            Fact::EntryDrawn { order, quantity, to, pay_by_ms, .. } => {
                let row = rows.orders.get_mut(&(order.get() as i64)).expect("a known order");
                assert_eq!(row.1, "entered");
                (row.1, row.5) = (to.name().into(), pay_by_ms.0 as i64);
                shift(&mut rows, order.item(), Pile::Available, to.pile(), quantity);
            }
            Fact::BuyerBlocked { subject, blocked, .. } => {
                let buyer = text(subject);
                rows.blocked.retain(|other| *other != buyer);
                if blocked {
                    rows.blocked.push(buyer);
                }
            }
            Fact::ItemChanged { .. }
            | Fact::ItemSwitched { .. }
            | Fact::DrawHeld { .. }
            | Fact::ClockMark { .. } => {}
        }
    }
    rows.blocked.sort();
    rows
}

/// What the rows are.
pub(crate) fn rows(client: &mut Client) -> Rows {
    let mut rows = Rows::default();
    for row in client.query("SELECT id, count, held, sale FROM stock", &[]).expect("stock") {
        rows.stock.insert(row.get(0), (row.get(1), row.get(2), row.get(3)));
    }
    let orders = "SELECT id, quantity, state, buyer, coalesce(payment_ref, ''), coalesce(idem_key, ''), sid, \
         coalesce((extract(epoch FROM pay_by) * 1000)::bigint, 0), coalesce(price_minor, 0), coalesce(currency, ''), \
         coalesce(refund_ref, ''), refunded, coalesce((extract(epoch FROM end_time) * 1000)::bigint, 0) FROM stock_order";
    for row in client.query(orders, &[]).expect("orders") {
        let id: i64 = row.get(0);
        assert_eq!(id >> 32, row.get::<_, i64>(6));
        let money = (row.get(8), row.get(9), row.get(10), row.get(11), row.get(12));
        let order = (row.get(1), row.get(2), row.get(3), row.get(4), row.get(5), row.get(7), money);
        rows.orders.insert(id, order);
    }
    let blocked = client.query("SELECT buyer FROM stampede_blocked ORDER BY buyer COLLATE \"C\"", &[]);
    rows.blocked = blocked.expect("blocked").iter().map(|row| row.get(0)).collect();
    for row in client.query(crate::export_shop::PAYMENTS, &[]).expect("payments") {
        let id: i64 = row.get(0);
        assert_eq!(id >> 32, row.get::<_, i64>(2));
        let line = (id, row.get(3), row.get(4), row.get(5), row.get(6), row.get(7));
        rows.payments.insert(row.get(1), line);
    }
    rows
}

/// The rows of the database are what the facts come to.
#[track_caller]
pub(crate) fn assert_exported(engine: &FakeEngine, url: &str) {
    let (model, found) = (model(&engine.facts()), rows(&mut client(url)));
    assert_eq!(found.stock, model.stock, "stock rows");
    assert_eq!(found.blocked, model.blocked, "blocked buyers");
    assert_eq!(found.payments, model.payments, "late payments and refunds");
    assert_eq!(found.orders.len(), model.orders.len(), "number of orders");
    for (id, order) in &model.orders {
        assert_eq!(found.orders.get(id), Some(order), "order {id}");
    }
}

/// What a proxy does when it sees a COMMIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// Cuts the connection before the server hears of it.
    BeforeCommit,
    /// Lets the server commit, and cuts the connection before the answer.
    AfterCommit,
}

/// Forwards connections to a server; the n-th COMMIT of those counted in `cuts` is cut.
pub(crate) fn proxy(server: u16, cuts: Vec<(usize, Cut)>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let seen = Arc::new(Mutex::new(0));
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
            let (cuts, seen) = (cuts.clone(), Arc::clone(&seen));
            std::thread::spawn(move || forward(&connection, &upstream, &cuts, &seen));
        }
    });
    port
}

/// The client waits for the answer to its COMMIT before it sends anything else, so that
/// the message arrives alone.
fn forward(client: &TcpStream, server: &TcpStream, cuts: &[(usize, Cut)], seen: &Mutex<usize>) {
    let hold = Arc::new(Mutex::new(false));
    let (from_server, to_client, held) =
        (server.try_clone().expect("clone"), client.try_clone().expect("clone"), Arc::clone(&hold));
    let back =
        std::thread::spawn(move || pump(&from_server, &to_client, &mut |_| !*held.lock().expect("lock")));
    pump(client, server, &mut |bytes| {
        if !bytes.ends_with(b"COMMIT\0") {
            return true;
        }
        let mut seen = seen.lock().expect("lock");
        *seen += 1;
        match cuts.iter().find(|(n, _)| *n == *seen) {
            None => true,
            Some((_, Cut::BeforeCommit)) => false,
            Some((_, Cut::AfterCommit)) => {
                *hold.lock().expect("lock") = true;
                true
            }
        }
    });
    let _ = server.shutdown(Shutdown::Both);
    let _ = back.join();
}

/// Copies bytes until an end, or until `pass` says no; then closes both sides.
fn pump(mut from: &TcpStream, mut to: &TcpStream, pass: &mut dyn FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || !pass(&buffer[..n]) || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

//! How the fake server sells: the contract's calls over a list of orders, with faults to order.
//!
//! Every rule is written out over the whole list, so that it can be read at a glance; nothing
//! here is fast. Next: `fake.rs`, which listens.

use std::collections::{HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::fake::{Fault, ITEM, Request, Setup};

/// One order.
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) item: u32,
    pub(crate) buyer: String,
    pub(crate) quantity: u64,
    pub(crate) state: &'static str,
    created_at_ms: u64,
    pay_by_ms: u64,
    payment_ref: Option<String>,
}

impl Order {
    /// Whether it has taken its units out of the stock.
    fn is_out(&self) -> bool {
        matches!(self.state, "accepted" | "confirmed" | "held" | "paid")
    }
    fn counts_against_the_cap(&self) -> bool {
        self.is_out() || self.state == "pending"
    }
    fn json(&self) -> serde_json::Value {
        json!({
            "order_id": self.id.to_string(), "item_id": self.item, "buyer": self.buyer,
            "quantity": self.quantity, "state": self.state, "created_at_ms": self.created_at_ms,
            "pay_by_ms": self.pay_by_ms, "lsn": 1,
        })
    }
}

/// The sale.
pub(crate) struct Shop {
    pub(crate) setup: Setup,
    pub(crate) orders: Vec<Order>,
    pub(crate) decided: u64,
    pub(crate) is_dead: bool,
    looks: u64,
    tried: u64,
    by_key: HashMap<String, u64>,
    /// Challenges that were handed out and not used.
    challenges: HashSet<String>,
    /// Whose ticket it is, and for which item.
    tickets: HashMap<String, (String, u32)>,
    serial: u64,
    version: u64,
    opens_at_ms: u64,
    /// A later sale moves the opening alone.
    closes_at_ms: u64,
}

impl Shop {
    pub(crate) fn new(setup: Setup) -> Self {
        let (opens_at_ms, open_ms) = (now_ms() + setup.opens_in_ms, setup.open_ms);
        let (by_key, challenges, tickets) = (HashMap::new(), HashSet::new(), HashMap::new());
        Self {
            setup,
            orders: Vec::new(),
            decided: 0,
            is_dead: false,
            looks: 0,
            tried: 0,
            by_key,
            challenges,
            tickets,
            serial: 0,
            version: 0,
            opens_at_ms,
            closes_at_ms: opens_at_ms + open_ms,
        }
    }
    fn next(&mut self, kind: &str) -> String {
        self.serial += 1;
        format!("{kind}-{}", self.serial)
    }
    /// Holds that were not paid in time go back.
    fn expire(&mut self) {
        let now_ms = now_ms();
        let due = self.orders.iter_mut().filter(|order| order.state == "held" && order.pay_by_ms <= now_ms);
        for order in due {
            order.state = "expired";
            self.version += 1;
        }
    }
    /// What was accepted becomes durable, as it does a moment later.
    fn settle(&mut self) {
        let state = decided_state(self);
        let accepted = self.orders.iter_mut().filter(|order| order.state == "accepted");
        accepted.for_each(|order| order.state = state);
    }
    /// Ends, as if killed: what was accepted is in its log.
    pub(crate) fn die(&mut self) {
        self.settle();
        self.is_dead = true;
    }
    /// Whether a request is over the rate: told before anything else is looked at.
    fn is_over_the_rate(&self, count: u64) -> bool {
        self.setup.limit_every > 0 && count.is_multiple_of(self.setup.limit_every)
    }
    /// Why there is no buying at this moment.
    fn closed(&self) -> Option<String> {
        match now_ms() {
            _ if self.setup.fault == Fault::IgnoreWindow => None,
            now if now < self.opens_at_ms => refused(403, "not_open"),
            now if now >= self.closes_at_ms => refused(403, "ended"),
            _ => None,
        }
    }
    fn is_item(&self, item: u32) -> bool {
        (ITEM..ITEM + self.setup.items).contains(&item)
    }
    fn units(&self, item: u32, counts: impl Fn(&Order) -> bool) -> u64 {
        let own = self.orders.iter().filter(|order| order.item == item && counts(order));
        own.map(|order| order.quantity).sum()
    }
    /// The orders that it admits to have.
    fn shown(&self) -> &[Order] {
        &self.orders[usize::from(self.setup.fault == Fault::LoseAckedOrder).min(self.orders.len())..]
    }
    fn order(&mut self, id: &str) -> Option<&mut Order> {
        let id: u64 = id.parse().ok()?;
        self.orders.iter_mut().find(|order| order.id == id)
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn respond(status: u16, extra: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{extra}\r\n{body}", body.len()))
}

pub(crate) fn refused(status: u16, code: &str) -> Option<String> {
    respond(status, "", &format!(r#"{{"status":{status},"code":"{code}","title":"no"}}"#))
}

/// Answers a buyer.
pub(crate) fn serve_buyer(shop: &mut Shop, request: &Request) -> Option<String> {
    shop.expire();
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let item = path.get(2).and_then(|part| part.parse().ok()).filter(|&item| shop.is_item(item));
    match (request.method.as_str(), &path[..], item) {
        ("GET", ["v1", ..], _) if shop.setup.fault == Fault::NoPages => respond(404, "", "what?"),
        ("GET", ["v1", "items", _], Some(item)) => respond(200, "", &item_page(shop, item)),
        ("GET", ["v1", "items", _, "challenge"], Some(_)) => challenge(shop),
        ("POST", ["v1", "items", _, "ticket"], Some(item)) => ticket(shop, item, request),
        ("POST", ["v1", "items", _, "orders"], Some(item)) => purchase(shop, item, request),
        ("GET", ["v1", "orders", id], _) => own_order(shop, id, request),
        ("POST", ["v1", "orders", id, "cancel"], _) => cancel(shop, id, request),
        ("GET", [first, ..], _) if *first != "v1" => respond(200, "", "hello"),
        _ => refused(404, "not_found"),
    }
}

fn item_page(shop: &Shop, item: u32) -> String {
    let left = shop.setup.stock.saturating_sub(shop.units(item, Order::is_out));
    let state = match left {
        _ if now_ms() < shop.opens_at_ms => "upcoming",
        _ if now_ms() >= shop.closes_at_ms => "ended",
        0 => "sold_out",
        _ => "open",
    };
    let band = if left == 0 {
        "none"
    } else if left * 10 > shop.setup.stock {
        "plenty"
    } else {
        "few"
    };
    json!({
        "id": item, "name": "fake", "price_minor": 100, "currency": "CNY", "state": state,
        "opens_at_ms": shop.opens_at_ms, "closes_at_ms": shop.closes_at_ms, "stock_band": band,
        "cap": shop.setup.cap, "payment": shop.setup.payment, "ticket_required": shop.setup.ticket,
        "challenge": if shop.setup.pow_bits.is_some() { "always" } else { "never" },
        "refresh_ms": 1_000, "now_ms": now_ms(),
    })
    .to_string()
}

fn challenge(shop: &mut Shop) -> Option<String> {
    let name = shop.next("challenge");
    let bits = shop.setup.pow_bits.unwrap_or(0);
    let body = json!({
        "challenge": name, "svg": "<svg/>", "pow": { "bits": bits }, "expires_at_ms": now_ms() + 60_000
    });
    shop.challenges.insert(name);
    respond(200, "", &body.to_string())
}

/// The rule of the contract: SHA-256 of `challenge:answer` begins with so many zero bits.
fn is_solved(challenge: &str, answer: &str, bits: u32) -> bool {
    let hash = Sha256::digest(format!("{challenge}:{answer}"));
    u64::from_be_bytes(hash[..8].try_into().unwrap()).leading_zeros() >= bits
}

fn ticket(shop: &mut Shop, item: u32, request: &Request) -> Option<String> {
    if let Some(closed) = shop.closed() {
        return Some(closed);
    }
    if let Some(bits) = shop.setup.pow_bits {
        let (Some(name), Some(solution)) =
            (request.body["challenge"].as_str(), request.body["answer"].as_str())
        else {
            return refused(403, "challenge_required");
        };
        if !shop.challenges.remove(name) || !is_solved(name, solution, bits) {
            return refused(403, "challenge_failed");
        }
    }
    let name = shop.next("ticket");
    shop.tickets.insert(name.clone(), (buyer(request), item));
    respond(201, "", &json!({ "ticket": name, "expires_at_ms": now_ms() + 60_000 }).to_string())
}

/// Who asks: by header, or the `sub` of a token whose signature nobody looks at here.
fn buyer(request: &Request) -> String {
    use base64::Engine as _;
    if let Some(buyer) = request.fields.get("x-buyer") {
        return buyer.clone();
    }
    let claims = || {
        let token = request.fields.get("authorization")?.strip_prefix("Bearer ")?;
        let claims =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
        claims["sub"].as_str().map(str::to_owned)
    };
    claims().unwrap_or_default()
}

fn purchase(shop: &mut Shop, item: u32, request: &Request) -> Option<String> {
    let (buyer, fault) = (buyer(request), shop.setup.fault);
    let level = request.fields.get("x-buyer-level").and_then(|level| level.parse().ok()).unwrap_or(0);
    let key = request.fields["idempotency-key"].clone();
    shop.tried += 1;
    let is_blocked =
        shop.tried > shop.setup.block_after && buyer.bytes().map(u64::from).sum::<u64>() % 3 == 0;
    if level < shop.setup.min_level || is_blocked {
        return refused(403, "not_eligible");
    }
    if let Some(closed) = shop.closed() {
        return Some(closed);
    }
    if shop.is_over_the_rate(shop.tried) {
        return refused(429, "rate_limited");
    }
    if let Some(&id) = shop.by_key.get(&key).filter(|_| fault != Fault::ForgetKeys) {
        return replay(shop, id);
    }
    if shop.setup.ticket && !holds_ticket(shop, item, &buyer, request) {
        let code = if request.body["ticket"].is_string() { "ticket_invalid" } else { "ticket_required" };
        return refused(403, code);
    }
    let quantity = request.body["quantity"].as_u64().unwrap_or(1);
    let is_capless = matches!(fault, Fault::IgnoreCap | Fault::ForgetKeys);
    let own = shop.units(item, |order| order.buyer == buyer && order.counts_against_the_cap());
    if !is_capless && own + quantity > shop.setup.cap {
        return refused(409, "cap_reached");
    }
    let limit = match fault {
        Fault::OversellByOne => shop.setup.stock + 1,
        Fault::Undersell => shop.setup.stock - 1,
        Fault::SellOnly(orders) if shop.orders.len() as u64 >= orders => 0,
        _ => shop.setup.stock,
    };
    if shop.units(item, Order::is_out) + quantity > limit {
        return refused(409, "sold_out");
    }
    place(shop, item, buyer, quantity, key, request)
}

fn holds_ticket(shop: &Shop, item: u32, buyer: &str, request: &Request) -> bool {
    let ticket = request.body["ticket"].as_str().and_then(|ticket| shop.tickets.get(ticket));
    ticket.is_some_and(|(whose, of)| whose == buyer && *of == item)
}

fn replay(shop: &mut Shop, id: u64) -> Option<String> {
    let fault = shop.setup.fault;
    let order = shop.orders.iter().find(|order| order.id == id)?;
    let mut body = order.json();
    if fault == Fault::AnswerTwiceDifferently {
        body["order_id"] = json!((id + 1_000_000).to_string());
    }
    let status = if order.state == "accepted" { 202 } else { 201 };
    respond(status, "Idempotent-Replay: true\r\n", &body.to_string())
}

fn place(
    shop: &mut Shop,
    item: u32,
    buyer: String,
    quantity: u64,
    key: String,
    request: &Request,
) -> Option<String> {
    let is_async = shop.setup.is_asynchronous
        && request.fields.get("prefer").is_some_and(|prefer| prefer == "respond-async");
    let count = shop.orders.iter().filter(|order| order.item == item).count() as u64;
    let created_at_ms = now_ms();
    let order = Order {
        id: (u64::from(item) << 32) + count + 1,
        item,
        buyer,
        quantity,
        state: if is_async { "accepted" } else { decided_state(shop) },
        created_at_ms,
        pay_by_ms: if shop.setup.payment == "hold" { created_at_ms + shop.setup.hold_ms } else { 0 },
        payment_ref: None,
    };
    shop.by_key.insert(key, order.id);
    shop.version += 1;
    let body = order.json().to_string();
    shop.orders.push(order);
    respond(if is_async { 202 } else { 201 }, "", &body)
}

fn decided_state(shop: &Shop) -> &'static str {
    match shop.setup.payment {
        "hold" => "held",
        "on_payment" => "pending",
        _ => "confirmed",
    }
}

/// An accepted order is durable as soon as its buyer asks for it.
fn own_order(shop: &mut Shop, id: &str, request: &Request) -> Option<String> {
    shop.looks += 1;
    if shop.is_over_the_rate(shop.looks) {
        return refused(429, "rate_limited");
    }
    let (buyer, state, fault) = (buyer(request), decided_state(shop), shop.setup.fault);
    let lost = shop.orders.first().filter(|_| fault == Fault::LoseAckedOrder).map(|order| order.id);
    match shop.order(id).filter(|order| order.buyer == buyer && Some(order.id) != lost) {
        Some(order) => {
            if order.state == "accepted" {
                order.state = state;
            }
            respond(200, "", &order.json().to_string())
        }
        None => refused(404, "not_found"),
    }
}

fn cancel(shop: &mut Shop, id: &str, request: &Request) -> Option<String> {
    let buyer = buyer(request);
    shop.version += 1;
    match shop.order(id).filter(|order| order.buyer == buyer) {
        Some(order) if matches!(order.state, "paid" | "expired") => refused(409, "not_cancellable"),
        Some(order) => {
            order.state = "cancelled";
            respond(200, "", &order.json().to_string())
        }
        None => refused(404, "not_found"),
    }
}

/// Answers the merchant.
pub(crate) fn serve_admin(shop: &mut Shop, request: &Request) -> Option<String> {
    shop.settle();
    shop.expire();
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let item = path.get(2).and_then(|part| part.parse().ok()).filter(|&item| shop.is_item(item));
    match (request.method.as_str(), &path[..], item) {
        ("GET", ["admin", "items", _], Some(item)) => respond(200, "", &admin_page(shop, item)),
        ("PUT", ["admin", "items", _], Some(item)) => {
            // A second sale begins: what was set up stays but for the opening.
            shop.opens_at_ms = request.body["opens_at_ms"].as_u64().unwrap_or(shop.opens_at_ms);
            respond(200, "", &admin_page(shop, item))
        }
        ("GET", ["admin", "orders"], _) => respond(200, "", &orders_page(shop, &request.query)),
        ("POST", ["admin", "orders", id, "pay"], _) => pay(shop, id, request),
        _ => refused(404, "not_found"),
    }
}

fn pay(shop: &mut Shop, id: &str, request: &Request) -> Option<String> {
    let (fault, stock) = (shop.setup.fault, shop.setup.stock);
    let reference = request.body["payment_ref"].as_str().unwrap_or_default().to_owned();
    let item = shop.order(id).map(|order| order.item).unwrap_or_default();
    let left = stock.saturating_sub(shop.units(item, Order::is_out));
    shop.version += 1;
    let Some(order) = shop.order(id) else { return refused(404, "not_found") };
    match order.state {
        "paid" if order.payment_ref.as_deref() == Some(&reference) => {}
        "paid" => return refused(409, "already_paid"),
        "expired" | "cancelled" if fault != Fault::SellExpiredHolds => return refused(409, "hold_expired"),
        "pending" if left < order.quantity => return refused(409, "sold_out"),
        _ => (order.state, order.payment_ref) = ("paid", Some(reference)),
    }
    respond(200, "", &order.json().to_string())
}

fn admin_page(shop: &Shop, item: u32) -> String {
    let own = |states: &[&str]| {
        let own = shop.shown().iter().filter(|order| order.item == item && states.contains(&order.state));
        own.map(|order| order.quantity).sum::<u64>()
    };
    let (held, sold) = (own(&["held"]), own(&["confirmed", "paid", "accepted"]));
    let granted = shop.setup.stock;
    json!({
        "id": item, "granted": granted, "available": granted as i64 - (held + sold) as i64, "held": held,
        "sold": sold, "cap": shop.setup.cap, "version": shop.version + 1, "durable_lsn": 9, "exported_lsn": 9,
        "payment": shop.setup.payment, "opens_at_ms": shop.opens_at_ms, "closes_at_ms": shop.closes_at_ms,
        "accepted": shop.shown().iter().filter(|order| order.item == item).count(),
    })
    .to_string()
}

fn orders_page(shop: &Shop, query: &str) -> String {
    let number = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name));
        value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
    };
    // A page shorter than was asked for, so that paging is used.
    let (item, after, limit) = (number("item="), number("after="), number("limit=").min(7) as usize);
    let own = shop.shown().iter().filter(|order| u64::from(order.item) == item && order.id > after);
    let mut rest: Vec<_> = own.collect();
    rest.sort_by_key(|order| order.id);
    let rows: Vec<_> = rest.iter().take(limit).map(|order| order.json()).collect();
    json!({ "orders": rows, "has_more": rest.len() > limit }).to_string()
}

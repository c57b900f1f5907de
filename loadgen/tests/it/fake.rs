//! A flash-sale server of the contract's shape in a few threads, with faults to order.
//!
//! Slow and obvious on purpose: one lock, one thread per connection. It listens on
//! free loopback ports and ends with its owner.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What the server does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Sells one unit too many.
    OversellByOne,
    /// Forgets one order that it acked.
    LoseAckedOrder,
    /// Answers a repeated key with another order's number.
    AnswerTwiceDifferently,
    /// Sells without looking at the cap.
    IgnoreCap,
    /// Says "sold out" while one unit is left.
    Undersell,
    /// Does not know a key again: sells twice to it.
    ForgetKeys,
    /// Stalls everything once, for that long, after so many purchases.
    StallOnce { after: u64, length: Duration },
    /// Breaks every n-th connection after the decision and before the answer.
    ResetEvery(u64),
    /// Answers every n-th request with 500 after the decision.
    FailEvery(u64),
    /// Never answers a purchase.
    Mute,
}

pub(crate) const TOKEN: &str = "fake-token";
pub(crate) const ITEM: u32 = 1;

struct Order {
    id: u64,
    buyer: String,
}

struct Shop {
    stock: u64,
    fault: Fault,
    orders: Vec<Order>,
    by_key: HashMap<String, u64>,
    decided: u64,
}

/// A running server; dropping it ends it.
pub(crate) struct Fake {
    pub(crate) public: SocketAddr,
    pub(crate) admin: String,
    shop: Arc<Mutex<Shop>>,
    over: Arc<AtomicBool>,
}

impl Fake {
    /// Starts a server that sells `stock` units, one to a buyer.
    pub(crate) fn start(stock: u64, fault: Fault) -> Self {
        let shop = Shop { stock, fault, orders: Vec::new(), by_key: HashMap::new(), decided: 0 };
        let (shop, over) = (Arc::new(Mutex::new(shop)), Arc::new(AtomicBool::new(false)));
        let public = listen(&shop, &over, serve_public);
        let admin = listen(&shop, &over, serve_admin);
        Self { public, admin: format!("http://{admin}"), shop, over }
    }
    /// Orders that it keeps.
    pub(crate) fn orders(&self) -> usize {
        self.shop.lock().unwrap().orders.len()
    }
    /// Their numbers and buyers.
    pub(crate) fn rows(&self) -> Vec<(u64, String)> {
        self.shop.lock().unwrap().orders.iter().map(|order| (order.id, order.buyer.clone())).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for addr in [self.public.to_string(), self.admin.replace("http://", "")] {
            drop(TcpStream::connect(addr));
        }
    }
}

type Serve = fn(&Mutex<Shop>, &Request) -> Option<String>;

fn listen(shop: &Arc<Mutex<Shop>>, over: &Arc<AtomicBool>, serve: Serve) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (shop, over) = (Arc::clone(shop), Arc::clone(over));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let shop = Arc::clone(&shop);
            thread::spawn(move || drop(talk(stream, &shop, serve)));
        }
    });
    addr
}

struct Request {
    line: String,
    fields: HashMap<String, String>,
}

fn talk(stream: TcpStream, shop: &Mutex<Shop>, serve: Serve) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        match serve(shop, &request) {
            Some(answer) => writer.write_all(answer.as_bytes())?,
            None => break,
        }
    }
    Ok(())
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut fields = HashMap::new();
    loop {
        let mut field = String::new();
        reader.read_line(&mut field)?;
        let Some((name, value)) = field.trim().split_once(':') else { break };
        fields.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = fields.get("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut Vec::new())?;
    Ok(Some(Request { line: line.trim().to_owned(), fields }))
}

fn answer(status: &str, extra: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{extra}\r\n{body}", body.len()))
}

fn refused(code: &str) -> Option<String> {
    answer("409 Conflict", "", &format!(r#"{{"status":409,"code":"{code}","title":"no"}}"#))
}

fn ack(id: u64, extra: &str) -> Option<String> {
    let body = format!(
        r#"{{"order_id":"{id}","item_id":1,"quantity":1,"state":"confirmed","created_at_ms":{id},"lsn":1}}"#
    );
    answer("201 Created", extra, &body)
}

/// Decides a purchase under the lock, with the fault; `None` breaks the connection.
fn serve_public(shop: &Mutex<Shop>, request: &Request) -> Option<String> {
    if request.line.starts_with("GET ") {
        return answer("200 OK", "", "hello");
    }
    let mut shop = shop.lock().unwrap();
    shop.decided += 1;
    let decided = shop.decided;
    let answer_or_not = decide(&mut shop, request);
    match shop.fault {
        Fault::StallOnce { after, length } if decided == after => hold(length),
        Fault::ResetEvery(n) if decided.is_multiple_of(n) => return None,
        Fault::FailEvery(n) if decided.is_multiple_of(n) => return answer("500 Oops", "", "{}"),
        Fault::Mute => {
            drop(shop);
            hold(Duration::from_millis(300));
            return None;
        }
        _ => {}
    }
    answer_or_not
}

/// Holds the lock (a stall is what is tested here, not waited for).
fn hold(length: Duration) {
    let until = Instant::now() + length;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

fn decide(shop: &mut Shop, request: &Request) -> Option<String> {
    let (buyer, key) = (request.fields["x-buyer"].clone(), request.fields["idempotency-key"].clone());
    if let Some(&id) = shop.by_key.get(&key).filter(|_| shop.fault != Fault::ForgetKeys) {
        let id = if shop.fault == Fault::AnswerTwiceDifferently { id + 1_000_000 } else { id };
        return ack(id, "Idempotent-Replay: true\r\n");
    }
    let capless = matches!(shop.fault, Fault::IgnoreCap | Fault::ForgetKeys);
    if !capless && shop.orders.iter().any(|order| order.buyer == buyer) {
        return refused("cap_reached");
    }
    let limit = match shop.fault {
        Fault::OversellByOne => shop.stock + 1,
        Fault::Undersell => shop.stock - 1,
        _ => shop.stock,
    };
    if shop.orders.len() as u64 >= limit {
        return refused("sold_out");
    }
    let id = (u64::from(ITEM) << 32) + shop.orders.len() as u64 + 1;
    shop.orders.push(Order { id, buyer });
    shop.by_key.insert(key, id);
    ack(id, "")
}

fn serve_admin(shop: &Mutex<Shop>, request: &Request) -> Option<String> {
    if request.fields.get("authorization").map(String::as_str) != Some(&format!("Bearer {TOKEN}")) {
        return answer("401 Unauthorized", "", r#"{"code":"unauthenticated"}"#);
    }
    let shop = shop.lock().unwrap();
    let path = request.line.split(' ').nth(1).unwrap_or("");
    let body = match path.split_once('?') {
        None if path == "/admin/items/1" => item_page(&shop),
        Some(("/admin/orders", query)) => orders_page(&shop, query),
        _ => return answer("404 Not Found", "", r#"{"code":"not_found"}"#),
    };
    answer("200 OK", "", &body)
}

fn item_page(shop: &Shop) -> String {
    let sold = shop.orders.len() as u64;
    let lost = u64::from(shop.fault == Fault::LoseAckedOrder && sold > 0);
    let (granted, sold) = (shop.stock, sold - lost);
    let left = granted as i64 - sold as i64;
    format!(
        r#"{{"id":1,"granted":{granted},"available":{left},"held":0,"sold":{sold},"cap":1,"version":{sold},"accepted":{sold},"durable_lsn":9,"exported_lsn":9}}"#
    )
}

fn orders_page(shop: &Shop, query: &str) -> String {
    let number = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name));
        value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
    };
    // A page shorter than was asked for, so that paging is used.
    let (after, limit) = (number("after="), number("limit=").min(7) as usize);
    let skipped = usize::from(shop.fault == Fault::LoseAckedOrder);
    let rest: Vec<_> = shop.orders.iter().skip(skipped).filter(|order| order.id > after).collect();
    let rows = rest.iter().take(limit).map(|order| {
        let (id, buyer) = (order.id, &order.buyer);
        format!(r#"{{"order_id":"{id}","item_id":1,"buyer":"{buyer}","quantity":1,"state":"confirmed"}}"#)
    });
    let rows: Vec<_> = rows.collect();
    format!(r#"{{"orders":[{}],"has_more":{}}}"#, rows.join(","), rest.len() > limit)
}

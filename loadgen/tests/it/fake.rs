//! A flash-sale server of the contract's shape in a few threads, with faults to order.
//!
//! Slow and obvious on purpose: one lock, one thread per connection. It listens on
//! free loopback ports and ends with its owner. Next: `shop.rs` for how it sells.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::shop::{Shop, refused, serve_admin, serve_buyer};

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
    /// Takes the payment of an order whose hold went back, though its unit may be sold again.
    SellExpiredHolds,
    /// Has no pages for buyers, as a server of another make.
    NoPages,
    /// Stalls everything once, for that long, after so many purchases.
    StallOnce { after: u64, length: Duration },
    /// Breaks every n-th connection after the decision and before the response.
    ResetEvery(u64),
    /// Answers every n-th request with 500 after the decision.
    FailEvery(u64),
    /// Never answers a purchase.
    Mute,
    /// Says "sold out" after so many orders, whatever is left.
    SellOnly(u64),
    /// Sells whatever its window says.
    IgnoreWindow,
    /// Answers every purchase with this refusal, as a door that lets nobody in.
    TurnAway(u16, &'static str),
    /// Breaks every n-th connection before the decision, which falls a moment later all the same.
    LateEvery(u64),
    /// Answers the n-th purchase and dies: no connection is served, none is taken any more.
    DieAfter(u64),
}

/// What is sold, and how.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Items, numbered from [`ITEM`].
    pub(crate) items: u32,
    /// Units of each.
    pub(crate) stock: u64,
    pub(crate) cap: u64,
    /// `on_order`, `hold` or `on_payment`.
    pub(crate) payment: &'static str,
    pub(crate) hold_ms: u64,
    /// Whether a purchase needs a ticket.
    pub(crate) ticket: bool,
    /// Zero bits of the proof of work that a ticket needs; `None` = no challenge.
    pub(crate) pow_bits: Option<u32>,
    pub(crate) min_level: u64,
    /// From the start to the opening.
    pub(crate) opens_in_ms: u64,
    /// From the opening to the end.
    pub(crate) open_ms: u64,
    /// Every n-th purchase, and every n-th look at an order, is over the rate; 0 = none.
    pub(crate) limit_every: u64,
    /// After so many purchases every third buyer is blocked.
    pub(crate) block_after: u64,
    /// Whether `Prefer: respond-async` is honoured: 202 first, durable when asked again.
    pub(crate) is_asynchronous: bool,
    pub(crate) fault: Fault,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            items: 1,
            stock: 10,
            cap: 1,
            payment: "on_order",
            hold_ms: 0,
            ticket: false,
            pow_bits: None,
            min_level: 0,
            opens_in_ms: 0,
            open_ms: 3_600_000,
            limit_every: 0,
            block_after: u64::MAX,
            is_asynchronous: false,
            fault: Fault::None,
        }
    }
}

pub(crate) const TOKEN: &str = "fake-token";
pub(crate) const ITEM: u32 = 1;

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
        Self::with(Setup { stock, fault, ..Setup::default() })
    }
    pub(crate) fn with(setup: Setup) -> Self {
        let (shop, over) = (Arc::new(Mutex::new(Shop::new(setup))), Arc::new(AtomicBool::new(false)));
        let public = listen(&shop, &over, true, serve_public);
        let admin = listen(&shop, &over, false, |shop, request| {
            let authorized = request.fields.get("authorization").map(String::as_str);
            let is_merchant = authorized == Some(&format!("Bearer {TOKEN}"));
            let mut shop = shop.lock().unwrap();
            if is_merchant { serve_admin(&mut shop, request) } else { refused(401, "unauthenticated") }
        });
        Self { public, admin: format!("http://{admin}"), shop, over }
    }
    /// Orders that it keeps.
    pub(crate) fn orders(&self) -> usize {
        self.shop.lock().unwrap().orders.len()
    }
    /// Orders in this state.
    pub(crate) fn count(&self, state: &str) -> usize {
        self.shop.lock().unwrap().orders.iter().filter(|order| order.state == state).count()
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

/// Answers a request; `None` breaks the connection.
type Serve = fn(&Arc<Mutex<Shop>>, &Request) -> Option<String>;

fn listen(shop: &Arc<Mutex<Shop>>, over: &Arc<AtomicBool>, is_public: bool, serve: Serve) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (shop, over) = (Arc::clone(shop), Arc::clone(over));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if over.load(Ordering::Relaxed) || (is_public && shop.lock().unwrap().is_dead) {
                break;
            }
            let shop = Arc::clone(&shop);
            thread::spawn(move || drop(talk(stream, &shop, is_public, serve)));
        }
    });
    addr
}

/// A request, read whole.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path's parts, without the query.
    pub(crate) path: Vec<String>,
    pub(crate) query: String,
    pub(crate) fields: HashMap<String, String>,
    pub(crate) body: serde_json::Value,
}

fn talk(stream: TcpStream, shop: &Arc<Mutex<Shop>>, is_public: bool, serve: Serve) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let response = serve(shop, &request);
        let is_dead = is_public && shop.lock().unwrap().is_dead;
        if is_dead {
            // The listener goes with the next connection, and before the last response.
            let addr = writer.local_addr()?;
            while TcpStream::connect(addr).is_ok() {
                thread::yield_now();
            }
        }
        match response {
            Some(response) => writer.write_all(response.as_bytes())?,
            None => break,
        }
        if is_dead {
            break;
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
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Ok(Some(Request {
        method,
        path: path.split('/').skip(1).map(str::to_owned).collect(),
        query: query.to_owned(),
        fields,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }))
}

/// A buyer's request, with the faults that concern the connection rather than the sale.
fn serve_public(shared: &Arc<Mutex<Shop>>, request: &Request) -> Option<String> {
    let mut shop = shared.lock().unwrap();
    let is_purchase = request.method == "POST" && request.path.last().is_some_and(|part| part == "orders");
    match shop.setup.fault {
        _ if shop.is_dead => return None,
        Fault::TurnAway(status, code) if is_purchase => return refused(status, code),
        Fault::LateEvery(n) if is_purchase && (shop.decided + 1).is_multiple_of(n) => {
            shop.decided += 1;
            decide_later(Arc::clone(shared), request.clone());
            return None;
        }
        _ => {}
    }
    let response = serve_buyer(&mut shop, request);
    if !is_purchase {
        return response;
    }
    shop.decided += 1;
    let decided = shop.decided;
    match shop.setup.fault {
        Fault::StallOnce { after, length } if decided == after => hold(length),
        Fault::ResetEvery(n) if decided.is_multiple_of(n) => return None,
        Fault::FailEvery(n) if decided.is_multiple_of(n) => return refused(500, "internal"),
        Fault::DieAfter(n) if decided >= n => {
            shop.die();
            // So that nobody asks anything more on this connection.
            return response.map(|response| response.replacen("\r\n", "\r\nConnection: close\r\n", 1));
        }
        Fault::Mute => {
            drop(shop);
            hold(Duration::from_millis(300));
            return None;
        }
        _ => {}
    }
    response
}

/// What a server has read it decides, though the client has long gone.
fn decide_later(shop: Arc<Mutex<Shop>>, request: Request) {
    thread::spawn(move || {
        hold(Duration::from_millis(30));
        drop(serve_buyer(&mut shop.lock().unwrap(), &request));
    });
}

/// Holds the lock (a stall is what is tested here, not waited for).
fn hold(length: Duration) {
    let until = Instant::now() + length;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

//! A demo server behind the proxy, and what its merchant and its other buyers do meanwhile.
//!
//! Browsers know only the proxy's address, so the server may die and come back. The
//! tests use item numbers of their own; the demo's items stay as they are.

use serde_json::{Value, json};
use stampede_loadgen::check::OrderRow;
use stampede_loadgen::verify::Merchant;

use crate::browser::Browser;
use crate::door::Door;
use crate::e2e_talk::{Answer, Http, now_ms};
use crate::sale::Sale;
use crate::server::{Bed, Server, TOKEN};

/// The item that a test sells, unless it needs more.
pub(crate) const ITEM: u32 = 90;

/// One server for one test.
pub(crate) struct Shop {
    bed: Bed,
    server: Option<Server>,
    /// The address for browsers.
    pub(crate) door: Door,
}

impl Shop {
    /// The unchanged demo.
    pub(crate) fn demo() -> Self {
        Self::on(Bed::demo())
    }

    /// A server with this bed's settings.
    pub(crate) fn on(mut bed: Bed) -> Self {
        bed.cores = "1";
        let server = bed.start();
        let door = Door::to(server.public);
        Self { bed, server: Some(server), door }
    }

    /// The demo with [`ITEM`] on sale now: 5 units, one per buyer, sold on order. `change`
    /// gives the settings that differ.
    pub(crate) fn selling(change: Value) -> Self {
        let shop = Self::demo();
        shop.put(ITEM, change);
        shop
    }

    /// Puts an item on sale, like [`Shop::selling`].
    pub(crate) fn put(&self, item: u32, change: Value) {
        let now_ms = now_ms();
        let mut body = json!({
            "name": "Porcelain tea set", "price_minor": 12_900, "currency": "CNY", "stock": 5, "cap": 1,
            "opens_at_ms": now_ms - 1_000, "closes_at_ms": now_ms + 3_600_000,
            "payment": "on_order", "hold_ms": 0,
        });
        let Value::Object(change) = change else { panic!("an object") };
        body.as_object_mut().unwrap().extend(change);
        self.change(item, &body);
    }

    /// Changes some fields of an item.
    pub(crate) fn change(&self, item: u32, body: &Value) {
        self.merchant().put(&format!("/admin/items/{item}"), body).unwrap();
    }

    /// Opens the page of an item before its opening, which comes in some seconds, but not before the
    /// page is loaded.
    pub(crate) fn before_the_opening<'b>(&self, browser: &'b Browser, item: u32) -> Sale<'b> {
        for lead_ms in [5_000, 10_000, 20_000] {
            self.change(item, &json!({"opens_at_ms": from_now(lead_ms)}));
            let sale = Sale::at(browser, &self.sale(item));
            if sale.state() == "upcoming" {
                return sale;
            }
        }
        panic!("no page loads within twenty seconds");
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    pub(crate) fn merchant(&self) -> Merchant {
        self.server().merchant()
    }

    /// Calls an endpoint of the merchant API for an item: `pause`, `resume`, `close`.
    pub(crate) fn act(&self, item: u32, action: &str) {
        self.tell(&format!("POST /admin/items/{item}/{action}"), "");
    }

    /// Any merchant call; it must succeed.
    pub(crate) fn tell(&self, call: &str, body: &str) -> Answer {
        let token = format!("Authorization: Bearer {TOKEN}");
        let answer = Http::to(self.server().admin).call(call, &[&token], body);
        assert!((200..300).contains(&answer.status), "{call}: {answer:?}");
        answer
    }

    /// Somebody else buys one unit.
    pub(crate) fn somebody_buys(&self, item: u32) -> String {
        let mut http = Http::to(self.server().public);
        let token = http.call("POST /v1/demo/session", &[], "").json();
        let token = format!("Authorization: Bearer {}", token["token"].as_str().expect("a token"));
        let answer = http.call(&format!("POST /v1/items/{item}/orders"), &[&token], r#"{"quantity":1}"#);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.order_id().expect("an order")
    }

    /// The orders of an item.
    pub(crate) fn orders(&self, item: u32) -> Vec<OrderRow> {
        self.merchant().orders(item, 0).unwrap()
    }

    /// `kill -9`; the proxy leads nowhere until [`Shop::start_again`].
    pub(crate) fn kill(&mut self) {
        self.door.lead_to(None);
        self.server.take().expect("it runs").kill();
    }

    pub(crate) fn start_again(&mut self) {
        let server = self.bed.start();
        self.door.lead_to(Some(server.public));
        self.server = Some(server);
    }

    /// The URL of a path, for browsers.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.door.address)
    }

    /// The sale page of an item.
    pub(crate) fn sale(&self, item: u32) -> String {
        self.url(&format!("/sale/{item}"))
    }
}

/// The time so many milliseconds from now.
pub(crate) fn from_now(ms: u64) -> u64 {
    now_ms() + ms
}

//! What the crowd and the merchant of a history do.

use stampede_net::http::route::Listener;

use super::plans::Plan;
use super::{BUYERS, HOUR_MS, History};
use crate::book::Red;
use crate::shop::{Call, Fate, Intent};

impl History<'_> {
    pub(super) fn buyer_link(&mut self) -> usize {
        self.rng.below(self.links.len() as u64 - 1) as usize
    }

    pub(super) fn some_item(&mut self) -> u32 {
        self.plans[self.rng.below(self.plans.len() as u64) as usize].id
    }

    pub(super) fn somebody_asks(&mut self) -> Result<(), Red> {
        match self.rng.below(100) {
            0..40 => self.new_purchase(),
            40..62 => self.retry(),
            62..78 => self.look_or_cancel(),
            78..94 => self.merchant_acts(),
            _ => {
                let at = self.buyer_link();
                if !self.links[at].calls.is_empty() {
                    self.cut(at, Listener::Public);
                }
                Ok(())
            }
        }
    }

    /// More at once than an owner takes in one turn.
    pub(super) fn rush(&mut self) -> Result<(), Red> {
        for _ in 0..8 + self.rng.below(12) {
            self.new_purchase()?;
        }
        Ok(())
    }

    pub(super) fn new_purchase(&mut self) -> Result<(), Red> {
        let (buyer, item) = (self.rng.below(BUYERS.into()) as u16, self.some_item());
        let quantity = 1 + self.rng.below(6) / 5;
        let keyed = self.chance(850);
        let fate = Fate::Unknown;
        self.shop.intents.push(Intent { buyer, item, quantity, keyed, fate, conflicting: None });
        self.ask_to_buy(self.shop.intents.len() - 1, quantity)
    }

    /// The same purchase again, often while the first answer is under way; now and then with
    /// another payload.
    pub(super) fn retry(&mut self) -> Result<(), Red> {
        let many = self.shop.intents.len() as u64;
        if many == 0 {
            return self.new_purchase();
        }
        let at = (many - 1 - self.rng.below(many.min(10))) as usize;
        if !self.shop.intents[at].keyed {
            return Ok(());
        }
        let mut quantity = self.shop.intents[at].quantity;
        if self.chance(100) {
            quantity = 3 - quantity;
            self.shop.intents[at].conflicting = Some(quantity);
        }
        self.ask_to_buy(at, quantity)
    }

    pub(super) fn ask_to_buy(&mut self, at: usize, quantity: u64) -> Result<(), Red> {
        let link = self.buyer_link();
        self.ask_to_buy_on(link, at, quantity)
    }

    pub(super) fn ask_to_buy_on(&mut self, link: usize, at: usize, quantity: u64) -> Result<(), Red> {
        let intent = &self.shop.intents[at];
        let (buyer, item, key) = (intent.buyer, intent.item, intent.keyed.then_some(at));
        let known = matches!(intent.fate, Fate::Acked(..));
        let path = format!("/v1/items/{item}/orders");
        let body = format!("{{\"quantity\":{quantity}}}");
        let call = Call::Buy(at, quantity, known);
        self.send(link, call, |writer| writer.buyer("POST", &path, buyer, key, &body))
    }

    pub(super) fn look_or_cancel(&mut self) -> Result<(), Red> {
        let (link, buyer) = (self.buyer_link(), self.rng.below(BUYERS.into()) as u16);
        let own = self.shop.known(Some(buyer));
        let item = self.some_item();
        let order = (!own.is_empty()).then(|| own[self.rng.below(own.len() as u64) as usize]);
        match (self.rng.below(6), order) {
            (0..2, Some(order)) => {
                let path = format!("/v1/orders/{order}");
                self.send(link, Call::Read(buyer), |writer| writer.buyer("GET", &path, buyer, None, ""))
            }
            (2..4, Some(order)) => {
                let path = format!("/v1/orders/{order}/cancel");
                self.send(link, Call::Cancel(buyer), |writer| writer.buyer("POST", &path, buyer, None, "{}"))
            }
            (4, _) => {
                let path = format!("/v1/items/{item}");
                self.send(link, Call::Other, |writer| writer.buyer("GET", &path, buyer, None, ""))
            }
            _ => self.send(link, Call::List(buyer), |w| w.buyer("GET", "/v1/orders", buyer, None, "")),
        }
    }

    // ---- the merchant ----

    pub(super) fn shop_link(&self) -> usize {
        self.links.len() - 1
    }

    pub(super) fn put_item(&mut self, plan: &Plan) -> Result<(), Red> {
        let (link, path) = (self.shop_link(), format!("/admin/items/{}", plan.id));
        self.send(link, Call::Item(plan.id), |writer| writer.merchant("PUT", &path, &plan.body))
    }

    pub(super) fn merchant_acts(&mut self) -> Result<(), Red> {
        let (link, item) = (self.shop_link(), self.some_item());
        let mut orders = self.shop.known(None);
        orders.extend(self.book.past.orders.keys());
        let order = (!orders.is_empty()).then(|| orders[self.rng.below(orders.len() as u64) as usize]);
        let (verb, body) = match (self.rng.below(16), order) {
            (0..5, Some(order)) => {
                let path = format!("/admin/orders/{order}/pay");
                let again = if self.rng.below(3) == 0 { ",\"take_again\":true" } else { "" };
                let body = format!("{{\"payment_ref\":\"p{}\"{again}}}", self.rng.below(3));
                return self.send(link, Call::Move, |writer| writer.merchant("POST", &path, &body));
            }
            (5 | 6, Some(order)) => {
                let part = format!("{{\"quantity\":1,\"refund_ref\":\"r{}\"}}", self.rng.below(3));
                let named = format!("{{\"payment_ref\":\"p{}\"}}", self.rng.below(3));
                let (verb, body) = match self.rng.below(6) {
                    0 => ("refund", &*part),
                    1 => ("refund", &*named),
                    2 => ("refund", "{}"),
                    _ => ("cancel", "{}"),
                };
                let path = format!("/admin/orders/{order}/{verb}");
                return self.send(link, Call::Move, |writer| writer.merchant("POST", &path, body));
            }
            (7, Some(order)) if self.rng.coin() => {
                let path = format!("/admin/orders/{order}/extend");
                let body = format!(
                    "{{\"pay_by_ms\":{}}}",
                    self.wall_ms + [50, 500, 5_000][self.rng.below(3) as usize]
                );
                return self.send(link, Call::Move, |writer| writer.merchant("POST", &path, &body));
            }
            (7, Some(order)) => {
                let path = format!("/admin/orders/{order}");
                return self.send(link, Call::Move, |writer| writer.merchant("GET", &path, ""));
            }
            (8, _) => return self.block(),
            (9, _) => return self.change_item(item),
            (10, _) => ("pause", String::new()),
            (11 | 12, _) => ("resume", String::new()),
            (13, _) if self.chance(100) => ("close", String::new()),
            (14, _) => {
                let path = format!("/admin/items/{item}");
                return self.send(link, Call::Item(item), |writer| writer.merchant("GET", &path, ""));
            }
            _ => ("restock", format!("{{\"add\":{}}}", self.rng.below(4) as i64 - 1)),
        };
        let path = format!("/admin/items/{item}/{verb}");
        self.send(link, Call::Item(item), |writer| writer.merchant("POST", &path, &body))
    }

    pub(super) fn block(&mut self) -> Result<(), Red> {
        let (link, buyer, blocked) =
            (self.shop_link(), self.rng.below(BUYERS.into()) as u16, self.rng.coin());
        self.shop.asks_block(buyer);
        let path = format!("/admin/blocklist/b{buyer}");
        let method = if blocked { "PUT" } else { "DELETE" };
        self.send(link, Call::Block(buyer, blocked), |writer| writer.merchant(method, &path, ""))
    }

    pub(super) fn change_item(&mut self, item: u32) -> Result<(), Red> {
        let (link, path) = (self.shop_link(), format!("/admin/items/{item}"));
        let body = if self.rng.coin() {
            let closes = self.wall_ms + [50, 500, 100 * HOUR_MS][self.rng.below(3) as usize];
            format!("{{\"closes_at_ms\":{closes}}}")
        } else {
            format!("{{\"cap\":{},\"price_minor\":{}}}", 1 + self.rng.below(3), self.rng.below(9))
        };
        self.send(link, Call::Item(item), |writer| writer.merchant("PUT", &path, &body))
    }
}

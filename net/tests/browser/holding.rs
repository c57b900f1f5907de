//! A unit that is held for a buyer: paid, given back, expired.

use serde_json::json;

use crate::browser::Browser;
use crate::sale::Sale;
use crate::shop::{ITEM, Shop};

const PURCHASES: &str = "POST /v1/items/90/orders";

#[test]
fn holding_is_paid_after_a_reload() {
    let shop = Shop::selling(json!({"payment": "hold", "hold_ms": 600_000, "stock": 1}));
    let browser = Browser::english("hold");
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    sale.press();
    sale.wait_for("held");
    browser.wait("document.querySelector('#timer').textContent.match(/9:[0-5][0-9]/)");
    sale.look("held");
    let order = sale.order();
    browser.reload();
    sale.wait_for("held");
    assert_eq!(sale.order(), order);
    browser.click("#pay");
    sale.wait_for("won");
    assert_eq!(sale.order(), order);
    assert_eq!(shop.merchant().item(ITEM).unwrap().totals.sold, 1);
    sale.look("paid");
    browser.reload();
    sale.wait_for("won");
    sale.check_console();
}

#[test]
fn holding_ends_and_the_buyer_may_try_again() {
    let shop = Shop::selling(json!({"payment": "hold", "hold_ms": 2_000, "stock": 1}));
    let browser = Browser::english("expired");
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    sale.press();
    sale.wait_until_seen("held");
    sale.wait_for("open");
    assert_eq!(sale.order(), None);
    assert!(browser.text("#note").contains("time to pay has run out"), "{}", browser.text("#note"));
    sale.look("expired");
    shop.change(ITEM, &json!({"hold_ms": 600_000}));
    sale.press();
    sale.wait_for("held");
    let keys = shop.door.keys(PURCHASES);
    assert!(keys.len() >= 2 && keys.first() != keys.last(), "a new order has a new key: {keys:?}");
    assert_eq!(shop.orders(ITEM).len(), 2);
    // And given back by the buyer.
    browser.click("#cancel");
    sale.wait_for("open");
    assert_eq!((sale.order(), shop.merchant().item(ITEM).unwrap().totals.available), (None, 1));
    sale.look("cancelled");
    sale.check_console();
}

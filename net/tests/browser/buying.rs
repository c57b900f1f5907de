//! A buyer and an item that is sold on order: from the countdown to the order, with impatient
//! clicks, reloads, two tabs, and the keyboard alone.

use serde_json::json;

use crate::browser::{Browser, keys};
use crate::door::Fault;
use crate::sale::Sale;
use crate::shop::{ITEM, Shop, from_now};

/// How purchases begin on the wire.
const PURCHASES: &str = "POST /v1/items/90/orders";
/// Every request that an early click could cause.
const ASKED_FOR_AN_ITEM: &str = "POST /v1/items/";

#[test]
fn buying_from_the_countdown_to_the_order() {
    let shop = Shop::selling(json!({"opens_at_ms": from_now(1_800_000)}));
    let browser = Browser::english("countdown");
    let sale = shop.before_the_opening(&browser, ITEM);
    sale.press();
    assert_eq!(browser.attribute("#timer", "role").as_deref(), Some("timer"));
    browser.wait("/opens in [0-9]+ s/.test(document.querySelector('#live').textContent)");
    assert!(sale.focus_is_on_the_button(), "an early click leaves the focus where it is");
    sale.wait_for("open");
    assert!(sale.focus_is_on_the_button() && !sale.is_grey());
    assert_eq!(shop.door.count(ASKED_FOR_AN_ITEM), 0, "the early click was kept and sent");
    sale.press();
    sale.wait_for("won");
    assert!(sale.focus_is_on_the_button() && sale.is_grey());
    let orders = shop.orders(ITEM);
    assert_eq!((orders.len(), sale.order()), (1, Some(orders[0].order_id.to_string())));
    let sent = shop.door.count(PURCHASES);
    sale.press();
    assert_eq!((sale.state().as_str(), shop.door.count(PURCHASES)), ("won", sent), "greyed for good");
    sale.look("won");
    sale.check_console();
}

#[test]
fn buying_the_clock_is_the_servers() {
    let shop =
        Shop::selling(json!({"opens_at_ms": from_now(3_600_000), "closes_at_ms": from_now(7_200_000)}));
    let browser = Browser::english("clock");
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("upcoming");
    sale.look("upcoming");
    // By a clock that is two hours ahead, the sale would be over.
    sale.reload_with_clock_wrong_by(7_200_000);
    sale.wait_for("upcoming");
    browser.wait("document.querySelector('#timer').textContent.match(/59:/)");
    sale.check_console();
}

#[test]
fn buying_twice_at_once_is_one_order() {
    let shop = Shop::selling(json!({"cap": 5}));
    let browser = Browser::english("double");
    let sale = Sale::as_buyer(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    sale.look("open");
    shop.door.spoil(PURCHASES, Fault::HoldAnswer);
    browser.double_click("#buy");
    sale.wait_for("sending");
    sale.press();
    sale.look("sending");
    shop.door.let_go();
    sale.wait_for("won");
    let keys = shop.door.keys(PURCHASES);
    assert!(keys.iter().all(|key| key.is_some() && *key == keys[0]), "{keys:?}");
    assert_eq!(shop.orders(ITEM).len(), 1);
    sale.check_console();
}

#[test]
fn buying_survives_a_reload_and_shows_in_every_tab() {
    let shop = Shop::selling(json!({}));
    let browser = Browser::english("tabs");
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    let first = browser.tab();
    browser.open_tab();
    let other = Sale::at(&browser, &shop.sale(ITEM));
    other.wait_for("open");
    let second = browser.tab();
    browser.switch_to(&first);
    sale.press();
    sale.wait_for("won");
    let order = sale.order().expect("an order");
    browser.reload();
    sale.wait_for("won");
    assert_eq!(sale.order(), Some(order.clone()));
    // The other tab still offers the item, or has noticed; pressing its button gives the same order.
    browser.switch_to(&second);
    other.press();
    other.wait_for("won");
    assert_eq!((other.order(), shop.orders(ITEM).len()), (Some(order), 1));
    sale.check_console();
}

#[test]
fn buying_more_than_the_cap_shows_the_existing_order() {
    let shop = Shop::selling(json!({}));
    let browser = Browser::english("cap");
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    let first = browser.tab();
    browser.open_tab();
    let other = Sale::at(&browser, &shop.sale(ITEM));
    other.wait_for("open");
    other.press();
    other.wait_for("won");
    let order = other.order();
    // Like another device of the same buyer: nothing is remembered here.
    browser.run("localStorage.clear()", &json!([]));
    browser.switch_to(&first);
    sale.press();
    sale.wait_for("won");
    assert_eq!((sale.order(), shop.orders(ITEM).len()), (order, 1));
    sale.check_console();
}

#[test]
fn buying_by_keyboard_alone() {
    let shop = Shop::selling(json!({}));
    let browser = Browser::english("keyboard");
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    for _ in 0..10 {
        if sale.focus_is_on_the_button() {
            break;
        }
        browser.press(keys::TAB);
    }
    assert!(sale.focus_is_on_the_button(), "ten presses of Tab do not reach the button");
    let outline = "getComputedStyle(document.querySelector('#buy')).outlineStyle";
    assert_ne!(browser.value(outline), "none", "the focus cannot be seen");
    browser.screenshot("focus");
    browser.press(keys::ENTER);
    sale.wait_for("won");
    assert!(sale.focus_is_on_the_button());
    browser.press(keys::SPACE);
    assert_eq!((sale.state().as_str(), shop.orders(ITEM).len()), ("won", 1));
    sale.check_console();
}

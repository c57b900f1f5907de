//! A draw as a buyer sees it: announced, entered, won or lost, with and without scripts.

use serde_json::json;

use crate::browser::Browser;
use crate::sale::Sale;
use crate::shop::{ITEM, Shop, from_now};

/// Time until the opening and length of the draw, in milliseconds, for a machine that is
/// quiet, busy, or overloaded. Each attempt uses an item of its own, numbered from here.
const PACES: [(u64, u64); 3] = [(1_500, 4_000), (5_000, 10_000), (12_000, 24_000)];
const FIRST: u32 = 100;

/// Enters a draw for one unit and returns the item; nobody else enters.
fn enter(shop: &Shop, browser: &Browser, payment: &str) -> u32 {
    for (item, (lead_ms, draw_ms)) in (FIRST..).zip(PACES) {
        let hold_ms = if payment == "hold" { 600_000 } else { 0 };
        shop.put(
            item,
            json!({"stock": 1, "opens_at_ms": from_now(lead_ms), "draw_ms": draw_ms,
                "payment": payment, "hold_ms": hold_ms}),
        );
        let sale = Sale::at(browser, &shop.sale(item));
        sale.wait_for("open");
        if sale.button() != "Enter the draw" {
            continue;
        }
        sale.press();
        browser.wait("!['open', 'sending'].includes(document.querySelector('[data-state]').dataset.state)");
        if sale.state() == "entered" {
            return item;
        }
    }
    panic!("each draw was over before it could be entered");
}

#[test]
fn drawing_is_announced_and_entered_once() {
    let shop = Shop::demo();
    let browser = Browser::english("draw");
    shop.put(ITEM, json!({"opens_at_ms": from_now(1_500), "draw_ms": 1_800_000}));
    let sale = Sale::as_buyer(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    assert_eq!(sale.button(), "Enter the draw");
    browser.wait("/[0-9a-f]{64}/.test(document.querySelector('#seal').textContent)");
    browser.wait("/^00:29:/.test(document.querySelector('#clock').textContent)");
    sale.look("open");
    sale.press();
    sale.wait_for("entered");
    assert!(sale.is_grey() && sale.focus_is_on_the_button());
    sale.look("entered");
    let order = sale.order();
    browser.reload();
    sale.wait_for("entered");
    sale.press();
    assert_eq!((sale.order(), shop.orders(ITEM).len()), (order, 1));
    sale.check_console();
}

#[test]
fn drawing_is_won() {
    let shop = Shop::demo();
    let browser = Browser::english("drawn");
    let item = enter(&shop, &browser, "hold");
    let sale = Sale { browser: &browser };
    let order = sale.order();
    sale.wait_for("held");
    assert_eq!(sale.order(), order);
    browser.wait("document.querySelector('#seal').textContent.includes('Anyone can now check')");
    sale.look("won");
    browser.click("#pay");
    sale.wait_for("won");
    assert_eq!(shop.merchant().item(item).unwrap().totals.sold, 1);
    sale.check_console();
}

#[test]
fn drawing_is_lost() {
    let shop = Shop::demo();
    let browser = Browser::english("not-drawn");
    let item = enter(&shop, &browser, "on_order");
    // The shop withdraws the unit: there is nothing to win.
    shop.tell(&format!("POST /admin/items/{item}/restock"), r#"{"add":-1}"#);
    let sale = Sale { browser: &browser };
    sale.wait_for("lost");
    assert!(sale.is_grey());
    sale.look("lost");
    browser.reload();
    sale.wait_for("lost");
    sale.check_console();
}

#[test]
fn drawing_without_scripts() {
    let shop = Shop::demo();
    let browser = Browser::english("bare-draw");
    browser.allow_scripts(false);
    let item = enter(&shop, &browser, "on_order");
    let sale = Sale { browser: &browser };
    assert!(browser.url().contains("/order/"), "{}", browser.url());
    sale.wait_for("won");
    assert_eq!(shop.orders(item).len(), 1);
    sale.check_console();
}

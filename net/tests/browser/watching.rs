//! What happens during the sale while a buyer watches: the shop, other buyers, the network.

use serde_json::json;

use crate::browser::Browser;
use crate::door::Fault;
use crate::sale::Sale;
use crate::server::wait_for;
use crate::shop::{ITEM, Shop, from_now};

const PURCHASES: &str = "POST /v1/items/90/orders";
/// A second item.
const OTHER: u32 = 91;

#[test]
fn watching_it_sell_out() {
    let shop = Shop::selling(json!({"stock": 2}));
    let browser = Browser::english("sold-out");
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    shop.somebody_buys(ITEM);
    shop.somebody_buys(ITEM);
    sale.wait_for("sold_out");
    assert!(sale.is_grey());
    sale.look("sold-out");
    // Units come back: the page notices that, too.
    shop.tell(&format!("POST /admin/items/{ITEM}/restock"), r#"{"add":1}"#);
    sale.wait_for("open");
    // If the stock goes between two looks, the response says so at once.
    let look = format!("GET /v1/items/{ITEM}");
    shop.door.spoil(&look, Fault::HoldAnswer);
    wait_for("a look that takes long", || (shop.door.faults_left() == 0).then_some(()));
    shop.somebody_buys(ITEM);
    sale.press();
    sale.wait_for("sold_out");
    sale.check_console();
}

#[test]
fn watching_the_shop_pause_resume_and_close() {
    let shop = Shop::selling(json!({}));
    let browser = Browser::english("paused");
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    shop.act(ITEM, "pause");
    sale.wait_for("paused");
    assert!(sale.is_grey());
    sale.look("paused");
    shop.act(ITEM, "resume");
    sale.wait_for("open");
    shop.act(ITEM, "close");
    sale.wait_for("ended");
    assert!(sale.is_grey());
    sale.look("ended");
    sale.check_console();
}

#[test]
fn watching_the_crowd_and_the_limit_pass() {
    let shop = Shop::selling(json!({}));
    let browser = Browser::english("crowd");
    let sale = Sale::as_buyer(&browser, &shop.sale(ITEM));
    for (status, code, state) in [(429, "rate_limited", "limited"), (503, "overloaded", "waiting")] {
        sale.wait_for("open");
        shop.door.spoil(PURCHASES, Fault::refusal(status, code, 60));
        sale.press();
        sale.wait_for(state);
        assert!(sale.is_grey());
        sale.look(state);
        // Nobody has to wait for it: the key is kept.
        browser.reload();
    }
    sale.wait_for("open");
    shop.door.spoil(PURCHASES, Fault::refusal(429, "rate_limited", 1));
    shop.door.spoil(PURCHASES, Fault::refusal(503, "overloaded", 1));
    sale.press();
    sale.wait_until_seen("limited");
    sale.wait_until_seen("waiting");
    sale.wait_for("won");
    let keys = shop.door.keys(PURCHASES);
    assert!(keys.len() == 5 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    sale.check_console();
}

#[test]
fn watching_from_a_background_tab_requests_nothing() {
    let shop = Shop::selling(json!({}));
    shop.put(OTHER, json!({}));
    let browser = Browser::english("hidden");
    let hidden = Sale::at(&browser, &shop.sale(ITEM));
    hidden.wait_for("open");
    let looks = |item: u32| shop.door.count(&format!("GET /v1/items/{item}"));
    wait_for("a first look", || (looks(ITEM) > 0).then_some(()));
    let first = browser.tab();
    browser.open_tab();
    let before = looks(ITEM);
    let front = Sale::at(&browser, &shop.sale(OTHER));
    front.wait_for("open");
    wait_for("four looks in front", || (looks(OTHER) >= 4).then_some(()));
    // One may have been under way.
    assert!(looks(ITEM) <= before + 1, "{} looks from behind", looks(ITEM) - before);
    browser.switch_to(&first);
    wait_for("a look on coming back", || (looks(ITEM) > before + 1).then_some(()));
    front.check_console();
}

#[test]
fn watching_the_network_go_and_come_back() {
    let shop = Shop::selling(json!({}));
    let browser = Browser::english("offline");
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    browser.set_offline(true);
    sale.wait_for("offline");
    assert!(sale.is_grey());
    sale.look("offline");
    browser.set_offline(false);
    sale.wait_for("open");
    sale.press();
    sale.wait_for("won");
    sale.check_console();
}

#[test]
fn watching_an_answer_get_lost_and_the_server_die() {
    let mut shop = Shop::selling(json!({"cap": 5}));
    let browser = Browser::english("lost-answer");
    let sale = Sale::as_buyer(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    shop.door.spoil(PURCHASES, Fault::LoseAnswer);
    sale.press();
    wait_for("the answer to be lost", || (shop.door.faults_left() == 0).then_some(()));
    wait_for("the order", || shop.orders(ITEM).pop());
    shop.kill();
    browser.wait("document.querySelector('[data-state]').dataset.state != 'open'");
    assert_ne!(sale.state(), "won");
    shop.start_again();
    sale.wait_for("won");
    let (orders, keys) = (shop.orders(ITEM), shop.door.keys(PURCHASES));
    assert_eq!((orders.len(), sale.order()), (1, Some(orders[0].order_id.to_string())));
    assert!(keys.len() >= 2 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    sale.check_console();
}

/// Time runs faster here: the page's clock jumps to just before each mark.
#[test]
fn watching_the_time_being_told() {
    let shop = Shop::selling(json!({"opens_at_ms": from_now(1_800_000)}));
    let opens_at_ms = shop.tell(&format!("GET /admin/items/{ITEM}"), "").json()["opens_at_ms"].clone();
    let browser = Browser::english("live");
    browser.run_first(
        "window.jump = 0; const now = performance.now.bind(performance);
         performance.now = () => now() + jump;",
    );
    for (before_ms, said) in [(600_000, "in 10 min"), (60_000, "in 1 min"), (10_000, "in 10 s")] {
        let probes = shop.door.count("GET /v1/time");
        let sale = Sale::at(&browser, &shop.sale(ITEM));
        sale.wait_for("upcoming");
        // Another probe would correct the clock.
        wait_for("the server's clock", || (shop.door.count("GET /v1/time") >= probes + 5).then_some(()));
        let live = "document.querySelector('#live').textContent.trim()";
        // Marks are passed from one second to the next, so the clock must start before one.
        for _ in 0..2 {
            let second = browser.text("#clock");
            browser.wait(&format!("document.querySelector('#clock').textContent != '{second}'"));
        }
        assert_eq!(browser.value(live), "", "not each second, and not yet");
        browser.run(
            "window.jump = arguments[0] - Date.now() - arguments[1]",
            &json!([opens_at_ms, before_ms - 500]),
        );
        browser.wait(&format!("{live}.includes('{said}')"));
        assert_eq!(browser.attribute("#live", "aria-live").as_deref(), Some("polite"));
        sale.check_console();
    }
}

//! Without scripts: the whole purchase with forms, and a page that reloads itself.

use serde_json::json;

use crate::browser::Browser;
use crate::sale::Sale;
use crate::server::wait_for;
use crate::shop::{ITEM, Shop, from_now};

/// An item that opens long after the test.
const LATER: u32 = 91;

#[test]
fn bare_from_the_countdown_to_the_payment() {
    let shop = Shop::selling(
        json!({"payment": "hold", "hold_ms": 600_000, "stock": 1, "opens_at_ms": from_now(1_800_000)}),
    );
    shop.put(LATER, json!({"opens_at_ms": from_now(1_800_000)}));
    let browser = Browser::english("bare");
    browser.allow_scripts(false);
    let sale = Sale::at(&browser, &shop.sale(LATER));
    sale.wait_for("upcoming");
    sale.look("upcoming");
    // Too early here, too: it has no effect, and the page says so.
    sale.send();
    wait_for("the early form", || (shop.door.count("POST /sale/91") > 0).then_some(()));
    sale.wait_for("upcoming");
    sale.look("early");
    assert_eq!(shop.orders(LATER).len(), 0);
    let sale = shop.before_the_opening(&browser, ITEM);
    // The page reloads itself at the opening.
    sale.wait_for("open");
    sale.look("open");
    sale.send();
    sale.wait_for("held");
    assert!(browser.url().contains("/order/"), "{}", browser.url());
    sale.look("held");
    browser.reload();
    sale.wait_for("held");
    assert_eq!(shop.orders(ITEM).len(), 1);
    browser.click_through("#pay");
    sale.wait_for("won");
    assert_eq!(shop.merchant().item(ITEM).unwrap().totals.sold, 1);
    sale.look("won");
    assert_eq!(shop.door.count("POST /v1/"), 0, "a script has run");
    sale.check_console();
}

//! The page itself: languages, size, colours, and the list that leads to it.

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::sale::Sale;
use crate::server::Bed;
use crate::shop::{ITEM, Shop, from_now};

/// Maximum size of page, style and script over the wire, including headers.
const WIRE_BYTES_MAX: u64 = 15_000;

#[test]
fn looking_at_it_in_chinese() {
    let shop = Shop::selling(json!({"name": "双十一手机", "payment": "hold", "hold_ms": 600_000}));
    let browser = Browser::open("chinese", "zh-CN");
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    assert!(browser.attribute("html", "lang").is_some_and(|lang| lang.starts_with("zh")));
    assert!(sale.button().contains('抢') || sale.button().contains('购'), "{}", sale.button());
    sale.look("open");
    sale.press();
    sale.wait_for("held");
    let english = browser.text("main").replace("CNY", "");
    let letters: String = english.chars().filter(char::is_ascii_alphabetic).collect();
    assert_eq!(letters, "", "words that nobody has translated: {english}");
    sale.look("held");
    sale.check_console();
}

#[test]
fn looking_at_its_weight() {
    let shop =
        Shop::selling(json!({"opens_at_ms": from_now(3_600_000), "closes_at_ms": from_now(7_200_000)}));
    let browser = Browser::english("weight");
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("upcoming");
    let files = browser.value(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
             .filter(entry => !entry.name.includes('/v1/'))
             .map(entry => [new URL(entry.name).pathname, entry.transferSize])",
    );
    let files: Vec<Value> = files.as_array().unwrap().clone();
    let bytes: u64 = files.iter().map(|file| file[1].as_u64().unwrap()).sum();
    assert!(files.len() >= 3 && files.iter().all(|file| file[1].as_u64() > Some(0)), "{files:?}");
    assert!(bytes < WIRE_BYTES_MAX, "{bytes} bytes: {files:?}");
    // Once loaded, files with a hash in their name are not requested again.
    browser.reload();
    sale.wait_for("upcoming");
    let again = browser.value(
        "performance.getEntriesByType('resource').filter(entry => entry.name.includes('/assets/'))
             .reduce((sum, entry) => sum + entry.transferSize, 0)",
    );
    assert_eq!(again, 0);
    sale.check_console();
}

#[test]
fn looking_at_it_without_motion_and_in_the_dark() {
    let shop = Shop::selling(json!({}));
    let browser = Browser::english("motion");
    browser.prefer(true, true);
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    assert_eq!(browser.value("document.getAnimations().length"), 0);
    let moving = browser.value(
        "[...document.querySelectorAll('*')].filter(part => {
             const style = getComputedStyle(part);
             return [style.transitionDuration, style.animationDuration].some(
                 times => times.split(', ').some(time => parseFloat(time) > 0.01));
         }).map(part => part.outerHTML.slice(0, 80))",
    );
    assert_eq!(moving, json!([]));
    let light = "(colour => colour.match(/[\\d.]+/g).slice(0, 3).every(part => part > 128))
         (getComputedStyle(document.body).backgroundColor)";
    assert_eq!(browser.value(light), false, "a light page in dark mode");
    browser.prefer(false, true);
    assert_eq!(browser.value(light), true);
    sale.check_console();
}

#[test]
fn looking_at_the_list_and_going_in() {
    let shop = Shop::selling(json!({}));
    let browser = Browser::english("list");
    let list = Sale::at(&browser, &shop.url("/"));
    browser.wait("document.querySelectorAll('a[href^=\"/sale/\"]').length >= 4");
    list.look("list");
    browser.click(&format!("a[href='/sale/{ITEM}']"));
    list.wait_for("open");
    list.check_console();
}

#[test]
fn looking_at_a_hostile_name() {
    let name = "</script><img src=x onerror=\"window.evil=1\">'&\"<script>window.evil=1</script>";
    let shop = Shop::selling(json!({"name": name}));
    let browser = Browser::english("hostile");
    let sale = Sale::at(&browser, &shop.url("/"));
    browser.wait("document.querySelectorAll('a[href^=\"/sale/\"]').length >= 4");
    assert!(browser.text("main").contains(name), "{}", browser.text("main"));
    browser.go(&shop.sale(ITEM));
    sale.wait_for("open");
    assert_eq!(browser.text("h1"), name);
    assert_eq!(browser.value("typeof window.evil"), "undefined");
    sale.check_console();
    // If something slipped through, the page's policy would stop it.
    let ran = browser.run(
        "const script = document.createElement('script');
         script.textContent = 'window.evil = 1';
         document.body.append(script);
         return typeof window.evil",
        &json!([]),
    );
    assert_eq!(ran, "undefined");
    assert!(browser.log().iter().any(|line| line.contains("Content Security Policy")));
}

#[test]
fn looking_at_it_as_nobody() {
    let key = "k:HS256:c2l4dGVlbiBhbmQgc2l4dGVlbiBieXRlcyBvZiBzZWNyZXQ=";
    let shop = Shop::on(Bed::new().set("identity.mode", "jwt").set("identity.keys", key));
    shop.put(ITEM, json!({}));
    let browser = Browser::english("nobody");
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    sale.press();
    sale.wait_for("limited");
    assert!(sale.is_grey() && sale.button().contains("sign in"), "{}", sale.button());
    sale.look("limited");
    sale.check_console();
}

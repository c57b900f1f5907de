//! Tickets and challenges as a buyer meets them: a ticket without a challenge, a sum to solve, the device's
//! proof of work instead, and all of it without scripts.
//!
//! The tests cannot read the sum; they type a proof of work, which the same
//! field accepts.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::browser::{Browser, keys};
use crate::sale::Sale;
use crate::server::Bed;
use crate::shop::{ITEM, Shop};

/// Zero bits of the proof of work: some hundred hashes.
const POW_BITS: u32 = 8;
const TICKETS: &str = "POST /v1/items/90/ticket";
/// Not the sum of two small numbers.
const WRONG: &str = "77777";

fn shop(challenge: &str) -> Shop {
    let shop = Shop::on(Bed::demo().set("gate.pow_bits", &POW_BITS.to_string()));
    shop.put(ITEM, json!({"ticket": "required", "challenge": challenge}));
    shop
}

fn zero_bits(challenge: &str, number: &str) -> u32 {
    let hash = Sha256::digest(format!("{challenge}:{number}"));
    u64::from_be_bytes(hash[..8].try_into().unwrap()).leading_zeros()
}

/// A number that is accepted instead of the sum.
fn worked(challenge: &str) -> String {
    (0u64..).map(|n| n.to_string()).find(|n| zero_bits(challenge, n) >= POW_BITS).unwrap()
}

/// The challenge that the page shows.
fn posed(shop: &Shop) -> String {
    let answer = shop.door.last_answer("GET /v1/items/90/challenge");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["challenge"].as_str().unwrap().to_owned()
}

#[test]
fn gate_a_ticket_shows_nothing() {
    let shop = shop("never");
    let browser = Browser::english("ticket");
    let sale = Sale::as_buyer(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    sale.press();
    sale.wait_for("won");
    assert_eq!((shop.door.count(TICKETS), shop.orders(ITEM).len()), (1, 1));
    sale.check_console();
}

#[test]
fn gate_a_challenge_is_answered_by_hand() {
    let shop = shop("always");
    let browser = Browser::english("challenge");
    let sale = Sale::as_buyer(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    sale.press();
    sale.wait_for("challenge");
    browser.wait("document.querySelector('#drawing').naturalWidth > 0");
    assert_eq!(browser.value("document.activeElement.id"), "answer");
    sale.look("posed");
    let first = posed(&shop);
    assert!(zero_bits(&first, WRONG) < POW_BITS, "once in {} runs", 1 << POW_BITS);
    browser.type_into("#answer", WRONG);
    sale.press();
    browser.wait("document.querySelector('#note').textContent.includes('not correct')");
    sale.wait_for("challenge");
    assert_ne!(posed(&shop), first);
    assert_eq!(browser.value("document.querySelector('#answer').value"), "");
    browser.type_into("#answer", &worked(&posed(&shop)));
    browser.press(keys::ENTER);
    sale.wait_for("won");
    assert!(sale.focus_is_on_the_button() && !browser.shows("#answer"));
    assert_eq!(shop.orders(ITEM).len(), 1);
    sale.check_console();
}

#[test]
fn gate_a_challenge_is_solved_by_the_device() {
    let shop = shop("always");
    let browser = Browser::english("work");
    let sale = Sale::as_buyer(&browser, &shop.sale(ITEM));
    sale.wait_for("open");
    sale.press();
    sale.wait_for("challenge");
    browser.click("#pow");
    sale.wait_for("won");
    assert!(sale.focus_is_on_the_button());
    assert_eq!(shop.orders(ITEM).len(), 1);
    sale.check_console();
}

#[test]
fn gate_without_scripts_there_are_steps() {
    let shop = shop("always");
    shop.put(92, json!({"ticket": "required"}));
    let browser = Browser::english("steps");
    browser.allow_scripts(false);
    let sale = Sale::at(&browser, &shop.sale(ITEM));
    sale.send();
    sale.wait_for("challenge");
    browser.wait("document.querySelector('#drawing').naturalWidth > 0");
    sale.look("posed");
    let first = browser.attribute("[name=challenge]", "value").expect("a challenge");
    assert!(zero_bits(&first, WRONG) < POW_BITS, "once in {} runs", 1 << POW_BITS);
    browser.type_into("#answer", WRONG);
    sale.send();
    browser.wait("document.body.textContent.includes('not correct')");
    let second = browser.attribute("[name=challenge]", "value").expect("a challenge");
    assert_ne!(first, second);
    browser.type_into("#answer", &worked(&second));
    sale.send();
    sale.wait_for("won");
    // With a ticket alone there is nothing to solve.
    browser.go(&shop.sale(92));
    sale.send();
    sale.wait_for("challenge");
    assert!(!browser.shows("#drawing"));
    sale.look("confirm");
    sale.send();
    sale.wait_for("won");
    assert_eq!((shop.orders(ITEM).len(), shop.orders(92).len()), (1, 1));
    sale.check_console();
}

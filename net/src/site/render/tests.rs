//! What the pages say, and what they never say.

use super::*;
use crate::http::answer::VisibleState;
use crate::site::assets::{SCRIPT, STYLE};
use stampede_core::item::OrderState;
use stampede_core::types::{Lsn, Quantity, UnixMillis};

/// Text that would be markup if anybody forgot.
const WILD: &str = "<script>\"x\" & 'y'</script>";
const TAMED: &str = "&#60;script&#62;&#34;x&#34; &#38; &#39;y&#39;&#60;/script&#62;";

fn view(state: &'static str, lang: Lang) -> SaleView<'static> {
    SaleView {
        words: lang.words(),
        item: ItemId::new(7).expect("an item"),
        name: WILD,
        price_minor: 499_900,
        currency: *b"CNY",
        state,
        band: "few",
        opens_at_ms: 1_794_427_200_000,
        closes_at_ms: 1_794_513_600_000,
        cap: 1,
        payment: Payment::Hold,
        hold_ms: 900_000,
        draws_at_ms: None,
        refresh_ms: 2_000,
        renew_s: 60,
        key: "page-1",
        demo: true,
    }
}

fn text(page: Vec<u8>) -> String {
    let page = String::from_utf8(page).expect("UTF-8");
    assert!(!page.contains("{{") && !page.contains("}}"), "a gap is not filled: {page}");
    assert!(!page.contains(WILD), "markup came through: {page}");
    // The policy lets none of these work.
    for inline in [" style=", "<style", " onclick=", "javascript:", "<script>"] {
        assert!(!page.contains(inline), "{inline}: {page}");
    }
    page
}

fn order_in(state: OrderState, demo: bool) -> OrderPage<'static> {
    let order = OrderView {
        order: OrderId::from_u64(7 << 32 | 3).expect("an order"),
        quantity: Quantity::ONE,
        state: VisibleState::Durable(state),
        created_at_ms: UnixMillis(1_000),
        pay_by_ms: UnixMillis(20_000),
        lsn: Lsn(1),
        price: stampede_core::money::Price::UNKNOWN,
        refunded: 0,
    };
    OrderPage { order, name: WILD, price_minor: 0, currency: *b"CNY", now_ms: 15_500, demo }
}

const STATES: [&str; 5] = ["upcoming", "open", "sold_out", "paused", "ended"];

#[test]
fn names_are_text_on_every_page() {
    for lang in Lang::ALL {
        for state in STATES {
            assert!(text(view(state, lang).page()).contains(TAMED));
            assert!(text(list([view(state, lang)], 60, lang)).contains(TAMED));
        }
        assert!(text(order(&order_in(OrderState::Held, true), lang)).contains(TAMED));
        let item = ItemId::new(7).expect("an item");
        let challenge = ChallengeView { challenge: WILD, svg: WILD };
        assert!(text(confirm(item, WILD, Ask::Solve(challenge, false), lang)).contains(TAMED));
        assert!(text(confirm(item, WILD, Ask::Confirm(WILD), lang)).contains(TAMED));
    }
}

#[test]
fn the_page_shows_the_state() {
    for state in STATES {
        let page = text(view(state, Lang::English).page());
        assert!(page.contains(&format!("<main data-state=\"{state}\" data-item=\"7\"")), "{state}");
        assert_eq!(page.contains(" aria-disabled=\"true\""), state != "open", "{state}");
        assert!(!page.contains(" disabled"), "the button keeps its focus");
    }
    let draw = SaleView { draws_at_ms: Some(1_794_427_230_000), ..view("open", Lang::English) };
    assert!(text(draw.page()).contains(">Enter the draw</button>"));
    let free = SaleView { price_minor: 0, ..view("open", Lang::Chinese) };
    assert!(text(free.page()).contains("免费"));
}

#[test]
fn pages_say_their_language() {
    assert!(text(view("open", Lang::English).page()).contains("<html lang=\"en\">"));
    let chinese = text(view("open", Lang::Chinese).page());
    assert!(chinese.contains("<html lang=\"zh-CN\">") && chinese.contains(">立即抢购</button>"));
    assert!(chinese.contains("保留 15 分钟"));
}

/// What the script and the browser tests hold on to.
#[test]
fn the_page_has_what_the_script_looks_for() {
    let page = text(view("open", Lang::English).page());
    let script = String::from_utf8(SCRIPT.plain().to_vec()).expect("text");
    let mut found = 0;
    for (at, _) in script.match_indices("at('") {
        let id: String = script[at + 4..].chars().take_while(|c| *c != '\'').collect();
        assert!(page.contains(&format!(" id=\"{id}\"")), "#{id}");
        found += 1;
    }
    assert!(found > 10, "the search has gone blind");
    for id in ["buy", "timer", "live", "answer", "pay", "pow"] {
        assert!(page.contains(&format!(" id=\"{id}\"")), "#{id}");
    }
}

#[test]
fn only_without_script_the_sale_renews_itself() {
    let page = text(view("upcoming", Lang::English).page());
    assert!(page.contains("<noscript><meta http-equiv=\"refresh\" content=\"60\"></noscript>"));
    let still = SaleView { renew_s: 0, ..view("open", Lang::English) };
    assert!(!text(still.page()).contains("http-equiv"));
}

#[test]
fn an_order_shows_what_can_be_done() {
    let page = |state, demo| text(order(&order_in(state, demo), Lang::English));
    let held = page(OrderState::Held, true);
    assert!(
        held.contains(
            "<main data-state=\"held\" data-item=\"7\" data-order=\"30064771075\" data-renew=\"5\">"
        )
    );
    assert!(held.contains("action=\"/sale/7/order/30064771075/pay\""));
    assert!(held.contains("action=\"/sale/7/order/30064771075/cancel\""));
    assert!(held.contains("1970-01-01 00:00:20 UTC"));
    assert!(held.contains("content=\"5\""), "it comes back just after the deadline");
    let elsewhere = page(OrderState::Held, false);
    assert!(!elsewhere.contains("/pay\"") && elsewhere.contains("pay at the shop"));
    let pending = page(OrderState::Pending, true);
    assert!(pending.contains("data-state=\"held\"") && !pending.contains("Reserved"), "nothing is, yet");
    let paid = page(OrderState::Paid, true);
    assert!(paid.contains("data-state=\"won\"") && !paid.contains("<form") && !paid.contains("http-equiv"));
    let expired = page(OrderState::Expired, true);
    assert!(expired.contains("value=\"again-30064771075\""), "a new try needs a new key");
    for state in (0..=u8::MAX).filter_map(OrderState::from_code) {
        for lang in Lang::ALL {
            text(order(&order_in(state, true), lang));
        }
    }
    let mut accepted = order_in(OrderState::Held, true);
    accepted.order.state = VisibleState::Accepted;
    let accepted = text(order(&accepted, Lang::English));
    assert!(accepted.contains("data-state=\"waiting\"") && accepted.contains("content=\"3\""));
}

#[test]
fn every_refusal_has_its_page() {
    let item = ItemId::new(7);
    for &code in Code::ALL {
        for lang in Lang::ALL {
            let html = refusal(&code.problem(), item, lang);
            assert_eq!(html.status, code.status());
            text(html.body);
        }
    }
    let order = OrderId::from_u64(7 << 32 | 3).expect("an order");
    let page = text(refusal(&Problem::cap_reached(order), item, Lang::English).body);
    assert!(page.contains("href=\"/sale/7/order/30064771075\""));
    assert_eq!(refusal(&Problem::rate_limited(2_500), item, Lang::English).retry_after_ms, Some(2_500));
}

/// A drawing is shown as an image, in which no script runs.
#[test]
fn a_drawing_is_an_image() {
    use base64::Engine as _;
    let item = ItemId::new(7).expect("an item");
    let challenge = ChallengeView { challenge: "c", svg: "<svg onload='x'/>" };
    let page = text(confirm(item, "k", Ask::Solve(challenge, true), Lang::English));
    let drawing = base64::prelude::BASE64_STANDARD.encode(challenge.svg);
    assert!(page.contains(&format!("<img id=\"drawing\" src=\"data:image/svg+xml;base64,{drawing}\"")));
    assert!(!page.contains("onload"));
}

/// Every value that a template prints is escaped, which is enough in text and between quotes.
#[test]
fn no_template_lets_markup_through() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
    let files = std::fs::read_dir(dir).expect("the templates").map(|file| file.expect("a file").path());
    let mut seen = 0;
    for file in files.filter(|path| path.is_file()) {
        // The ending decides how askama escapes.
        assert_eq!(file.extension().and_then(|ending| ending.to_str()), Some("html"), "{file:?}");
        let template = std::fs::read_to_string(&file).expect("a template");
        assert!(!template.contains("{% filter"), "{file:?}");
        for (at, _) in template.match_indices("{{") {
            let (before, value) = template.split_at(at);
            let value = value.split("}}").next().expect("a value");
            assert!(!value.contains('|'), "{file:?}: a filter may switch the escaping off: {value}");
            let tag = before.rfind(['<', '>']).map_or("", |at| &before[at..]);
            let quoted = tag.matches('"').count() % 2 == 1;
            assert!(!tag.starts_with('<') || quoted, "{file:?}: not in quotes: {value}");
            seen += 1;
        }
    }
    assert!(seen > 50, "the search has gone blind");
}

/// The promise of the page: what a visitor loads, all of it, compressed.
const WIRE_BYTES_MAX: usize = 15_000;

#[test]
fn the_page_is_light() {
    for lang in Lang::ALL {
        let page = Html::shared(None, view("upcoming", lang).page());
        let crate::site::html::Keep::Shared { gzip, .. } = page.keep else { panic!("it is for everybody") };
        let sum = gzip.len() + STYLE.gzip().len() + SCRIPT.gzip().len();
        // Each answer has a head besides.
        let sum = sum + 3 * 700;
        assert!(sum < WIRE_BYTES_MAX, "{lang:?}: {sum} bytes");
    }
}

//! Responses, byte for byte.

use stampede_core::command;
use stampede_core::draw::{DrawSeed, DrawView, Drawn, HeldView};
use stampede_core::item::{ItemSpec, OrderState, Payment, TicketRule};
use stampede_core::money::Price;
use stampede_core::sample;
use stampede_core::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};
use stampede_net::http::answer::{
    self, Date, KeepAlive, Media, OrderHeaders, OrderView, ResponseMode, Status, VisibleState, date_line,
};
use stampede_net::http::draw::DrawFace;
use stampede_net::http::field::Field;
use stampede_net::http::page::{ItemView, Page, Version, fill_admin};
use stampede_net::http::problem::{Code, Problem};

fn date() -> Date {
    date_line(784_111_777)
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    // The previous contents of the buffer must not matter.
    let mut out = b"before".to_vec();
    write(&mut out);
    String::from_utf8(out.split_off(6)).expect("answers are UTF-8").replace("\r\n", "¶")
}

/// Splits a response and checks its length against its head.
fn parts(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("¶¶").expect("a head");
    let length = head.split('¶').find_map(|line| line.strip_prefix("Content-Length: "));
    if let Some(length) = length {
        assert_eq!(length.parse(), Ok(body.len()), "{answer}");
    }
    (head, body)
}

fn refusal(problem: &Problem, manner: ResponseMode) -> String {
    text(|out| answer::problem(out, problem, manner, &date()))
}

const KEEP_SAID: ResponseMode = ResponseMode { keep_alive: KeepAlive::KeepSaid, ..ResponseMode::KEEP };
const BODILESS: ResponseMode = ResponseMode { bodiless: true, ..ResponseMode::KEEP };

#[test]
fn dates() {
    let said = |date: Date, manner: ResponseMode| {
        let shown = text(|out| answer::problem(out, &Code::SoldOut.problem(), manner, &date));
        shown.split('¶').skip(1).take(2).collect::<Vec<_>>().join("¶")
    };
    let closing = |unix_s| said(date_line(unix_s), ResponseMode::CLOSE);
    assert_eq!(closing(784_111_777), "Date: Sun, 06 Nov 1994 08:49:37 GMT¶Connection: close");
    assert_eq!(closing(0), "Date: Thu, 01 Jan 1970 00:00:00 GMT¶Connection: close");
    assert_eq!(closing(u64::MAX), "Date: Fri, 31 Dec 9999 23:59:59 GMT¶Connection: close");
    let kept = said(date_line(0), ResponseMode::KEEP);
    assert_eq!(kept, "Date: Thu, 01 Jan 1970 00:00:00 GMT¶Keep-Alive: timeout=75");
    for idle_s in [1, 99, 3_600, u32::MAX] {
        let kept = said(Date::new(0, idle_s), KEEP_SAID);
        assert_eq!(kept, format!("Date: Thu, 01 Jan 1970 00:00:00 GMT¶Keep-Alive: timeout={idle_s}"));
    }
}

#[test]
fn a_refusal_byte_for_byte() {
    let problem = Code::BadQuantity.problem();
    assert_eq!(
        refusal(&problem, ResponseMode::CLOSE),
        "HTTP/1.1 400 Bad Request¶Date: Sun, 06 Nov 1994 08:49:37 GMT¶Connection: close¶\
         Cache-Control: no-store¶Content-Type: application/problem+json¶Content-Length: 104¶¶\
         {\"status\":400,\"code\":\"bad_quantity\",\"title\":\"The quantity must be an integer from 1 to 1000000.\"}"
            .replace("104", &"{\"status\":400,\"code\":\"bad_quantity\",\"title\":\"The quantity must be an integer from 1 to 1000000.\"}".len().to_string())
    );
    let manner = |manner| refusal(&problem, manner);
    assert!(manner(KEEP_SAID).contains("¶Connection: keep-alive¶"));
    assert!(!manner(ResponseMode::KEEP).contains("¶Connection"));
    assert!(manner(BODILESS).ends_with("¶¶"));
    assert!(manner(BODILESS.closing()).contains("¶Connection: close¶"));
}

#[test]
fn refusals_say_what_helps() {
    let check = |problem: Problem, head_has: &[&str], body: &str| {
        let shown = refusal(&problem, ResponseMode::KEEP);
        let (head, shown_body) = parts(&shown);
        for line in head_has {
            assert!(head.split('¶').any(|shown| shown.trim_end() == *line), "{line} in {head}");
        }
        assert_eq!(
            shown_body.split_once("\",\"title\"").map(|(begin, _)| begin),
            body.split_once('|').map(|(begin, _)| begin)
        );
        let rest = shown_body.split_once(".\"").map(|(_, rest)| rest);
        assert_eq!(
            rest.map(|rest| rest.replace(' ', "")),
            body.split_once('|').map(|(_, rest)| rest.to_owned())
        );
    };
    let order =
        OrderId::from_u64(u64::from(u32::MAX >> 1) << 32 | 0xFFFF_FFFF).expect("the largest order id");
    check(
        Code::Unauthenticated.problem(),
        &["HTTP/1.1 401 Unauthorized", "WWW-Authenticate: Bearer"],
        "{\"status\":401,\"code\":\"unauthenticated|}",
    );
    check(
        Problem { allow: Some("GET, HEAD"), ..Code::MethodNotAllowed.problem() },
        &["Allow: GET, HEAD"],
        "{\"status\":405,\"code\":\"method_not_allowed|}",
    );
    check(
        Problem::not_open(0),
        &["HTTP/1.1 403 Forbidden"],
        "{\"status\":403,\"code\":\"not_open|,\"opens_in_ms\":0}",
    );
    check(Problem::not_open(12_345), &[], "{\"status\":403,\"code\":\"not_open|,\"opens_in_ms\":12345}");
    check(
        Problem::not_open(u64::MAX),
        &[],
        "{\"status\":403,\"code\":\"not_open|,\"opens_in_ms\":18446744073709551615}",
    );
    check(
        Problem::cap_reached(order),
        &["HTTP/1.1 409 Conflict"],
        "{\"status\":409,\"code\":\"cap_reached|,\"order_id\":\"9223372036854775807\"}",
    );
    check(
        Problem::rate_limited(1),
        &["Retry-After: 1"],
        "{\"status\":429,\"code\":\"rate_limited|,\"retry_after_ms\":1}",
    );
    check(
        Problem::rate_limited(1_001),
        &["Retry-After: 2"],
        "{\"status\":429,\"code\":\"rate_limited|,\"retry_after_ms\":1001}",
    );
    check(
        Code::RateLimited.problem(),
        &["Retry-After: 1"],
        "{\"status\":429,\"code\":\"rate_limited|,\"retry_after_ms\":1000}",
    );
    check(
        Code::LogFull.problem(),
        &["HTTP/1.1 503 Service Unavailable", "Retry-After: 1"],
        "{\"status\":503,\"code\":\"log_full|,\"retry_after_ms\":1000}",
    );
    check(
        Code::UnknownField.problem().field("qty"),
        &[],
        "{\"status\":400,\"code\":\"unknown_field|,\"field\":\"qty\"}",
    );
    check(
        Code::UnknownField.problem().field("a\"b\r\nX: y"),
        &[],
        "{\"status\":400,\"code\":\"unknown_field|}",
    );
    check(
        Problem::invalid_field("cap", "reason"),
        &["HTTP/1.1 422 Unprocessable Content"],
        "{\"status\":422,\"code\":\"invalid_field|,\"detail\":\"reason\",\"field\":\"cap\"}",
    );
}

#[test]
fn hot_refusals_equal_the_slow_ones_except_for_spaces() {
    let order = OrderId::from_u64(1 << 32 | 7).expect("an order id");
    let waits = [0, 1, 999, 1_000, 1_001, 65_432, 999_999_999, 1_000_000_000, u64::MAX];
    for (code, wait_ms) in Code::ALL.iter().flat_map(|code| waits.map(|wait_ms| (code, wait_ms))) {
        for manner in [ResponseMode::KEEP, ResponseMode::CLOSE, KEEP_SAID, BODILESS, BODILESS.closing()] {
            let problem = match code {
                Code::NotOpen => Problem::not_open(987),
                Code::CapReached => Problem::cap_reached(order),
                Code::RateLimited => Problem::rate_limited(wait_ms),
                _ => code.problem(),
            };
            // A detail takes the slow path.
            let slow = refusal(&problem.detail("d"), manner);
            let fast = refusal(&problem, manner);
            let (fast_head, fast_body) = parts_if_any(&fast, manner);
            let (slow_head, slow_body) = parts_if_any(&slow, manner);
            let squeezed =
                |body: &str| body.replace(",\"detail\":\"d\"", "").replace("  ", "").replace(" }", "}");
            assert_eq!(squeezed(fast_body), squeezed(slow_body), "{code:?}");
            let without_length = |head: &str| {
                head.split('¶')
                    .filter(|line| !line.starts_with("Content-Length"))
                    .map(str::trim_end)
                    .collect::<Vec<_>>()
                    .join("¶")
            };
            assert_eq!(without_length(fast_head), without_length(slow_head), "{code:?}");
        }
    }
}

fn parts_if_any(answer: &str, manner: ResponseMode) -> (&str, &str) {
    if manner.bodiless { answer.split_once("¶¶").expect("a head") } else { parts(answer) }
}

#[test]
fn a_bodiless_answer_states_the_length_of_the_omitted_body() {
    let whole = refusal(&Code::SoldOut.problem(), ResponseMode::KEEP);
    let head = refusal(&Code::SoldOut.problem(), BODILESS);
    assert_eq!(whole.split_once("¶¶").map(|(head, _)| format!("{head}¶¶")), Some(head));
}

fn view(state: VisibleState, pay_by_ms: u64) -> OrderView {
    OrderView {
        order: OrderId::new(ItemId::new(1).expect("an item id"), 2),
        quantity: Quantity::ONE,
        state,
        created_at_ms: UnixMillis(1_700_000_000_123),
        pay_by_ms: UnixMillis(pay_by_ms),
        price: Price { minor: 1_999, currency: *b"EUR" },
        refunded: 0,
        lsn: Lsn(42),
    }
}

#[test]
fn orders() {
    let headers = OrderHeaders::default();
    let confirmed = view(VisibleState::Durable(OrderState::Confirmed), 0);
    let body = "{\"order_id\":\"4294967298\",\"item_id\":1,\"quantity\":1,\"state\":\"confirmed\",\
                \"created_at_ms\":1700000000123,\"pay_by_ms\":null,\"price_minor\":1999,\"currency\":\"EUR\",\"lsn\":42}";
    let shown =
        text(|out| answer::order(out, Status::Created, &confirmed, headers, ResponseMode::KEEP, &date()));
    assert_eq!(
        shown,
        format!(
            "HTTP/1.1 201 Created¶Date: Sun, 06 Nov 1994 08:49:37 GMT¶Keep-Alive: timeout=75¶\
             Cache-Control: no-store¶Content-Type: application/json¶\
             Content-Length: {}¶¶{body}",
            body.len()
        )
    );
    let replay = OrderHeaders { replay: true, ..headers };
    let replayed =
        text(|out| answer::order(out, Status::Created, &confirmed, replay, ResponseMode::KEEP, &date()));
    assert_eq!(replayed.replace("Idempotent-Replay: true¶", ""), shown, "the same status and body");
    assert_ne!(replayed, shown);

    let accepted = view(VisibleState::Accepted, 5);
    let located = OrderHeaders { location: true, ..headers };
    let shown =
        text(|out| answer::order(out, Status::Accepted, &accepted, located, ResponseMode::CLOSE, &date()));
    let (head, body) = parts(&shown);
    assert!(head.contains("HTTP/1.1 202 Accepted¶"));
    assert!(head.contains("¶Location: /v1/orders/4294967298¶"));
    assert!(head.contains("¶Connection: close¶"));
    assert!(body.contains("\"state\":\"accepted\"") && body.contains("\"pay_by_ms\":5,"));
}

#[test]
fn lists() {
    let order = view(VisibleState::Durable(OrderState::Held), 9);
    let empty = text(|out| answer::order_list(out, [], (false, None), ResponseMode::KEEP, &date()));
    assert_eq!(parts(&empty).1, "{\"orders\":[],\"has_more\":false}");
    let two = text(|out| answer::order_list(out, [order, order], (true, None), ResponseMode::KEEP, &date()));
    let body = parts(&two).1;
    assert!(
        body.starts_with("{\"orders\":[{\"order_id\":\"4294967298\"")
            && body.ends_with("}],\"has_more\":true}")
    );
    assert_eq!(body.matches("},{").count(), 1);
    let time = text(|out| answer::time(out, UnixMillis(5), ResponseMode::KEEP, &date()));
    assert_eq!(parts(&time).1, "{\"now_ms\":5}");
    let plain =
        text(|out| answer::bytes(out, Status::Ok, Media::Plain, b"ok\n", ResponseMode::KEEP, &date()));
    assert_eq!(parts(&plain).1, "ok\n");
}

fn spec() -> ItemSpec<'static> {
    ItemSpec {
        price_minor: 199_900,
        closes_at_ms: UnixMillis(2),
        payment: Payment::Hold,
        hold_ms: 900_000,
        ticket: TicketRule::Required,
        ..sample::spec("Phone \"X\"")
    }
}

fn item_view(spec: &ItemSpec<'static>, state: &'static str, version: u64) -> ItemView<'static> {
    // The view borrows the settings; a test may leak them.
    let spec = Box::leak(Box::new(*spec));
    let item = ItemId::new(7).expect("an item id");
    let version = Some(Version { log: 0xA, lsn: Lsn(version) });
    ItemView { item, spec, state, stock_band: "plenty", draw: None, refresh_ms: 1_000, version }
}

fn page(page: &Page, held: Field<'_>, now_ms: u64) -> String {
    text(|out| page.answer(out, held, UnixMillis(now_ms), ResponseMode::KEEP, &date()))
}

#[test]
fn pages() {
    let item = Page::item(&item_view(&spec(), "open", 3));
    let shown = page(&item, Field::Absent, 1_700_000_000_123);
    let (head, body) = parts(&shown);
    assert!(
        head.contains("¶Cache-Control: max-age=1¶Vary: Origin¶ETag: W/\"0000000a-7-3-open-plenty-1000\"¶"),
        "{head}"
    );
    assert_eq!(
        body,
        "{\"id\":7,\"name\":\"Phone \\\"X\\\"\",\"price_minor\":199900,\"currency\":\"CNY\",\"state\":\"open\",\
         \"opens_at_ms\":1,\"closes_at_ms\":2,\"stock_band\":\"plenty\",\"cap\":1,\"payment\":\"hold\",\
         \"ticket_required\":true,\"challenge\":\"never\",\"refresh_ms\":1000,\"now_ms\":1700000000123}"
    );
    for now_ms in [0, 1, 999_999_999_999, u64::MAX] {
        assert!(!parts(&page(&item, Field::Absent, now_ms)).1.is_empty());
    }
    let listed = |versions: [u64; 2]| {
        Page::list(
            [item_view(&spec(), "open", versions[0]), item_view(&spec(), "ended", versions[1])],
            None,
            0xA,
        )
    };
    let list = listed([3, 4]);
    let shown = page(&list, Field::Absent, 1_700_000_000_123);
    let (head, body) = parts(&shown);
    assert!(head.contains("¶ETag: W/\"all-0000000a-4-"), "{head}");
    let tag = |page: &Page| {
        let shown = crate::http_answer::page(page, Field::Absent, 5);
        shown.split('¶').find_map(|line| line.strip_prefix("ETag: ")).map(str::to_owned)
    };
    assert_eq!(tag(&list), tag(&listed([3, 4])));
    assert_ne!(tag(&list), tag(&listed([2, 4])), "not that of the last one alone");
    // A page that is not durable has no tag, and neither has a list with it.
    let unsettled = ItemView { version: None, ..item_view(&spec(), "open", 3) };
    assert_eq!(tag(&Page::item(&unsettled)), None);
    assert_eq!(tag(&Page::list([item_view(&spec(), "open", 3), unsettled], None, 0xA)), None);
    assert!(
        body.starts_with("{\"items\":[{\"id\":7,")
            && body.ends_with("}],\"has_more\":false,\"now_ms\":1700000000123}")
    );
    assert_eq!(body.matches("now_ms").count(), 1);
}

#[test]
fn a_client_that_has_the_page_gets_304() {
    let item = Page::item(&item_view(&spec(), "open", 3));
    let fresh: &[&[u8]] = &[
        b"W/\"0000000a-7-3-open-plenty-1000\"",
        b"\"0000000a-7-3-open-plenty-1000\"",
        b"*",
        b"\"x\", W/\"0000000a-7-3-open-plenty-1000\"",
        b"\"0000000a-7-3-open-plenty-1000\",\"y\"",
    ];
    for held in fresh {
        let shown = page(&item, Field::Once(held), 5);
        assert_eq!(
            shown,
            "HTTP/1.1 304 Not Modified¶Date: Sun, 06 Nov 1994 08:49:37 GMT¶\
             Keep-Alive: timeout=75¶Cache-Control: max-age=1¶Vary: Origin¶\
             ETag: W/\"0000000a-7-3-open-plenty-1000\"¶¶"
        );
    }
    let stale: &[&[u8]] = &[
        b"",
        b"W/\"0000000a-7-2-open-plenty-1000\"",
        b"0000000a-7-3-open-plenty-1000",
        b"\"0000000a-7-3-open-plenty-1000",
        b"w/\"0000000a-7-3-open-plenty-1000\"",
    ];
    for held in stale {
        assert!(page(&item, Field::Once(held), 5).starts_with("HTTP/1.1 200 OK¶"), "{}", held.escape_ascii());
    }
    for other in [item_view(&spec(), "paused", 3), item_view(&spec(), "open", 4)] {
        let shown = page(&Page::item(&other), Field::Once(b"W/\"0000000a-7-3-open-plenty-1000\""), 5);
        assert!(shown.starts_with("HTTP/1.1 200 OK¶"), "another page");
    }
}

#[test]
fn the_merchants_item() {
    let item = ItemId::new(7).expect("an item id");
    let (granted, available, held, sold, accepted, version) = (10, 5, 3, 2, 6, 3);
    let (shown_lsn, lsn, shown_version, epoch, flags) = (Lsn(4), Lsn(5), 0, 0, 0);
    let (spec, draw) = (spec(), None);
    let view = command::ItemView {
        item,
        spec,
        granted,
        available,
        held,
        sold,
        accepted,
        draw,
        flags,
        epoch,
        version,
        shown_version,
        shown_lsn,
        lsn,
    };
    let shown = text(|out| {
        answer::json(out, Status::Ok, ResponseMode::KEEP, &date(), |object| {
            fill_admin(object, &view, "open", (Lsn(99), None));
        });
    });
    let expected = "\"granted\":10,\"available\":5,\"held\":3,\"sold\":2,\"accepted\":6,\"durable_lsn\":99,\
                    \"exported_lsn\":null,\"version\":3,\"settings_lsn\":4}";
    assert!(parts(&shown).1.ends_with(expected), "{shown}");
}

#[test]
fn a_draw_shows_its_seed_when_it_is_over() {
    let seed = DrawSeed([0xAB; 32]);
    let drawn = Drawn { at_ms: UnixMillis(9), units: 3, entries: 2, last_seq: 5 };
    let held = HeldView { drawn, seed, winners: 1, lsn: Lsn(7) };
    let view = |entered, held| DrawView { draws_at_ms: UnixMillis(6), commitment: [0xCD; 32], entered, held };
    let face = |view: DrawView| {
        let spec = spec();
        let draw = Some(DrawFace { draw_ms: 5, view: &view });
        let shown = text(|out| {
            let page = Page::item(&ItemView { draw, ..item_view(&spec, "open", 3) });
            page.answer(out, Field::Absent, UnixMillis(5), ResponseMode::KEEP, &date());
        });
        let from = shown.find("\"draw\":").expect("a draw");
        let to = shown.find(",\"refresh_ms\"").expect("after it");
        shown[from..to].to_owned()
    };
    let (cd, ab) = ("cd".repeat(32), "ab".repeat(32));
    let announced = format!("\"draw\":{{\"draw_ms\":5,\"draws_at_ms\":6,\"commitment\":\"{cd}\"");
    assert_eq!(face(view(9, None)), format!("{announced}}}"));
    assert_eq!(face(view(1, Some(held))), format!("{announced}}}"), "not as long as it goes on");
    let result = format!(",\"drawn_at_ms\":9,\"seed\":\"{ab}\",\"units\":3,\"entries\":2,\"winners\":1}}");
    assert_eq!(face(view(0, Some(held))), format!("{announced}{result}"));
}

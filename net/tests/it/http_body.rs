//! The table of JSON bodies.

use stampede_net::http::body;
use stampede_net::http::problem::Problem;

fn show<T: std::fmt::Debug>(outcome: Result<T, Problem>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(problem) => {
            let field = problem.field.map(|field| format!(" {}", field.as_str())).unwrap_or_default();
            format!("{}{field}", problem.code.name())
        }
    }
}

fn purchase(body: &[u8]) -> String {
    match body::purchase(body) {
        Ok(purchase) => match purchase.ticket {
            Some(ticket) => format!("{} {ticket}", purchase.quantity.get()),
            None => purchase.quantity.get().to_string(),
        },
        Err(problem) => show::<()>(Err(problem)),
    }
}

#[test]
fn solved_challenges() {
    let ticket = |body: &[u8]| match body::ticket(body) {
        Ok(None) => "none".to_owned(),
        Ok(Some(solved)) => format!("{}={}", solved.challenge, solved.answer),
        Err(problem) => show::<()>(Err(problem)),
    };
    let table = [
        ("{}", "none"),
        (r#"{"challenge":"c","answer":"7"}"#, "c=7"),
        (r#"{"answer":7,"challenge":"c"}"#, "c=7"),
        (r#"{"challenge":"c","answer":-7}"#, "bad_request answer"),
        (r#"{"challenge":"c","answer":7.0}"#, "bad_request answer"),
        (r#"{"challenge":"c","answer":7e0}"#, "bad_request answer"),
        (r#"{"challenge":"c","answer":1e999}"#, "bad_request answer"),
        (r#"{"challenge":"","answer":""}"#, "="),
        (r#"{"challenge":"c"}"#, "bad_request answer"),
        (r#"{"answer":"7"}"#, "bad_request challenge"),
        (r#"{"challenge":"c","answer":null}"#, "bad_request answer"),
        (r#"{"challenge":"c","answer":true}"#, "bad_request answer"),
        (r#"{"challenge":"c","answer":[7]}"#, "bad_request answer"),
        (r#"{"challenge":7,"answer":7}"#, "bad_request challenge"),
        (r#"{"challenge":"c","challenge":"d","answer":7}"#, "bad_json"),
        (r#"{"challenge":"c","answer":7,"answer":8}"#, "bad_json"),
        (r#"{"challenge":"c","answer":07}"#, "bad_json"),
        (r#"{"challenge":"c","answer":"7","quantity":1}"#, "unknown_field quantity"),
        ("", "none"),
        ("null", "bad_json"),
    ];
    for (body, expected) in table {
        assert_eq!(ticket(body.as_bytes()), expected, "{body}");
    }
    let whole = br#"{"challenge":"c\u0041","answer":12}"#;
    for end in 1..whole.len() {
        assert_eq!(ticket(&whole[..end]), "bad_json", "cut at {end}");
    }
}

#[test]
fn purchases() {
    let table = [
        ("{}", "1"),
        (r#"{"quantity":1}"#, "1"),
        (r#"{"quantity":1000000}"#, "1000000"),
        (" \t\r\n{ \"quantity\" : 2 , \"ticket\" : \"a.b-c_d\" } \n", "2 a.b-c_d"),
        (r#"{"ticket":"t","quantity":3}"#, "3 t"),
        (r#"{"ticket":""}"#, "1 "),
        (r#"{"quantity":0}"#, "bad_quantity"),
        (r#"{"quantity":1000001}"#, "bad_quantity"),
        (r#"{"quantity":4294967297}"#, "bad_quantity"),
        (r#"{"quantity":18446744073709551617}"#, "bad_quantity"),
        (r#"{"quantity":99999999999999999999999999999999}"#, "bad_quantity"),
        (r#"{"quantity":-1}"#, "bad_quantity"),
        (r#"{"quantity":-0}"#, "bad_quantity"),
        (r#"{"quantity":1.0}"#, "bad_quantity"),
        (r#"{"quantity":1e0}"#, "bad_quantity"),
        (r#"{"quantity":1E+2}"#, "bad_quantity"),
        (r#"{"quantity":0.1}"#, "bad_quantity"),
        (r#"{"quantity":"1"}"#, "bad_quantity"),
        (r#"{"quantity":null}"#, "bad_quantity"),
        (r#"{"quantity":true}"#, "bad_quantity"),
        (r#"{"quantity":[1]}"#, "bad_quantity"),
        (r#"{"quantity":{"n":1}}"#, "bad_quantity"),
        (r#"{"quantity":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}"#, "bad_quantity"),
        (r#"{"quantity":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}"#, "bad_json"),
        (r#"{"ticket":1}"#, "bad_request ticket"),
        (r#"{"ticket":null}"#, "bad_request ticket"),
        (r#"{"quantity":1,"quantity":1}"#, "bad_json"),
        (r#"{"quantity":1,"quantity":2}"#, "bad_json"),
        (r#"{"ticket":"a","ticket":"a"}"#, "bad_json"),
        (r#"{"quantity":1,"qty":1}"#, "unknown_field qty"),
        (r#"{"Quantity":1}"#, "unknown_field Quantity"),
        (r#"{"quantity ":1}"#, "unknown_field"),
        (r#"{"":1}"#, "unknown_field"),
        (r#"{"quant\u0069ty":1}"#, "unknown_field"),
        (r#"{"quantity":1,"quant\u0069ty":1}"#, "unknown_field"),
        (r#"{"x":1,"y":2}"#, "unknown_field x"),
        (r#"{"x":1,"quantity":0}"#, "unknown_field x"),
        (r#"{"quantity":0,"x":1}"#, "bad_quantity"),
        (r#"{"x":{"quantity":{}},"quantity":1}"#, "unknown_field x"),
        (r#"{"a_name_that_is_longer_than_any_that_we_have":1}"#, "unknown_field"),
        (r#"{"<script>":1}"#, "unknown_field"),
        ("", "1"),
        (" ", "bad_json"),
        ("{", "bad_json"),
        ("}", "bad_json"),
        ("[]", "bad_json"),
        ("null", "bad_json"),
        ("1", "bad_json"),
        ("\"quantity\"", "bad_json"),
        ("{}{}", "bad_json"),
        ("{} x", "bad_json"),
        ("{}\0", "bad_json"),
        ("\u{feff}{}", "bad_json"),
        ("{}\u{feff}", "bad_json"),
        ("\u{a0}{}", "bad_json"),
        ("\u{b}{}", "bad_json"),
        (r#"{"quantity":1"#, "bad_json"),
        (r#"{"quantity":1,}"#, "bad_json"),
        (r#"{,"quantity":1}"#, "bad_json"),
        (r#"{"quantity":1 "ticket":"a"}"#, "bad_json"),
        (r#"{"quantity":1,,"ticket":"a"}"#, "bad_json"),
        (r#"{"quantity"}"#, "bad_json"),
        (r#"{"quantity":}"#, "bad_json"),
        (r#"{"quantity"=1}"#, "bad_json"),
        (r"{quantity:1}", "bad_json"),
        (r"{'quantity':1}", "bad_json"),
        (r#"{"quantity":01}"#, "bad_json"),
        (r#"{"quantity":+1}"#, "bad_json"),
        (r#"{"quantity":.5}"#, "bad_json"),
        (r#"{"quantity":1.}"#, "bad_json"),
        (r#"{"quantity":1e}"#, "bad_json"),
        (r#"{"quantity":-}"#, "bad_json"),
        (r#"{"quantity":0x1}"#, "bad_json"),
        (r#"{"quantity":1_000}"#, "bad_json"),
        (r#"{"quantity":NaN}"#, "bad_json"),
        (r#"{"quantity":Infinity}"#, "bad_json"),
        (r#"{"quantity":tru}"#, "bad_json"),
        (r#"{"quantity":truex}"#, "bad_json"),
        (r#"{"quantity":True}"#, "bad_json"),
        (r#"{"quantity":1}/*x*/"#, "bad_json"),
        (r#"{"quantity":1 //x"#, "bad_json"),
        (r#"{"ticket":"a}"#, "bad_json"),
        (r#"{"ticket":"\x"}"#, "bad_json"),
        (r#"{"ticket":"\u12"}"#, "bad_json"),
        (r#"{"ticket":"\u12g4"}"#, "bad_json"),
        (r#"{"ticket":"\ud800"}"#, "bad_json"),
        (r#"{"ticket":"\udc00"}"#, "bad_json"),
        (r#"{"ticket":"\ud800\ud800"}"#, "bad_json"),
        (r#"{"ticket":"\ud83d\ude00"}"#, r"1 \ud83d\ude00"),
        (r#"{"ticket":"\"}"#, "bad_json"),
        ("{\"ticket\":\"a\nb\"}", "bad_json"),
        ("{\"ticket\":\"a\0b\"}", "bad_json"),
        (r#"{"quantity":[1,]}"#, "bad_json"),
        (r#"{"quantity":[,1]}"#, "bad_json"),
        (r#"{"quantity":{"a"}}"#, "bad_json"),
        (r#"{"quantity":[1}}"#, "bad_json"),
        (r#"{"quantity":"1","#, "bad_json"),
        (r#"{"x":1"#, "bad_json"),
    ];
    for (body, expected) in table {
        assert_eq!(purchase(body.as_bytes()), expected, "{body}");
    }
    for bytes in [
        &b"{\"ticket\":\"\xff\"}"[..],
        b"{\"ticket\":\"\xc0\xaf\"}",
        b"\xff\xfe{\0}\0",
        b"{\"ticket\":\"\xed\xa0\x80\"}",
    ] {
        assert_eq!(purchase(bytes), "bad_json", "{}", bytes.escape_ascii());
    }
    let deep = format!("{{\"quantity\":{}", "[".repeat(4_000));
    assert_eq!(purchase(deep.as_bytes()), "bad_json");
}

#[test]
fn every_prefix_of_a_purchase_is_bad_json() {
    let whole = br#"{"quantity":12,"ticket":"a\u00e4\n"}"#;
    for len in 1..whole.len() {
        assert_eq!(purchase(&whole[..len]), "bad_json", "{len}");
    }
}

fn item(body: &str) -> String {
    let mut name = String::new();
    match body::item_patch(body.as_bytes(), &mut name) {
        Ok(patch) => {
            // Only the given fields, so that the table stays readable.
            let all = format!("{patch:?}");
            let inner = all.trim_start_matches("ItemPatch { ").trim_end_matches(" }");
            let given: Vec<&str> = inner.split(", ").filter(|field| !field.ends_with(": None")).collect();
            given.join(", ")
        }
        Err(problem) => show::<()>(Err(problem)),
    }
}

#[test]
fn items() {
    let full = r#"{"name":"Phone","price_minor":199900,"currency":"CNY","stock":100,"opens_at_ms":1,
        "closes_at_ms":2,"cap":1,"payment":"hold","hold_ms":900000,"ticket":"required","challenge":"always",
        "min_level":255,"min_account_age_s":86400,"admit_per_s":1000,"draw_ms":5000}"#;
    assert_eq!(
        item(full),
        "name: Some(\"Phone\"), price_minor: Some(199900), currency: Some([67, 78, 89]), stock: Some(100), \
         opens_at_ms: Some(UnixMillis(1)), closes_at_ms: Some(UnixMillis(2)), cap: Some(1), payment: Some(Hold), \
         hold_ms: Some(900000), ticket: Some(Required), challenge: Some(Always), min_level: Some(255), \
         min_account_age_s: Some(86400), admit_per_s: Some(1000), draw_ms: Some(5000)"
    );
    let table = [
        ("{}", ""),
        (r#"{"name":"\u624b\u673a \"X\" \ud83d\ude00\/"}"#, "name: Some(\"手机 \\\"X\\\" 😀/\")"),
        (r#"{"name":"手机"}"#, "name: Some(\"手机\")"),
        (r#"{"name":1}"#, "invalid_field name"),
        (r#"{"name":null}"#, "invalid_field name"),
        (r#"{"price_minor":"1"}"#, "invalid_field price_minor"),
        (r#"{"price_minor":1.5}"#, "invalid_field price_minor"),
        (r#"{"price_minor":-1}"#, "invalid_field price_minor"),
        (r#"{"currency":"EURO"}"#, "invalid_field currency"),
        (r#"{"currency":"\u0043NY"}"#, "invalid_field currency"),
        (r#"{"stock":1099511627777}"#, "invalid_field stock"),
        (r#"{"stock":1099511627776}"#, "stock: Some(1099511627776)"),
        (r#"{"stock":-1}"#, "invalid_field stock"),
        (r#"{"opens_at_ms":253402300800000}"#, "invalid_field opens_at_ms"),
        (r#"{"closes_at_ms":"2026-11-22"}"#, "invalid_field closes_at_ms"),
        (r#"{"cap":4294967296}"#, "invalid_field cap"),
        (r#"{"payment":"later"}"#, "invalid_field payment"),
        (r#"{"payment":true}"#, "invalid_field payment"),
        (r#"{"hold_ms":{}}"#, "invalid_field hold_ms"),
        (r#"{"ticket":"always"}"#, "invalid_field ticket"),
        (r#"{"challenge":"required"}"#, "invalid_field challenge"),
        (r#"{"min_level":256}"#, "invalid_field min_level"),
        (r#"{"min_account_age_s":-5}"#, "invalid_field min_account_age_s"),
        (r#"{"admit_per_s":1e3}"#, "invalid_field admit_per_s"),
        (r#"{"draw_ms":4294967296}"#, "invalid_field draw_ms"),
        (r#"{"id":1}"#, "unknown_field id"),
        (r#"{"name":"a","name":"b"}"#, "bad_json"),
        ("", "bad_json"),
    ];
    for (body, expected) in table {
        assert_eq!(item(body), expected, "{body}");
    }
}

#[test]
fn restocks() {
    let table = [
        (r#"{"add":5}"#, "5"),
        (r#"{"add":-5}"#, "-5"),
        (r#"{"add":1099511627776}"#, "1099511627776"),
        (r#"{"add":0}"#, "invalid_field add"),
        (r#"{"add":-0}"#, "invalid_field add"),
        (r#"{"add":1.5}"#, "invalid_field add"),
        (r#"{"add":"5"}"#, "invalid_field add"),
        (r#"{"add":1099511627777}"#, "invalid_field add"),
        (r#"{"add":-1099511627777}"#, "invalid_field add"),
        (r#"{"add":-9223372036854775808}"#, "invalid_field add"),
        (r#"{"add":9223372036854775808}"#, "invalid_field add"),
        ("{}", "invalid_field add"),
        ("", "bad_json"),
        (r#"{"add":1,"why":"x"}"#, "unknown_field why"),
    ];
    for (body, expected) in table {
        assert_eq!(show(body::restock(body.as_bytes())), expected, "{body}");
    }
}

#[test]
fn reasons_of_a_mismatch() {
    let long = format!(r#"{{"reason":"{}"}}"#, "r".repeat(1_001));
    let table = [
        (r#"{"reason":"order 5: another buyer"}"#, "\"order 5: another buyer\""),
        (r#"{"reason":"\u00e4"}"#, "\"ä\""),
        (r#"{"reason":""}"#, "invalid_field reason"),
        (r#"{"reason":"a\nb"}"#, "invalid_field reason"),
        (r#"{"reason":5}"#, "invalid_field reason"),
        (&long, "invalid_field reason"),
        ("{}", "invalid_field reason"),
        ("", "bad_json"),
        (r#"{"why":"x"}"#, "unknown_field why"),
    ];
    for (body, expected) in table {
        assert_eq!(show(body::mismatch(body.as_bytes())), expected, "{body}");
    }
}

#[test]
fn payments_and_empty_bodies() {
    let long = format!(r#"{{"payment_ref":"{}"}}"#, "p".repeat(256));
    let longest = long.replacen("pp", "p", 1);
    let most = "p".repeat(255);
    let wrong = "invalid_field payment_ref";
    let table = [
        (r#"{"payment_ref":"pi_1"}"#, "pi_1 false", "pi_1  None"),
        (r#"{"payment_ref":"a\/b\u00e4"}"#, "a/bä false", "a/bä  None"),
        (r#"{"payment_ref":"p","take_again":true}"#, "p true", "unknown_field take_again"),
        (r#"{"payment_ref":"p","take_again":1}"#, "invalid_field take_again", "unknown_field take_again"),
        (r#"{"payment_ref":"p","refund_ref":"r","quantity":2}"#, "unknown_field refund_ref", "p r Some(2)"),
        (r#"{"refund_ref":""}"#, "unknown_field refund_ref", "invalid_field refund_ref"),
        (r#"{"quantity":0}"#, "unknown_field quantity", "bad_quantity"),
        (r#"{"payment_ref":""}"#, wrong, wrong),
        (r#"{"payment_ref":"a\nb"}"#, wrong, wrong),
        (r#"{"payment_ref":5}"#, wrong, wrong),
        (&long, wrong, wrong),
        (&longest, &format!("{most} false"), &format!("{most}  None")),
        ("{}", wrong, "  None"),
        ("", "bad_json", "  None"),
        (r#"{"ref":"a"}"#, "unknown_field ref", "unknown_field ref"),
    ];
    let told = |problem: Problem| show::<()>(Err(problem));
    for (body, paid, refunded) in table {
        let pay = body::pay(body.as_bytes()).map(|pay| format!("{} {}", pay.payment_ref, pay.take_again));
        assert_eq!(pay.unwrap_or_else(told), paid, "{body}");
        let refund = body::refund(body.as_bytes()).map(|refund| {
            let units = refund.quantity.map(|quantity| quantity.get());
            format!("{} {} {units:?}", refund.payment_ref, refund.refund_ref)
        });
        assert_eq!(refund.unwrap_or_else(told), refunded, "{body}");
    }
    assert_eq!(show(body::cancel(b"")), "\"\"");
    assert_eq!(show(body::cancel(br#"{"payment_ref":"p"}"#)), "\"p\"");
    assert_eq!(show(body::extend(br#"{"pay_by_ms":7}"#)), "UnixMillis(7)");
    for body in
        ["{}", r#"{"pay_by_ms":"7"}"#, r#"{"pay_by_ms":253402300800000}"#, r#"{"pay_by_ms":1764086400}"#]
    {
        assert_eq!(show(body::extend(body.as_bytes())), "invalid_field pay_by_ms", "{body}");
    }
    for (body, expected) in
        [("", "()"), ("{}", "()"), (" {} ", "()"), ("[]", "bad_json"), ("{\"a\":1}", "unknown_field a")]
    {
        assert_eq!(show(body::empty(body.as_bytes())), expected, "{body}");
    }
}

//! The sale page over plain HTTP, as a browser without scripts uses it.

use crate::e2e_talk::{Answer, Http, item, now_ms, sale};
use crate::server::{Bed, Server, wait_for};

/// A browser without scripts: it keeps the cookie and follows redirects.
struct Browser {
    http: Http,
    cookie: Option<String>,
    lang: &'static str,
}

impl Browser {
    fn to(server: &Server) -> Self {
        Self { http: Http::to(server.public), cookie: None, lang: "en" }
    }

    fn headers(&self, own: &[&str]) -> Vec<String> {
        let cookie = self.cookie.iter().map(|cookie| format!("Cookie: a=b; {cookie}"));
        let lang = format!("Accept-Language: {}", self.lang);
        own.iter().map(|header| (*header).to_owned()).chain(cookie).chain([lang]).collect()
    }

    fn call(&mut self, call: &str, own: &[&str], body: &str) -> Answer {
        let headers = self.headers(own);
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let answer = self.http.call(call, &headers, body);
        if let Some(cookie) = answer.header("Set-Cookie") {
            assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        answer
    }

    fn get(&mut self, path: &str) -> Answer {
        self.call(&format!("GET {path}"), &[], "")
    }

    /// Sends a form from a page of the server's own, and repeats it if asked to.
    fn send(&mut self, path: &str, body: &str) -> Answer {
        let own = [FORM, "Sec-Fetch-Site: same-origin"];
        let answer = self.call(&format!("POST {path}"), &own, body);
        match answer.status {
            307 => {
                let place = answer.header("Location").expect("a place").to_owned();
                self.call(&format!("POST {place}"), &own, body)
            }
            _ => answer,
        }
    }

    /// The page after a form was sent.
    fn follow(&mut self, answer: &Answer) -> Answer {
        assert_eq!(answer.status, 303, "{answer:?}");
        let place = answer.header("Location").expect("a place").to_owned();
        self.get(&place)
    }
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

fn put(server: &Server, id: u32, body: &str) {
    let token = format!("Authorization: Bearer {}", crate::server::TOKEN);
    let answer = Http::to(server.admin).call(&format!("PUT /admin/items/{id}"), &[&token], body);
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
}

fn state(page: &Answer) -> &str {
    let at = page.body.find("<main data-state=\"").expect("a page") + 18;
    page.body[at..].split('"').next().unwrap()
}

/// The value of a field of the page's form.
fn field(page: &Answer, name: &str) -> String {
    let mark = format!("name=\"{name}\" value=\"");
    let at = page.body.find(&mark).unwrap_or_else(|| panic!("no {name}: {}", page.body)) + mark.len();
    page.body[at..].split('"').next().unwrap().to_owned()
}

fn is_private(answer: &Answer) {
    assert_eq!(answer.header("Cache-Control"), Some("no-store"), "{answer:?}");
}

#[test]
fn e2e_the_demo_can_be_bought_from_without_script() {
    let mut bed = Bed::demo();
    let server = bed.start();
    let mut browser = Browser::to(&server);
    let list = browser.get("/");
    assert_eq!((list.status, state(&list)), (200, "list"));
    for name in ["Double 11 phone", "Red packet", "Railway ticket, window seat", "Concert ticket by lot"] {
        assert!(list.body.contains(name), "{name}");
    }
    let page = browser.get("/sale/1");
    assert_eq!((page.status, state(&page)), (200, "open"));
    let form = format!("key={}", field(&page, "key"));
    let bought = browser.send("/sale/1", &form);
    is_private(&bought);
    let order = browser.follow(&bought);
    assert_eq!((order.status, state(&order)), (200, "won"), "{order:?}");
    is_private(&order);
    // A reload sends the form again; a second tab sends the same one.
    let again = browser.send("/sale/1", &form);
    assert_eq!(again.header("Location"), bought.header("Location"));
    assert_eq!(state(&browser.follow(&again)), "won");
    // Another key is another purchase, and the cap is used up.
    let other = browser.send("/sale/1", "key=other");
    assert_eq!(other.status, 409);
    let place = bought.header("Location").unwrap().to_owned();
    assert!(other.body.contains(&format!("href=\"{place}\"")), "{}", other.body);
    // Nobody else can see the order.
    let mut stranger = Browser::to(&server);
    let hidden = stranger.get(&place);
    assert_eq!(hidden.status, 401);
    is_private(&hidden);
    stranger.send("/sale/2", "key=k");
    assert_eq!(stranger.get(&place).status, 404);
    // The public page contains nothing of all this.
    let now = browser.get("/sale/1");
    assert_eq!((state(&now), now.body.contains(place.rsplit('/').next().unwrap())), ("open", false));
}

#[test]
fn e2e_a_held_order_is_paid_given_back_or_too_late() {
    let mut bed = Bed::demo();
    let server = bed.start();
    put(&server, 20, &item(2, 1, "hold", 600_000));
    put(&server, 21, &item(1, 1, "hold", 300));
    let mut browser = Browser::to(&server);
    let bought = browser.send("/sale/20", "key=k");
    let place = bought.header("Location").unwrap().to_owned();
    let held = browser.follow(&bought);
    assert_eq!(state(&held), "held");
    assert!(held.body.contains("id=\"pay\"") && held.body.contains("<noscript><meta http-equiv=\"refresh\""));
    let cancelled = browser.send(&format!("{place}/cancel"), "");
    assert_eq!(state(&browser.follow(&cancelled)), "cancelled");
    // Again, with the key that the page of the expired order offers.
    let key = field(&browser.get(&place), "key");
    let bought = browser.send("/sale/20", &format!("key={key}"));
    assert_ne!(bought.header("Location"), Some(place.as_str()));
    let place = bought.header("Location").unwrap().to_owned();
    // Not for another buyer.
    let mut stranger = Browser::to(&server);
    stranger.send("/sale/1", "key=k");
    assert_eq!(stranger.send(&format!("{place}/pay"), "").status, 404);
    let paid = browser.send(&format!("{place}/pay"), "");
    assert_eq!(state(&browser.follow(&paid)), "won");
    // Twice counts once.
    assert_eq!(browser.send(&format!("{place}/pay"), "").status, 303);
    assert_eq!(browser.send(&format!("{place}/cancel"), "").status, 409);
    // And one that nobody pays for.
    let bought = browser.send("/sale/21", "key=k");
    let place = bought.header("Location").unwrap().to_owned();
    wait_for("the hold's end", || (state(&browser.get(&place)) == "expired").then_some(()));
    assert_eq!(browser.send(&format!("{place}/pay"), "").status, 409);
}

#[test]
fn e2e_the_script_pays_its_own_orders_only() {
    let mut bed = Bed::demo();
    let server = bed.start();
    put(&server, 20, &item(2, 1, "hold", 600_000));
    let session = |http: &mut Http| {
        let made = http.call("POST /v1/demo/session", &[], "{}");
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(made.header("Cache-Control"), Some("no-store"));
        assert!(made.json()["sub"].as_str().unwrap().starts_with("demo-"));
        format!("Authorization: Bearer {}", made.json()["token"].as_str().unwrap())
    };
    let mut http = Http::to(server.public);
    let (own, other) = (session(&mut http), session(&mut http));
    let bought = http.call("POST /v1/items/20/orders", &[&own, "Idempotency-Key: k"], r#"{"quantity":1}"#);
    assert_eq!(bought.brief(), "201 held x1");
    let pay = format!("POST /v1/demo/orders/{}/pay", bought.order_id().unwrap());
    assert_eq!(http.call(&pay, &[], "{}").brief(), "401 unauthenticated");
    assert_eq!(http.call(&pay, &[&other], "{}").brief(), "404 not_found");
    assert_eq!(http.call(&pay, &[&own], r#"{"x":1}"#).brief(), "400 unknown_field field=x");
    assert_eq!(http.call(&pay, &[&own], "{}").brief(), "200 paid x1");
    assert_eq!(http.call(&pay, &[&own], "").brief(), "200 paid x1");
    let foreign = http.call("POST /v1/demo/session", &["Sec-Fetch-Site: cross-site"], "{}");
    assert_eq!(foreign.brief(), "403 cross_site");
}

#[test]
fn e2e_foreign_forms_do_nothing() {
    let mut bed = Bed::demo();
    let server = bed.start();
    put(&server, 20, &item(5, 5, "on_order", 0));
    let mut browser = Browser::to(&server);
    browser.send("/sale/1", "key=k");
    assert!(browser.cookie.is_some());
    let host = format!("Origin: http://{}", server.public);
    for lines in
        [vec![FORM], vec![FORM, "Sec-Fetch-Site: cross-site"], vec![FORM, "Origin: http://evil.example"]]
    {
        let refused = browser.call("POST /sale/20", &lines, "key=k");
        assert_eq!((refused.status, state(&refused)), (403, "limited"), "{lines:?}");
    }
    // Nor through the API, where the body could be sent as a form or as plain text.
    for (media, refusal) in
        [(FORM, "403 cross_site"), ("Content-Type: text/plain", "415 unsupported_media_type")]
    {
        let api = browser.call("POST /v1/items/20/orders", &[media], r#"{"quantity":1}"#);
        assert_eq!(api.brief(), refusal);
    }
    assert_eq!(browser.call("POST /sale/20", &[FORM, &host], "key=k").status, 303);
    assert_eq!(browser.get("/v1/orders").brief(), "200 2 orders");
    // A form that is not ours.
    for body in ["key=k&quantity=9", "key", "key=%zz", "key=a&key=b"] {
        assert_eq!(browser.send("/sale/20", body).status, 400, "{body}");
    }
    let plain = browser.call("POST /sale/20", &[&host, "Content-Type: text/plain"], "key=k");
    assert_eq!(plain.status, 400);
    assert_eq!(browser.call("POST /sale/20", &[&host, FORM], &"k".repeat(5_000)).status, 413);
}

#[test]
fn e2e_a_browser_without_cookies_is_told() {
    let mut bed = Bed::demo();
    let server = bed.start();
    let mut http = Http::to(server.public);
    let own = [FORM, "Sec-Fetch-Site: same-origin"];
    let first = http.call("POST /sale/1", &own, "key=k");
    assert_eq!((first.status, first.header("Location")), (307, Some("/sale/1?again=1")));
    is_private(&first);
    let second = http.call("POST /sale/1?again=1", &own, "key=k");
    assert_eq!((second.status, state(&second)), (401, "limited"));
    assert!(second.header("Set-Cookie").is_none() && second.body.contains("cookie"));
}

#[test]
fn e2e_without_the_demo_no_buyer_is_invented() {
    use base64::Engine as _;
    let material = base64::prelude::BASE64_STANDARD.encode([7; 32]);
    let bed = Bed::new().set("identity.mode", "jwt").set("identity.keys", &format!("k:HS256:{material}"));
    let mut bed = bed.set("identity.cookie", "shop");
    let server = bed.start();
    put(&server, 1, &item(5, 1, "hold", 600_000));
    let mut browser = Browser::to(&server);
    assert_eq!(browser.call("POST /v1/demo/session", &[], "{}").brief(), "404 not_found");
    let refused = browser.send("/sale/1", "key=k");
    assert_eq!((refused.status, state(&refused)), (401, "limited"));
    assert!(refused.header("Set-Cookie").is_none());
    // A shop that has signed its buyer in with the cookie.
    let key = stampede_net::identity::mint::MintKey::hs256("k", &[7; 32]).unwrap();
    let exp_s = now_ms() / 1_000 + 600;
    let claims = stampede_net::identity::mint::Claims { sub: "alice", exp_s, ..Default::default() };
    browser.cookie = Some(format!("shop={}", key.mint(&claims).unwrap()));
    let bought = browser.send("/sale/1", "key=k");
    let place = bought.header("Location").unwrap().to_owned();
    let held = browser.follow(&bought);
    assert!(state(&held) == "held" && !held.body.contains("id=\"pay\""));
    assert_eq!(browser.send(&format!("{place}/pay"), "").status, 404);
    let api = format!(
        "POST /v1/demo/orders/{}/pay",
        bought.header("Location").unwrap().rsplit('/').next().unwrap()
    );
    assert_eq!(browser.call(&api, &["Sec-Fetch-Site: same-origin"], "{}").brief(), "404 not_found");
    assert_eq!(state(&browser.get(&place)), "held");
}

#[test]
fn e2e_pages_for_everybody_can_be_cached() {
    let mut bed = Bed::new();
    let server = bed.start();
    let soon = now_ms() + 3_600_000;
    put(&server, 1, &sale(5, 1, "on_order", 0, soon, soon + 1_000));
    let mut browser = Browser::to(&server);
    for path in ["/sale/1", "/"] {
        let first = browser.get(path);
        assert_eq!(first.header("Cache-Control"), Some("public, max-age=1"), "{path}");
        assert!(first.header("Content-Security-Policy").unwrap().contains("default-src 'none'"));
        assert!(first.header("Set-Cookie").is_none());
        assert_eq!(first.header("Vary"), Some("Accept-Language, Accept-Encoding"));
    }
    // The second time it is cached.
    let page = browser.get("/sale/1");
    let tag = format!("If-None-Match: {}", page.header("ETag").unwrap());
    let fresh = browser.call("GET /sale/1", &[&tag], "");
    assert_eq!((fresh.status, fresh.body.as_str()), (304, ""));
    assert_eq!(state(&page), "upcoming");
    assert!(page.body.contains("<noscript><meta http-equiv=\"refresh\" content=\"300\"></noscript>"));
    let head = browser.call("HEAD /sale/1", &[], "");
    assert_eq!(head.header("Content-Length"), page.header("Content-Length"));
    // The other language is another page with another tag.
    browser.lang = "zh-CN,zh;q=0.9,en;q=0.8";
    let chinese = browser.call("GET /sale/1", &[&tag], "");
    assert!(chinese.status == 200 && chinese.body.contains("<html lang=\"zh-CN\">"));
    assert!(chinese.body.contains("尚未开售"));
    // A change shows at once.
    put(&server, 1, &sale(5, 1, "on_order", 0, now_ms() - 1_000, soon));
    assert_eq!(state(&browser.get("/sale/1")), "open");
    assert_eq!(
        (browser.get("/sale/2").status, browser.get("/sale/2").header("Content-Type").is_some()),
        (404, true)
    );
}

#[test]
fn e2e_files_are_served_for_ever() {
    let mut bed = Bed::new();
    let server = bed.start();
    put(&server, 1, &item(5, 1, "on_order", 0));
    let mut browser = Browser::to(&server);
    let page = browser.get("/sale/1");
    let mut files = 0;
    for (at, _) in page.body.match_indices("\"/assets/") {
        let path = page.body[at + 1..].split('"').next().unwrap();
        let file = browser.get(path);
        assert_eq!((file.status, file.header("Content-Encoding")), (200, None), "{path}");
        assert_eq!(file.header("Cache-Control"), Some("public, max-age=31536000, immutable"));
        let tag = format!("If-None-Match: {}", file.header("ETag").unwrap());
        assert_eq!(browser.call(&format!("GET {path}"), &[&tag], "").status, 304);
        files += 1;
    }
    assert_eq!(files, 3, "style, icon and script");
    assert_eq!(browser.get("/favicon.ico").header("Content-Type"), Some("image/svg+xml"));
    assert_eq!(browser.get("/assets/sale-000000000000.js").status, 404);
}

#[test]
fn e2e_a_ticket_is_one_step_more() {
    let mut bed = Bed::demo();
    let server = bed.start();
    let gated = |challenge: &str| {
        let mut body: serde_json::Value = serde_json::from_str(&item(5, 1, "on_order", 0)).unwrap();
        body["ticket"] = "required".into();
        body["challenge"] = challenge.into();
        body.to_string()
    };
    put(&server, 20, &gated("never"));
    put(&server, 21, &gated("always"));
    let mut browser = Browser::to(&server);
    // A ticket alone: one page that asks to confirm.
    let page = browser.send("/sale/20", "key=k");
    assert_eq!((page.status, state(&page)), (200, "challenge"), "{page:?}");
    is_private(&page);
    let form = format!("key={}&ticket={}", field(&page, "key"), field(&page, "ticket"));
    let bought = browser.send("/sale/20", &form);
    assert_eq!(state(&browser.follow(&bought)), "won");
    let again = browser.send("/sale/20", &form);
    assert_eq!(again.header("Location"), bought.header("Location"));
    // A challenge: a picture, and a new one after a wrong answer.
    let page = browser.send("/sale/21", "key=k");
    assert!(page.body.contains("src=\"data:image/svg+xml;base64,"), "{page:?}");
    let challenge = field(&page, "challenge");
    let wrong = browser.send("/sale/21", &format!("key=k&challenge={challenge}&answer=x"));
    assert_eq!((wrong.status, state(&wrong)), (200, "challenge"));
    assert_ne!(field(&wrong, "challenge"), challenge);
    // The device's proof of work is accepted instead.
    let challenge = field(&wrong, "challenge");
    let bits = browser.get("/v1/items/21/challenge").json()["pow"]["bits"].as_u64().unwrap() as u32;
    let answer = solve(&challenge, bits);
    let bought = browser.send("/sale/21", &format!("key=k&challenge={challenge}&answer={answer}"));
    assert_eq!(state(&browser.follow(&bought)), "won");
    // An invalid ticket.
    let forged = browser.send("/sale/20", "key=k2&ticket=forged");
    assert!(matches!(forged.status, 403 | 409), "{forged:?}");
}

/// The smallest number that, appended to the challenge, gives a hash with so many zero bits.
fn solve(challenge: &str, bits: u32) -> u64 {
    use sha2::Digest as _;
    let zeros = |n: u64| {
        let hash = sha2::Sha256::digest(format!("{challenge}:{n}"));
        u64::from_be_bytes(hash[..8].try_into().unwrap()).leading_zeros()
    };
    (0..).find(|&n| zeros(n) >= bits).unwrap()
}

#[test]
fn e2e_a_new_draw_is_made_when_the_last_is_over() {
    let mut bed = Bed::demo();
    let server = bed.start();
    let draws = |server: &Server| {
        let items = Browser::to(server).get("/v1/items").json();
        let of_draw = |item: &&serde_json::Value| item["name"] == "Concert ticket by lot";
        let ids = items["items"].as_array().unwrap().iter().filter(of_draw);
        ids.map(|item| item["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(draws(&server), [4]);
    // The shop's own items do not get in its way.
    put(&server, 5, &item(5, 1, "on_order", 0));
    assert_eq!(server.stop(), Some(0));
    let server = bed.start();
    assert_eq!(draws(&server), [4]);
    let token = format!("Authorization: Bearer {}", crate::server::TOKEN);
    let closed = Http::to(server.admin).call("POST /admin/items/4/close", &[&token], "");
    assert_eq!(closed.status, 200);
    assert_eq!(server.stop(), Some(0));
    let server = bed.start();
    // The old one is over, and comes last.
    assert_eq!(draws(&server), [6, 4]);
}

/// The first request for a page renders it, and gets it compressed like everybody after.
#[test]
fn e2e_the_first_page_is_compressed_too() {
    let mut bed = Bed::new();
    let server = bed.start();
    put(&server, 1, &item(5, 1, "on_order", 0));
    for path in ["/sale/1", "/"] {
        for encodings in ["gzip, br", "identity", "gzip, br"] {
            // HEAD, because this client reads only text.
            let mut http = Http::to(server.public);
            let accept = format!("Accept-Encoding: {encodings}");
            let answer = http.call(&format!("HEAD {path}"), &[&accept], "");
            let gzip = answer.header("Content-Encoding");
            assert_eq!((answer.status, gzip == Some("gzip")), (200, encodings != "identity"), "{answer:?}");
        }
    }
    let mut early = Browser::to(&server);
    put(&server, 2, &sale(5, 1, "on_order", 0, now_ms() + 30_000, now_ms() + 3_600_000));
    let told = early.call("POST /sale/2", &[FORM, "Sec-Fetch-Site: same-origin", "X-Buyer: ann"], "key=k");
    assert!(told.status == 403 && told.body.contains("http-equiv=\"refresh\""), "{told:?}");
}

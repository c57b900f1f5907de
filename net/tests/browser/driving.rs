//! Tests the driver itself on a page with one of each element: the other tests rely on it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::browser::{Browser, NARROW, WIDE, keys};

const PAGE: &str = r#"<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width">
<style>body { background: #fff; color: #000 }
@media (prefers-color-scheme: dark) { body { background: #000; color: #fff } }</style></head>
<body><main><h1>Page</h1><button id="buy">Buy</button><button id="other">Other</button>
<label>Name <input id="name"></label><p id="said"></p><p id="accepts">LANGUAGE</p>
<noscript><p id="bare">no script</p></noscript></main>
<script>let clicks = 0; const said = document.querySelector('#said');
document.querySelector('#buy').onclick = () => { clicks += 1; said.textContent = `clicked ${clicks}`; };
addEventListener('offline', () => { said.textContent = 'offline'; });
addEventListener('online', () => { said.textContent = 'online'; });
</script></body></html>"#;

/// Answers every request with the page while the tests run.
fn serve_page() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let language = head.iter().find_map(|line| line.strip_prefix("Accept-Language: "));
            let body = PAGE.replace("LANGUAGE", language.unwrap_or("nothing"));
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: img-src 'none'\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn driving_hands_and_eyes() {
    let browser = Browser::english("driving");
    browser.go(&format!("http://{}/", serve_page()));
    browser.click("#buy");
    assert_eq!(browser.text("#said"), "clicked 1");
    browser.double_click("#buy");
    assert_eq!(browser.text("#said"), "clicked 3");
    browser.press(keys::TAB);
    assert_eq!(browser.value("document.activeElement.id"), "other");
    browser.type_into("#name", "红包");
    assert_eq!(browser.value("document.querySelector('#name').value"), "红包");
    assert_eq!(browser.attribute("html", "lang").as_deref(), Some("en"));
    assert_eq!(browser.attribute("#none", "lang"), None);
    assert!(browser.shows("#buy") && !browser.shows("#none"));
    browser.resize(NARROW);
    assert_eq!(browser.value("innerWidth"), NARROW.0);
    browser.resize(WIDE);
    assert_eq!(browser.value("innerWidth"), WIDE.0);
    let background = "getComputedStyle(document.body).backgroundColor";
    for (dark, colour) in [(true, "rgb(0, 0, 0)"), (false, "rgb(255, 255, 255)")] {
        browser.prefer(dark, true);
        assert_eq!(browser.value(background), colour);
        assert_eq!(browser.value("matchMedia('(prefers-reduced-motion: reduce)').matches"), true);
    }
    browser.set_offline(true);
    browser.wait("document.querySelector('#said').textContent == 'offline'");
    browser.set_offline(false);
    browser.wait("document.querySelector('#said').textContent == 'online'");
    let first = browser.tab();
    browser.open_tab();
    assert_eq!(browser.url(), "about:blank");
    browser.switch_to(&first);
    assert_eq!(browser.text("#said"), "online");
}

/// A checker that never finds anything would be worthless.
#[test]
fn driving_faults_are_seen() {
    let browser = Browser::open("driving-faults", "zh-CN");
    let address = serve_page();
    browser.go(&format!("http://{address}/"));
    assert!(browser.text("#accepts").starts_with("zh-CN"), "{}", browser.text("#accepts"));
    assert_eq!(browser.violations(), "");
    assert_eq!(browser.log(), Vec::<String>::new());
    browser.run(
        "document.querySelector('#buy').style.cssText = 'color: #888; background: #999';
         document.querySelector('main').append(document.createElement('img'));
         document.querySelector('img').src = '/x.png'",
        &serde_json::json!([]),
    );
    let found = browser.violations();
    assert!(found.contains("color-contrast") && found.contains("image-alt"), "{found}");
    let log = browser.log().join("\n");
    assert!(log.contains("Content Security Policy"), "{log}");
    browser.allow_scripts(false);
    browser.reload();
    assert!(browser.shows("#bare"));
    browser.click("#buy");
    assert_eq!(browser.text("#said"), "");
}

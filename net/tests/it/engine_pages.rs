//! Entity tags of pages: the same on every core while nothing changes, a new one as soon as
//! something does; and what many pages of a list cost the address that requests them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use stampede_net::engine::home::Client;
use stampede_net::engine::shared::Shared;
use stampede_net::http::conn::Conn;
use stampede_net::http::route::Listener;

use crate::rig::{Base, Rig, Setup};

const PATIENCE: Duration = Duration::from_secs(30);

/// A core's response to a request, once everything that it waits for has come.
fn ask(rig: &mut Rig, core: usize, request: &str) -> String {
    ask_on(rig, core, Listener::Public, request)
}

fn ask_on(rig: &mut Rig, core: usize, listener: Listener, request: &str) -> String {
    let now_ms = rig.homes[core].read_clock().mono_ms;
    let token = rig.homes[core].connections.enter();
    let mut client = Client::new(token, Conn::new(listener, now_ms), IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_eq!(client.conn.feed(request.as_bytes(), now_ms), request.len());
    let deadline = Instant::now() + PATIENCE;
    loop {
        rig.homes[core].serve(&mut client);
        if !client.out.is_empty() {
            break;
        }
        rig.homes.iter_mut().for_each(|home| while home.pump() {});
        assert!(Instant::now() < deadline, "no answer to {request}");
        std::thread::yield_now();
    }
    rig.homes[core].connections.leave(client.id);
    String::from_utf8_lossy(&client.out).into_owned()
}

fn get(rig: &mut Rig, core: usize, path: &str) -> String {
    ask(rig, core, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
}

/// The tag of a page, once its last fact is durable: before that it has none.
fn tag(rig: &mut Rig, core: usize, path: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = get(rig, core, path);
        assert!(shown.starts_with("HTTP/1.1 200 "), "{shown}");
        if let Some(tag) = shown.lines().find_map(|line| line.strip_prefix("ETag: ")) {
            return tag.to_owned();
        }
        assert!(Instant::now() < deadline, "{path} gets no tag");
        std::thread::yield_now();
    }
}

/// Waits until the clock has advanced by this much.
fn wait_ms(rig: &mut Rig, ms: u64) {
    let from = rig.homes[0].read_clock();
    while rig.homes[0].read_clock().mono_ms < from.mono_ms + ms {
        std::thread::yield_now();
    }
}

fn pages(rig: &Rig) -> [String; 4] {
    ["/v1/items".into(), format!("/v1/items/{}", rig.item), "/".into(), format!("/sale/{}", rig.item)]
}

#[test]
fn engine_a_page_has_one_tag_on_every_core() {
    let mut rig = Rig::new(3);
    for path in pages(&rig) {
        let first = tag(&mut rig, 0, &path);
        for core in [1, 2, 0] {
            // Long enough for the time to change, and for lists to be rendered again.
            wait_ms(&mut rig, if core == 0 { 1_002 } else { 2 });
            assert_eq!(tag(&mut rig, core, &path), first, "{path} on core {core}");
            let held = format!("GET {path} HTTP/1.1\r\nHost: a\r\nIf-None-Match: {first}\r\n\r\n");
            let again = ask(&mut rig, core, &held);
            assert!(again.starts_with("HTTP/1.1 304 "), "{again}");
            assert!(again.contains("\r\nCache-Control: ") && again.contains("\r\nVary: "), "{again}");
        }
    }
}

#[test]
fn engine_a_page_that_changes_gets_another_tag_on_every_core() {
    let setup = Setup { admin_token: "token-of-the-test-shop".into(), ..Setup::default() };
    let mut rig = Rig::on(Base::made(2, setup), 2, |_, _: &Shared| {});
    let tags = |rig: &mut Rig| -> Vec<String> {
        let cores = [0, 1].into_iter();
        cores.flat_map(|core| pages(rig).map(|path| tag(rig, core, &path))).collect()
    };
    let mut seen = vec![tags(&mut rig)];
    let item = rig.item;
    for (call, body) in [
        (format!("PUT /admin/items/{item}"), "{\"price_minor\":1}"),
        (format!("PUT /admin/items/{item}"), "{\"price_minor\":2}"),
        (format!("POST /admin/items/{item}/pause"), "{}"),
        (format!("POST /admin/items/{item}/resume"), "{}"),
        // Back to the same content, by another fact.
        (format!("PUT /admin/items/{item}"), "{\"price_minor\":1}"),
    ] {
        let admin = "Authorization: Bearer token-of-the-test-shop";
        let length = body.len();
        let request =
            format!("{call} HTTP/1.1\r\nHost: a\r\n{admin}\r\nContent-Length: {length}\r\n\r\n{body}");
        let done = ask_on(&mut rig, 0, Listener::Merchant, &request);
        assert!(done.starts_with("HTTP/1.1 200 "), "{done}");
        // Lists are rendered again each second.
        wait_ms(&mut rig, 1_001);
        let now = tags(&mut rig);
        for (page, tag) in now.iter().enumerate() {
            assert!(seen.iter().all(|before| before[page] != *tag), "{tag} after {call}");
        }
        seen.push(now);
    }
}

/// Another log also numbers its facts from one: its pages have other tags.
#[test]
fn engine_tags_of_two_logs_differ() {
    let (mut one, mut other) = (Rig::new(1), Rig::new(1));
    for path in pages(&one) {
        assert_ne!(tag(&mut one, 0, &path), tag(&mut other, 0, &path), "{path}");
    }
}

/// The limit per address applies to pages of the list that nobody has requested in the last
/// second, and to no others.
#[test]
fn engine_new_pages_of_the_list_are_charged_to_the_address() {
    let base = Base::made(1, Setup { ip_per_s: 20, ..Setup::default() });
    let mut rig = Rig::on(base, 1, |_, _: &Shared| {});
    let status = |rig: &mut Rig, path: &str| get(rig, 0, path)[9..12].to_owned();
    let mut refused = 0;
    for after in 1..=200 {
        let said = status(&mut rig, &format!("/v1/items?limit=100&after={after}"));
        refused += usize::from(said == "429");
        assert!(said == "200" || said == "429", "{said}");
    }
    assert!(refused > 100, "only {refused} of 200 pages were refused");
    // Cached pages cost nothing; with many pages, the most recent one is still there.
    let last = (1..=200).rev().map(|after| format!("/v1/items?limit=100&after={after}"));
    let kept = last.filter(|path| status(&mut rig, path) == "200").count();
    assert!(kept > 0, "rendered pages are cached");
}

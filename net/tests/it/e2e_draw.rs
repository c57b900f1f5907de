//! End to end: a draw from its announcement to its verification, with crashes in between,
//! and forged results.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use stampede_loadgen::engine::{self, Mode, RunConfig, Step};
use stampede_loadgen::meaning::Code;
use stampede_loadgen::scenario::Scenario;
use stampede_loadgen::verify::{self, VerifyConfig};
use stampede_loadgen::workload::{Flow, Items, Workload};

use crate::e2e_talk::{Http, Talk, now_ms};
use crate::server::{Bed, PATIENCE, Server, get, wait_for};

/// The body of an item whose draw opens soon: it must be announced before.
fn with_draw(stock: u64, payment: &str, draw_ms: u64) -> String {
    let opens_at_ms = now_ms() + 1_500;
    let hold_ms = if payment == "hold" { 600_000 } else { 0 };
    serde_json::json!({
        "name": "drawn", "stock": stock, "cap": 2, "payment": payment, "hold_ms": hold_ms,
        "opens_at_ms": opens_at_ms, "closes_at_ms": opens_at_ms + 3_600_000, "draw_ms": draw_ms,
    })
    .to_string()
}

fn json(server: &Server, path: &str) -> Value {
    let answer = get(server.public, path).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn wait_for_state(server: &Server, item: u32, state: &str) {
    wait_for(state, || (json(server, &format!("/v1/items/{item}"))["state"] == state).then_some(()));
}

fn wait_for_draw(server: &Server, item: u32) -> Value {
    wait_for("the draw", || {
        let page = json(server, &format!("/v1/items/{item}/draw"));
        (page["state"] == "drawn").then_some(page)
    })
}

fn draw_verify(source: &str, flags: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede"));
    command.args(["draw", "verify", source, "--item", "1"]).args(flags);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

/// The output on either stream, with the exit code.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

/// By the server and by its log: both say that the draw is right, in the same words.
fn check_verified(server: &Server, dir: &Path, commitment: &str, winners: &str) {
    for source in [format!("http://{}", server.public), dir.display().to_string()] {
        let (code, text) = said(&draw_verify(&source, &["--before", commitment], ""));
        assert_eq!(code, Some(0), "{source}: {text}");
        assert!(text.ends_with("the draw is right\n"), "{text}");
        assert!(text.contains(&format!("winners     {winners}\n")), "{text}");
        assert!(text.contains(&format!("commitment  {commitment}\n")), "{text}");
    }
}

#[test]
fn e2e_a_draw_is_announced_entered_held_and_verified() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let body = with_draw(3, "hold", 4_000);
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/1 {body}                        -> 201 upcoming 3=3+0+0
        alice POST /v1/items/1/orders {{"quantity":1}}           -> 403 not_open
        anon  GET /v1/items/1/draw                             -> 200 waiting 0 entries
        anon  GET /v1/items/2/draw                             -> 404 not_found
        anon  GET /v1/items/1/draw?limit=1001                  -> 400 bad_request field=limit
        "#
    ));
    let page = json(&server, "/v1/items/1");
    let commitment = page["draw"]["commitment"].as_str().expect("published").to_owned();
    assert!(page["draw"]["seed"].is_null() && commitment.len() == 64, "{page}");
    wait_for_state(&server, 1, "open");
    talk.check(
        r#"
        alice POST /v1/items/1/orders {"quantity":1} #k        -> 202 entered x1 $a
        alice POST /v1/items/1/orders {"quantity":1} #k        -> 202 entered x1 again $a
        alice POST /v1/items/1/orders {"quantity":1}           -> 409 cap_reached $a
        bob   POST /v1/items/1/orders {"quantity":1}           -> 202 entered x1 $b
        bob   GET /v1/orders/$b?wait_ms=9000                   -> 200 entered x1 $b
        bob   POST /v1/orders/$b/cancel                        -> 200 cancelled x1 $b
        bob   POST /v1/items/1/orders {"quantity":2}           -> 202 entered x2 $c
        carol POST /v1/items/1/orders {"quantity":2}           -> 202 entered x2 $d
        carol POST /v1/items/1/orders {"quantity":3} #l        -> 400 bad_quantity
        shop  POST /admin/orders/$a/pay {"payment_ref":"p"}    -> 409 not_drawn
        shop  POST /admin/orders/$a/refund                     -> 409 not_refundable
        shop  PUT /admin/items/1 {"draw_ms":0}                 -> 422 invalid_field field=draw_ms
        shop  PUT /admin/items/1 {"opens_at_ms":9}             -> 422 invalid_field field=opens_at_ms
        shop  GET /admin/items/1                               -> 200 open 3=3+0+0
        "#,
    );
    assert_eq!(talk.say("shop GET /admin/items/1").json()["entered"], 3);
    let (code, text) = said(&draw_verify(&format!("http://{}", server.public), &[], ""));
    assert_eq!((code, text.as_str()), (Some(1), "stampede: the draw was not held yet.\n"));
    // The entries survive a crash.
    let orders = talk.into_orders();
    server.kill();
    let server = bed.start();
    let mut talk = Talk::resume(&server, orders);
    let drawn = wait_for_draw(&server, 1);
    assert_eq!((&drawn["entries_total"], &drawn["units"]), (&3.into(), &3.into()), "{drawn}");
    // Three units for entries of one, two and two: one of the larger ones gets nothing.
    assert_eq!((&drawn["winners"], drawn["has_more"].as_bool()), (&2.into(), Some(false)), "{drawn}");
    check_verified(&server, &bed.dir, &commitment, "2 with 3 units");
    let states = ["alice GET /v1/orders/$a", "bob GET /v1/orders/$c", "carol GET /v1/orders/$d"];
    let mut states =
        states.map(|line| talk.say(line).json()["state"].as_str().unwrap_or_default().to_owned());
    states.sort();
    assert_eq!(states, ["held", "held", "lost"]);
    talk.check(
        r#"
        alice POST /v1/items/1/orders {"quantity":1} #k        -> 202 entered x1 again $a
        shop  GET /admin/items/1                               -> 200 sold_out 3=0+3+0
        dave  POST /v1/items/1/orders {"quantity":1}           -> 409 sold_out
        "#,
    );
    let seed = wait_for("the seed on the page", || {
        json(&server, "/v1/items/1")["draw"]["seed"].as_str().map(str::to_owned)
    });
    assert_eq!(drawn["seed"], seed.as_str());
    assert_eq!(server.stop(), Some(0));
}

/// Enters that many buyers, pipelined, and waits for every response.
fn enter(server: &Server, buyers: u32) {
    const AT_ONCE: u32 = 50;
    let mut http = Http::to(server.public);
    for first in (0..buyers).step_by(AT_ONCE as usize) {
        let requests: String = (first..first + AT_ONCE)
            .map(|buyer| {
                let buyer = format!("X-Buyer: buyer-{buyer}");
                http.request("POST /v1/items/1/orders", &[&buyer], "{}")
            })
            .collect();
        http.send(&requests);
        for _ in 0..AT_ONCE {
            let answer = http.read(false).expect("an answer");
            assert_eq!(answer.brief(), "202 entered x1", "{answer:?}");
        }
    }
}

#[test]
fn e2e_killed_in_mid_draw_it_continues_and_verifies() {
    const ENTRIES: u32 = 20_000;
    let mut bed = Bed::new();
    bed.cores = "1";
    let server = bed.start();
    let body = with_draw(100, "on_order", 8_000);
    Talk::with(&server).check(&format!("shop PUT /admin/items/1 {body} -> 201 upcoming 100=100+0+0"));
    let commitment = json(&server, "/v1/items/1")["draw"]["commitment"].as_str().expect("there").to_owned();
    wait_for_state(&server, 1, "open");
    enter(&server, ENTRIES);
    let amid = wait_for("the draw's middle", || {
        let page = json(&server, "/v1/items/1/draw");
        (page["state"] != "waiting").then_some(page)
    });
    server.kill();
    assert!(
        amid["entries"].as_array().is_some_and(Vec::is_empty),
        "nothing is listed before the end: {amid}"
    );
    println!("killed when it was {}", amid["state"]);
    println!("its log then: {}", said(&draw_verify(&bed.dir.display().to_string(), &[], "")).1);
    bed.cores = "2";
    let server = bed.start();
    let drawn = wait_for_draw(&server, 1);
    assert_eq!((&drawn["entries_total"], &drawn["winners"]), (&ENTRIES.into(), &100.into()));
    check_verified(&server, &bed.dir, &commitment, "100 with 100 units");
    Talk::with(&server).check("shop GET /admin/items/1 -> 200 sold_out 100=0+0+100");
    let mut log = Command::new(env!("CARGO_BIN_EXE_stampede"));
    let log = log.args(["log", "verify"]).arg(&bed.dir).output().expect("it runs");
    assert_eq!(log.status.code(), Some(0), "{}", said(&log).1);
    let pages = all_pages(&server);
    assert_eq!(said(&draw_verify("-", &[], &joined(&pages))).0, Some(0));
    catch_wrong_results(&pages);
    assert_eq!(server.stop(), Some(0));
}

/// The load generator's lottery, from creating its item to the verdict.
#[test]
fn e2e_the_lottery_is_a_draw_that_the_checker_understands() {
    let mut bed = Bed::new();
    let server = bed.start();
    let merchant = server.merchant();
    Scenario::Lottery.create(&merchant, Items::one(1), now_ms()).expect("created");
    let workload = Workload {
        flow: Flow::Whole,
        users: Some(2_000),
        levels: Some(10),
        repeat: 0.1,
        ..Workload::purchases(1, 21)
    };
    let config = RunConfig {
        mode: Mode::open(800.0),
        connections: 40,
        ride_out: PATIENCE,
        ..RunConfig::closed(server.public, workload, 2_000)
    };
    let outcome = engine::run(&config).expect("the buyers can start");
    assert_eq!(outcome.gave_up, None);
    let drawn = wait_for_draw(&server, 1);
    let (entered, steps) = (outcome.tally.by_code[Code::Entered as usize], outcome.tally.step(Step::Draw));
    println!(
        "{entered} entered, {} won, {} lost",
        steps.by_code[Code::Won as usize],
        steps.by_code[Code::Lost as usize]
    );
    assert!(
        entered > 300 && outcome.tally.by_code[Code::NotEligible as usize] > 300,
        "{:?}",
        outcome.tally.by_code
    );
    assert_eq!((&drawn["winners"], steps.by_code[Code::Won as usize]), (&100.into(), 100));
    assert!(steps.by_code[Code::Lost as usize] > 200, "{:?}", steps.by_code);
    let history = outcome.history.as_ref();
    let verdict = verify::verify(&VerifyConfig { history, ..VerifyConfig::of_merchant(&merchant, 1) })
        .expect("a verdict");
    assert!(verdict.is_fine(), "{verdict}: {:#?}", verdict.violations);
    let (code, text) = said(&draw_verify(&format!("http://{}", server.public), &[], ""));
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(server.stop(), Some(0));
}

fn all_pages(server: &Server) -> Vec<Value> {
    let mut pages: Vec<Value> = Vec::new();
    loop {
        let after = pages.last().and_then(|page| page["next_after"].as_str()).unwrap_or("1").to_owned();
        let after = if after == "1" { String::new() } else { format!("&after={after}") };
        let page = json(server, &format!("/v1/items/1/draw?limit=900{after}"));
        let more = page["has_more"] == true;
        pages.push(page);
        if !more {
            return pages;
        }
    }
}

fn joined(pages: &[Value]) -> String {
    pages.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

/// Changed pages are detected.
fn catch_wrong_results(pages: &[Value]) {
    let caught = |what: &str, change: &dyn Fn(&mut Vec<Value>)| {
        let mut pages = pages.to_vec();
        change(&mut pages);
        let (code, text) = said(&draw_verify("-", &[], &joined(&pages)));
        assert_eq!(code, Some(1), "{what}: {text}");
        assert!(text.contains("WRONG: ") || text.starts_with("stampede: "), "{what}: {text}");
        println!("{what}: {}", text.lines().last().unwrap_or_default());
    };
    let won = |pages: &[Value], won: bool| {
        let mut places = pages.iter().enumerate().flat_map(|(page, body)| {
            let entries = body["entries"].as_array().into_iter().flatten().enumerate();
            entries.map(move |(entry, body)| (page, entry, body["won"] == won))
        });
        let (page, entry, _) = places.find(|(_, _, fits)| *fits).expect("there is one");
        (page, entry)
    };
    let (winner, loser) = (won(pages, true), won(pages, false));
    caught("a friend let in", &|pages| pages[loser.0]["entries"][loser.1]["won"] = true.into());
    caught("places swapped", &|pages| {
        pages[loser.0]["entries"][loser.1]["won"] = true.into();
        pages[winner.0]["entries"][winner.1]["won"] = false.into();
    });
    caught("a winner left out", &|pages| {
        pages[winner.0]["entries"].as_array_mut().expect("entries").remove(winner.1);
    });
    caught("a page left out", &|pages| drop(pages.remove(1)));
    caught("another seed", &|pages| {
        pages.iter_mut().for_each(|page| page["seed"] = "00".repeat(32).into());
    });
    let (code, text) = said(&draw_verify("-", &["--before", &"00".repeat(32)], &joined(pages)));
    assert!(code == Some(1) && text.contains("noted before"), "{text}");
}

//! What a run leaves behind: its record against the schema, its files read back by others'
//! readers, its assertions and exit codes.

use std::path::Path;
use std::process::{Command, Output};

use boon::{Compiler, Schemas};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::{Value, json};
use stampede_loadgen::engine::{Mode, RunConfig, run};
use stampede_loadgen::record::Record;
use stampede_loadgen::workload::Workload;

use crate::fake::{Fake, Fault, ITEM, TOKEN};

const SCHEMA: &str = include_str!("../../../docs/schema/loadgen-report-2.schema.json");

fn call(flags: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede-loadgen"));
    command.args(flags.split_whitespace()).output().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn merchant(fake: &Fake, dir: &Path) -> String {
    let path = dir.join("token");
    std::fs::write(&path, TOKEN).unwrap();
    format!("--admin {} --admin-token-file {}", fake.admin, path.display())
}

/// Whether the schema takes it; the complaint if not.
fn validate(value: &Value) -> Result<(), String> {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    compiler.add_resource("record.json", schema).unwrap();
    let index = compiler.compile("record.json", &mut schemas).unwrap();
    schemas.validate(value, index).map_err(|error| error.to_string())
}

/// The record of a small sale, with every part that a run can fill.
fn record() -> Value {
    let fake = Fake::start(30, Fault::FailEvery(10));
    let workload =
        Workload { repeat: 0.2, headers: vec!["X-Region: eu".into()], ..Workload::purchases(ITEM, 5) };
    let mut config = RunConfig::closed(fake.public, workload, 100);
    config.mode = Mode::open(500.0);
    let mut record = Record::new(&config, &run(&config).unwrap(), None);
    record.command = vec!["run".to_owned()];
    let mut value = serde_json::to_value(&record).unwrap();
    // What only the command line adds.
    value["stock"] = json!({ "samples": [[0, 30], [250, -1]] });
    value["assertions"] = json!([{ "text": "p99 < 5ms", "holds": true, "measured": "1ms" }]);
    value["verdict"] = json!({
        "ruling": "broken", "fine": false, "words": "w", "has_books": true, "orders": 1, "acks": 1, "recalled": 0,
        "postgres_orders": null, "not_asked": ["x"], "undecided": ["x"], "nothing_let_in": null,
        "violations_total": 1,
        "violations": [{ "name": "oversold", "text": "t" }],
    });
    value
}

/// The paths of everything in it, as JSON pointers; of an array the first element stands for all.
fn paths(value: &Value, at: &str, all: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                paths(field, &path, all);
                all.push(path);
            }
        }
        Value::Array(parts) if !parts.is_empty() => paths(&parts[0], &format!("{at}/0"), all),
        _ => {}
    }
}

#[test]
fn a_record_is_what_the_schema_says_and_nothing_else() {
    let good = record();
    validate(&good).unwrap_or_else(|error| panic!("{error}"));
    assert!(Record::read(good.to_string().as_bytes()).is_ok(), "what the schema takes is read");
    let mut all = Vec::new();
    paths(&good, "", &mut all);
    assert!(all.len() > 100, "{all:?}");
    // Counts by name and the curve may lack an entry; all else must be there.
    let may_lack = |path: &str| {
        let parts = ["/outcomes/", "/tried_again/", "/statuses/", "/curve"];
        parts.iter().any(|part| path.contains(part))
    };
    for path in &all {
        let (parent, name) = path.rsplit_once('/').unwrap();
        if !may_lack(path) {
            let mut lacks = good.clone();
            lacks
                .pointer_mut(parent)
                .and_then(Value::as_object_mut)
                .map(|fields| fields.remove(name))
                .unwrap();
            assert!(validate(&lacks).is_err(), "the schema does not miss {path}");
        }
        let mut wrong = good.clone();
        *wrong.pointer_mut(path).unwrap() = json!({ "is": ["wrong"] });
        assert!(validate(&wrong).is_err(), "the schema takes anything for {path}");
    }
    let mut more = good;
    more["surprise"] = json!(1);
    assert!(validate(&more).is_err());
}

#[test]
fn every_file_of_a_run_is_read_back() {
    let (fake, dir) = (Fake::start(30, Fault::None), tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name);
    let path = dir.path().display();
    let output = call(&format!(
        "run http://{} --item 1 -R 200 -n 120 -c 8 --seed 4 -HX-Token:hunter2 --json {path}/j --html {path}/p \
         --csv {path}/c --hdr {path}/l {} --assert winners==30 --assert p99<1h",
        fake.public,
        merchant(&fake, dir.path()),
    ));
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert!(words(&output).contains("assert     ok      winners == 30: 30"), "{}", words(&output));
    let json = std::fs::read(at("j")).unwrap();
    validate(&serde_json::from_slice(&json).unwrap()).unwrap_or_else(|error| panic!("{error}"));
    let record = Record::read(&json).unwrap();
    assert_eq!((record.total(), record.count("won"), record.assertions.len()), (120, 30, 2));
    let stock = record.stock.expect("the shop's page was asked").samples;
    assert_eq!(stock.last().map(|sample| sample.1), Some(0), "{stock:?}");
    assert!(stock.len() >= 2 && stock.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{stock:?}");
    let page = std::fs::read_to_string(at("p")).unwrap();
    assert!(page.contains("The stock of 30 was gone") && page.contains("p99 &lt; 1h holds"));
    assert!(![json, page.into_bytes()].concat().windows(7).any(|part| part == b"hunter2"));
    let table = std::fs::read_to_string(at("c")).unwrap();
    let won = table.lines().next().unwrap().split(',').position(|name| name == "won").unwrap();
    let sum: u64 =
        table.lines().skip(1).map(|row| row.split(',').nth(won).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(sum, 30, "{table}");
    check_log(&std::fs::read(at("l")).unwrap(), record.began_at_ms);
}

/// The crate's own reader finds every end once without a tag, and once with its class.
fn check_log(log: &[u8], began_at_ms: u64) {
    let (mut untagged, mut winners, mut refusals, mut last) = (0, 0, 0, std::time::Duration::ZERO);
    let mut deserializer = Deserializer::new();
    for entry in IntervalLogIterator::new(log) {
        match entry.expect("the log is well formed") {
            LogEntry::Interval(interval) => {
                assert!(interval.start_timestamp() >= last, "intervals are sorted");
                last = interval.start_timestamp();
                let packed = interval.encoded_histogram().as_bytes();
                let bytes = base64_decode(packed);
                let histogram: Histogram<u64> = deserializer.deserialize(&mut &bytes[..]).unwrap();
                let sum = match interval.tag().map(|tag| tag.as_str().to_owned()).as_deref() {
                    None => &mut untagged,
                    Some("winners") => &mut winners,
                    Some("refusals") => &mut refusals,
                    Some(other) => panic!("{other}"),
                };
                *sum += histogram.len();
            }
            LogEntry::StartTime(at) => assert_eq!(at.as_millis() as u64, began_at_ms),
            LogEntry::BaseTime(at) => assert_eq!(at.as_millis() as u64, began_at_ms),
        }
    }
    assert_eq!((untagged, winners, refusals), (120, 30, 90));
}

fn base64_decode(text: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn an_assertion_that_does_not_hold_exits_99() {
    let fake = Fake::start(10, Fault::None);
    let output =
        call(&format!("run http://{} --item 1 --closed -n 40 --no-verify --assert sold_out<1%", fake.public));
    assert_eq!(output.status.code(), Some(99), "{}", words(&output));
    let text = words(&output);
    assert!(text.ends_with("  assert     FAILED  sold_out < 1%: 75.0000%\n"), "{text}");
}

#[test]
fn a_broken_promise_and_a_failed_run_outrank_an_assertion() {
    let (fake, dir) = (Fake::start(10, Fault::OversellByOne), tempfile::tempdir().unwrap());
    let merchant = merchant(&fake, dir.path());
    let false_assertion = "--assert p50<0";
    let output =
        call(&format!("run http://{} --item 1 --closed -n 40 {merchant} {false_assertion}", fake.public));
    assert_eq!(output.status.code(), Some(3), "{}", words(&output));
    let mute = Fake::start(10, Fault::Mute);
    let output = call(&format!(
        "run http://{} --item 1 -n 4 -c 1 -T 100ms --ride-out 500ms --no-verify {false_assertion}",
        mute.public
    ));
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(
        words(&output).contains("GAVE UP") && words(&output).contains("FAILED  p50 < 0"),
        "{}",
        words(&output)
    );
}

#[test]
fn bad_assertions_and_files_are_told_before_the_run() {
    let (fake, dir) = (Fake::start(10, Fault::None), tempfile::tempdir().unwrap());
    let path = dir.path().display();
    for (flags, code, expected) in [
        ("--assert p98<5ms".to_owned(), 2, "`p98` is not a metric; take p50 p75"),
        ("--assert p99<5".to_owned(), 2, "`5` is not a value for p99; write a time with its unit"),
        ("--assert p99".to_owned(), 2, "is not an assertion"),
        (format!("--json {path}/no/such"), 1, "cannot write"),
        (format!("--json {path}/x --csv {path}/x"), 2, "two outputs would go to"),
    ] {
        let output = call(&format!("run http://{} --item 1 -n 5 --closed {flags}", fake.public));
        let text = words(&output);
        assert_eq!(output.status.code(), Some(code), "`{flags}` said {text}");
        assert!(text.contains(expected) && text.lines().count() == 1, "`{flags}` said {text}");
    }
    assert_eq!(fake.orders(), 0, "nothing was bought");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(dir.path().join("old"), "kept").unwrap();
    let output = call(&format!("run http://{closed} --item 1 -n 1 --json {path}/new --csv {path}/old"));
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(!dir.path().join("new").exists(), "a run that cannot begin leaves no file");
    assert_eq!(std::fs::read(dir.path().join("old")).unwrap(), b"kept");
}

#[test]
fn report_and_compare_read_records() {
    let (fake, dir) = (Fake::start(10, Fault::None), tempfile::tempdir().unwrap());
    let path = dir.path().display();
    for (name, seed) in [("a", 1), ("b", 2)] {
        let flags = format!("--closed -n 40 -c 4 --seed {seed} --no-verify --json {path}/{name}.json");
        let output = call(&format!("run http://{} --item 1 {flags}", fake.public));
        assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    }
    let output = call(&format!("report {path}/a.json"));
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let page = std::fs::read_to_string(dir.path().join("a.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("10 purchases won"), "{page}");
    assert_eq!(call(&format!("report {path}/a.json -o -")).stdout, page.into_bytes());
    let output = call(&format!("compare {path}/a.json {path}/b.json --json {path}/ab"));
    let text = words(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in ["  ! seed differs: 1 and 2", "  ! A was not verified", "  ! B was not verified"] {
        assert!(text.lines().any(|known| known == line), "no `{line}` in\n{text}");
    }
    assert!(text.lines().any(|line| line.starts_with("  winners  ") && line.contains("0.000")), "{text}");
    let json: Value = serde_json::from_slice(&std::fs::read(dir.path().join("ab")).unwrap()).unwrap();
    assert_eq!(json["warnings"].as_array().map(Vec::len), Some(3), "{json}");
}

#[test]
fn what_is_no_record_gets_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    let mut older = record();
    older["format"] = json!("stampede-loadgen-report-1");
    let mut damaged = record();
    damaged["outcomes"] = json!({ "won": "many" });
    for (name, text, expected) in [
        ("older.json", older.to_string(), "`stampede-loadgen-report-1`"),
        ("damaged.json", damaged.to_string(), "damaged record"),
        ("foreign.json", r#"{"metrics":{}}"#.to_owned(), "not the record of a run"),
        ("cut.json", record().to_string()[..100].to_owned(), "is not JSON"),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
        for flags in [format!("report {path}/{name}"), format!("compare {path}/{name} {path}/{name}")] {
            let output = call(&flags);
            let text = words(&output);
            assert_eq!(output.status.code(), Some(1), "`{flags}` said {text}");
            assert!(text.contains(expected) && text.contains(name) && text.lines().count() == 1, "{text}");
        }
    }
    for (flags, code, expected) in [
        (format!("report {path}/nobody.json"), 1, "cannot read"),
        ("compare a".to_owned(), 2, "B.json"),
        (format!("report {path}/nobody.html"), 1, "cannot read"),
    ] {
        let output = call(&flags);
        assert_eq!(output.status.code(), Some(code), "{}", words(&output));
        assert!(
            words(&output).contains(expected) && words(&output).lines().count() == 1,
            "{}",
            words(&output)
        );
    }
    std::fs::write(dir.path().join("r.html"), record().to_string()).unwrap();
    let output = call(&format!("report {path}/r.html"));
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(words(&output).contains("would overwrite the record"), "{}", words(&output));
}

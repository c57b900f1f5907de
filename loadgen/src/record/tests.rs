//! A record to test with, and what reading one refuses.

use serde_json::{Value, json};

use super::*;
use crate::check::Ruling;
use crate::meaning::Class;

fn counts(pairs: &[(&str, u64)]) -> Counts {
    pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
}

fn latency(count: u64, p99: u64) -> Latency {
    let curve = (0..=24).map(|step| {
        let left = 10f64.powf(-f64::from(step) / 8.0);
        (((1.0 - left) * 1e7).round() / 1e7, (p99 as f64 * (0.1 / left).powf(0.5)) as u64)
    });
    Latency {
        count,
        mean: p99 / 3,
        p50: p99 / 4,
        p75: p99 / 3,
        p90: p99 / 2,
        p95: p99 * 3 / 4,
        p99,
        p999: p99 * 2,
        p9999: p99 * 3,
        max: p99 * 4,
        curve: curve.collect(),
    }
}

fn slice(index: u64) -> SliceRecord {
    let (won, sold_out) = if index < 9 { (100, 0) } else { (0, 80 * u64::from(index == 9)) };
    let mut outcomes = counts(&[("won", won), ("sold_out", sold_out)]);
    outcomes.retain(|_, count| *count > 0);
    let p50 = 400_000 + 50_000 * index;
    let latency_ns = SliceLatency { p50, p99: 4 * p50, p999: 9 * p50, max: 11 * p50 };
    SliceRecord { due: 100, outcomes, latency_ns: (index != 4).then_some(latency_ns) }
}

/// 900 won, 80 sold out, 15 timed out, 5 unsent in one second; p99 4 ms, of winners 3 ms.
pub(crate) fn sample() -> Record {
    const MS: u64 = 1_000_000;
    let config = json!({
        "server": "127.0.0.1:7070", "host": "localhost:7070", "mode": "open", "target_per_s": 1000.0,
        "shape": [], "coordinated_omission_corrected": true, "connections": 64, "threads": 1, "pipeline": 1, "keep_alive": true,
        "duration_ms": 1000, "requests": null, "timeout_ms": 5000, "ride_out_ms": 30000, "request": null,
        "item": 1, "items": 1, "zipf": 0.0, "quantity": 1, "auth": "header", "users": null, "levels": null,
        "repeat": 0.0, "double_click": 0.0, "browse": 0.0, "flow": "purchase", "pay": 0.0, "pay_late": 0.0,
        "cancel": 0.0, "headers": ["X-Region: eu"], "seed": 7u64,
    });
    let limits = Limits {
        nofile: Some(1_024),
        nofile_max: None,
        memlock_bytes: Some(8 << 20),
        ports: Some((32_768, 60_999)),
    };
    Record {
        format: FORMAT.to_owned(),
        version: "0.1.0".to_owned(),
        began_at_ms: 1_795_442_400_000,
        command: vec!["run".to_owned(), "http://localhost:7070".to_owned()],
        machine: Machine {
            kernel: "6.18.0".to_owned(),
            arch: "x86_64".to_owned(),
            cores: 2,
            cpu_model: Some("Test".to_owned()),
            memory_bytes: Some(24 << 30),
            limits,
        },
        config: with_optional(config),
        elapsed_ns: 1_000 * MS,
        achieved_per_s: 980.0,
        kept_up: KeptUp::Yes,
        generator: Generator {
            cpu_ns: 100 * MS,
            busy_share: 0.1,
            waited_share: 0.01,
            stall_ns_max: MS,
            requests_per_cpu_s: 10_000.0,
            send_lag_ns: Some(Latency { curve: Vec::new(), ..latency(1_000, MS / 10) }),
        },
        requests_sent: 1_010,
        late: 0,
        reconnects: 1,
        received_bytes: 230_000,
        outcomes: counts(&[("won", 900), ("sold_out", 80), ("timed_out", 15), ("unsent", 5)]),
        tried_again: counts(&[("reset", 10)]),
        statuses: counts(&[("201", 900), ("409", 80)]),
        orders_acked: Some(900),
        latency_ns: Latencies {
            winners: Some(latency(900, 3 * MS)),
            refusals: Some(latency(80, 2 * MS)),
            unknown: Some(latency(15, 5_000 * MS)),
            unsent: Some(latency(5, 100 * MS)),
            all: Some(latency(1_000, 4 * MS)),
        },
        steps: vec![StepRecord {
            name: "state".to_owned(),
            outcomes: counts(&[("ok", 1_000)]),
            latency_ns: Some(Latency { curve: Vec::new(), ..latency(1_000, MS) }),
        }],
        timeline: TimelineRecord { slice_ms: 100, slices: (0..10).map(slice).collect() },
        stock: Some(Stock { samples: (0..5).map(|n| (n * 250, 1_000 - 250 * n as i64)).collect() }),
        interrupted: false,
        gave_up: None,
        verdict: Some(VerdictRecord {
            ruling: Ruling::Fine,
            fine: true,
            words: "fine: 900 orders, 900 acks compared with them".to_owned(),
            has_books: true,
            orders: 900,
            acks: 900,
            recalled: 0,
            postgres_orders: None,
            not_asked: Vec::new(),
            undecided: Vec::new(),
            nothing_let_in: None,
            violations_total: 0,
            violations: Vec::new(),
        }),
        not_verified: None,
        assertions: Vec::new(),
    }
}

fn with_optional(config: Value) -> Settings {
    serde_json::from_value(config).expect("the sample has every setting")
}

fn read(value: &Value) -> Result<Record, String> {
    Record::read(value.to_string().as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn what_is_written_is_read() {
    let value = serde_json::to_value(sample()).unwrap();
    assert_eq!(read(&value).unwrap(), sample());
}

#[test]
fn what_is_no_record_of_this_version_gets_one_line() {
    let good = serde_json::to_value(sample()).unwrap();
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed
    };
    for (value, words) in [
        (json!({ "a": 1 }), "not the record of a run"),
        (json!([1]), "not the record of a run"),
        (with("format", json!("stampede-loadgen-report-1")), "make the run again"),
        (with("format", json!("stampede-loadgen-report-3")), "take the version that wrote it"),
        (with("elapsed_ns", json!("long")), "damaged record (invalid type"),
        (with("elapsed_ns", Value::Null), "damaged record"),
        (with("surprise", json!(1)), "unknown field `surprise`"),
        (with("timeline", json!({ "slice_ms": 0, "slices": [] })), "a slice of 0 ms"),
    ] {
        let error = read(&value).expect_err(words);
        assert!(error.contains(words) && !error.contains('\n'), "said: {error}");
    }
    let error = Record::read(b"{\"format\": ").unwrap_err().to_string();
    assert!(error.contains("is not JSON") && !error.contains('\n'), "said: {error}");
}

#[test]
fn outcomes_have_their_order_and_class() {
    let record = sample();
    let names: Vec<_> = in_order(&record.outcomes).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["won", "sold_out", "timed_out", "unsent"]);
    assert_eq!((record.errors(), record.class_count(Class::Refusal), record.total()), (20, 80, 1_000));
    assert_eq!(class_of("a_code_of_a_later_version"), Class::Refusal);
}

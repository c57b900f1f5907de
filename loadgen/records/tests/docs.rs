//! The docs show what the records say; `UPDATE_FIGURES=1` (`make figures`) writes them so.

use std::fs;
use std::path::Path;

use stampede_records::files::{parse, read};
use stampede_records::machine::Machine;
use stampede_records::pages::{PAGES, RECORDS, render, root};
use stampede_records::record::{Record, Row, Value};
use stampede_records::series::Records;
use stampede_records::{Recorder, figures};

fn records() -> Records {
    Records::read(&root().join(RECORDS)).expect("sound records")
}

#[test]
fn the_docs_show_what_the_records_say() {
    let (records, update) = (records(), std::env::var_os("UPDATE_FIGURES").is_some());
    for page in PAGES {
        let path = root().join(page);
        let text = fs::read_to_string(&path).expect(page);
        let (rendered, blocks) = render(&text, &records).unwrap_or_else(|what| panic!("{page}: {what}"));
        assert!(blocks > 0, "{page} shows no figures");
        if update {
            fs::write(&path, rendered).expect(page);
            continue;
        }
        let differs = text.lines().zip(rendered.lines()).find(|(one, other)| one != other);
        if let Some((now, then)) = differs {
            panic!("{page} says\n  {now}\nwhere the records say\n  {then}\n`make figures` writes it");
        }
        assert!(text == rendered, "{page} ends otherwise: `make figures` writes it");
    }
}

#[test]
fn a_changed_figure_is_seen() {
    let records = records();
    let page = fs::read_to_string(root().join("docs/BENCHMARKS.md")).expect("the page");
    let (rendered, _) = render(&page, &records).expect("rendered");
    // Any digit of any table.
    for (at, _) in rendered.match_indices("| 1 |").take(1) {
        let mut edited = rendered.clone();
        let digit = at + edited[at..].find("(0.").expect("a range") + 3;
        edited.replace_range(digit..=digit, "X");
        let (again, _) = render(&edited, &records).expect("rendered");
        assert!(again != edited, "a changed digit stays");
        assert!(again == rendered, "rendered twice, it differs");
    }
}

#[test]
fn archived_records_are_sound_and_do_not_count() {
    let archive = root().join(RECORDS).join("archive");
    let archived = Records::read(&archive).expect("sound records");
    assert!(!archived.runs("serve", "").is_empty());
    let counted = records().runs("serve", "").len();
    assert_eq!(counted, Records::read(&root().join(RECORDS)).expect("records").runs("serve", "").len());
}

#[test]
fn a_marker_that_names_nothing_is_an_error() {
    let records = records();
    for (text, what) in [
        ("<!-- figures: serve nonsense -->\n<!-- figures: end -->", "names no block"),
        ("<!-- figures: nobody ratios -->\n<!-- figures: end -->", "names no block"),
        ("<!-- figures: serve ratios -->\n", "has no end"),
    ] {
        assert!(render(text, &records).expect_err(text).contains(what), "{text}");
    }
}

fn record(value: Value) -> Record {
    let machine = Machine {
        processors: "2 × a processor".into(),
        memory: "4 GiB".into(),
        kernel: "6.18".into(),
        system: "Debian".into(),
        note: String::new(),
    };
    let figure = figures::figure("serve", "1");
    let (key, name, unit) = (figure.key.to_owned(), figure.name.to_owned(), figure.unit.to_owned());
    Record {
        schema: 1,
        bench: "serve".into(),
        variant: String::new(),
        date: "2026-11-30".into(),
        commit: "0123456789ab and changes".into(),
        machine,
        load_before: Some(0.5),
        command: "make bench".into(),
        setting: String::new(),
        transcribed: None,
        rows: vec![Row { figure: key, name, unit, value }],
        notes: Vec::new(),
    }
}

#[test]
fn several_runs_are_one_median_and_one_range() {
    let runs = [vec![0.9, 1.0, 1.3], vec![1.1, 1.2, 1.2], vec![0.8, 0.95, 1.0]];
    let records = Records::of(runs.into_iter().map(|samples| record(Value::Samples(samples))).collect());
    let spread = records.spread("serve", "1").expect("measured");
    assert_eq!((spread.median, spread.low, spread.high, spread.runs), (1.0, 0.8, 1.3, 3));
    let (page, _) =
        render("<!-- figures: serve ratios -->\n<!-- figures: end -->", &records).expect("rendered");
    assert!(
        page.contains("| 1 | sold-out answer ÷ bare, CPU, keep-alive | ≤ 1.1 | 1.00 (0.80–1.30) | 3 | met |"),
        "{page}"
    );
}

#[test]
fn what_was_not_measured_is_left_out() {
    let records = Records::of(vec![record(Value::NotMeasured("no such kernel".into()))]);
    assert_eq!(records.spread("serve", "1"), None);
    let (page, _) =
        render("<!-- figures: capacity cores -->\n<!-- figures: end -->", &records).expect("rendered");
    assert!(page.contains("Not computed: no run has measured serve 1.cpu."), "{page}");
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let one = record(Value::Samples(vec![1.0, 1.01]));
    let paths = [(); 2].map(|()| one.write_into(dir.path()).expect("written"));
    let names = paths.each_ref().map(|path| path.file_name().and_then(|name| name.to_str()).expect("a name"));
    assert_eq!(names, ["serve-2026-11-30-0123456.json", "serve-2026-11-30-0123456-2.json"]);
    assert_eq!(read(&paths[1]).expect("read"), one);
}

#[test]
fn what_no_bench_writes_is_refused() {
    let text = serde_json_text(&record(Value::Samples(vec![1.0, 2.0])));
    parse(&text).expect("sound");
    for (from, to, what) in [
        ("\"schema\":1", "\"schema\":2", "schema 2"),
        ("\"figure\":\"1\"", "\"figure\":\"99\"", "no figure 99"),
        ("\"unit\":\"ratio\"", "\"unit\":\"µs\"", "is in ratio, not in µs"),
        ("[1.0,2.0]", "[2.0,1.0]", "no measurement"),
        ("[1.0,2.0]", "[]", "no measurement"),
        ("\"samples\"", "\"simples\"", "unknown variant"),
        ("\"notes\"", "\"knots\"", "unknown field"),
    ] {
        let edited = text.replace(from, to);
        assert_ne!(edited, text, "{from}");
        let refused = parse(&edited).expect_err(to);
        assert!(refused.contains(what), "{to}: {refused}");
    }
}

fn serde_json_text(record: &Record) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let path = record.write_into(dir.path()).expect("written");
    fs::read_to_string(path).expect("read").split_whitespace().collect::<String>()
}

#[test]
fn a_recorder_writes_only_where_it_is_told() {
    let mut recorder = Recorder::new("serve", env!("CARGO_MANIFEST_DIR")).with_setting("small".into());
    recorder.add("1", vec![1.2, 1.0]);
    recorder.add_not_measured("11", "few descriptors");
    assert_eq!(recorder.record().value("1"), Some(&Value::Samples(vec![1.0, 1.2])));
    assert!(std::env::var_os(stampede_records::record::DIRECTORY_VARIABLE).is_none(), "tests record nothing");
    assert_eq!(recorder.finish().expect("nothing to write"), None);
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).ends_with("records"));
}

/// As `stampede-classic --json` and `stampede-classic kill --json` write it, but for fields that no table shows.
const SALES: &str = r#"{"format": "stampede-loadgen-classic-2", "version": "0.1.0", "began_at_ms": 1796065000000,
    "commit": "0123456789ab+", "machine": {"kernel": "6.18", "cores": 2, "cpu": "a processor", "load1": 0.3},
    "versions": {"postgres": "15.18 (Debian)", "redis": null},
    "config": {"designs": ["redis-lua"], "stock": 20000, "refusals": 1000, "connections": 64, "pairs": 2, "limit_per_s": 500}, "rows": [
    {"name": "redis-lua", "winners_per_s": 20000.0, "refusals_per_s": 100000.0, "sale": {"p50_ns": 1, "p99_ns": 3000000, "p999_ns": 9},
     "winners": {"p50_ns": 1, "p99_ns": 3000000, "p999_ns": 9}, "statements_per_winner": null, "commits_per_winner": 0.005,
     "cpu_s_per_1000_winners": 0.12, "cpu_s_per_1000_refusals": 0.009, "counted": null, "oversold": 0, "undersold": 0},
    {"name": "stampede", "winners_per_s": 30000.0, "refusals_per_s": 200000.0, "sale": {"p50_ns": 1, "p99_ns": 2000000, "p999_ns": 9},
     "winners": {"p50_ns": 1, "p99_ns": 2000000, "p999_ns": 9}, "statements_per_winner": null, "commits_per_winner": 0.002,
     "cpu_s_per_1000_winners": 0.05, "cpu_s_per_1000_refusals": 0.005, "counted": null, "oversold": 0, "undersold": 0},
    {"name": "redis-lua", "winners_per_s": 22000.0, "refusals_per_s": 110000.0, "sale": {"p50_ns": 1, "p99_ns": 5000000, "p999_ns": 9},
     "winners": {"p50_ns": 1, "p99_ns": 5000000, "p999_ns": 9}, "statements_per_winner": null, "commits_per_winner": 0.005,
     "cpu_s_per_1000_winners": null, "cpu_s_per_1000_refusals": 0.009, "counted": null, "oversold": 0, "undersold": 0}]}"#;
const KILLS: &str = r#"{"format": "stampede-classic-kill-1", "version": "0.1.0", "began_at_ms": 1796065000000, "commit": null,
    "machine": {"kernel": "6.18", "cores": 2, "cpu": null, "load1": null},
    "config": {"stock": 3000, "per_s": 1000.0, "connections": 64, "rounds": 2}, "rows": [
    {"name": "redis-lua", "fault": "power-cut", "acked": 3310, "lost": 1, "oversold": 310, "undersold": 0, "over_cap": 9, "changed": 0,
     "unknown": 0, "away_ms": 400},
    {"name": "redis-lua", "fault": "power-cut", "acked": 4290, "lost": 0, "oversold": 1290, "undersold": 0, "over_cap": 0, "changed": 2,
     "unknown": 0, "away_ms": 200},
    {"name": "redis-lua", "fault": "kill", "acked": 3000, "lost": 0, "oversold": 0, "undersold": 0, "over_cap": 0, "changed": 0,
     "unknown": 0, "away_ms": 200},
    {"name": "stampede", "fault": "kill", "acked": 3000, "lost": 0, "oversold": 0, "undersold": 0, "over_cap": 0, "changed": 0,
     "unknown": 0, "away_ms": 2000}]}"#;

/// The lines of a block that name one of these.
fn lines(records: &Records, block: &str, names: &[&str]) -> Vec<String> {
    let marked = format!("<!-- figures: {block} -->\n<!-- figures: end -->");
    let (page, _) = render(&marked, records).expect("rendered");
    let named = |line: &&str| names.iter().any(|name| line.contains(name));
    page.lines().filter(named).map(str::to_owned).collect()
}

#[test]
fn a_comparison_is_a_record_and_the_readmes_table() {
    let files = [SALES, KILLS].map(|text| parse(text).expect("sound"));
    assert_eq!((files[0].date.as_str(), files[0].load_before), ("2026-11-30", Some(0.3)));
    let records = Records::of(files.to_vec());
    assert_eq!(
        lines(&records, "rivals English", &[" ms |"]),
        [
            "| Redis + Lua, worker to Postgres, AOF `everysec` | 21,000 | 4.00 ms | 120 µs | 0 / 0 | 1 / 1,290 |",
            "| **Stampede** | 30,000 | 2.00 ms | 50 µs | 0 / 0 | - |"
        ]
    );
    let unknown = SALES.replace("redis-lua", "somebody");
    assert!(parse(&unknown).expect_err("unknown").contains("no figure somebody.winners"));
}

#[test]
fn the_page_of_designs_shows_one_run_and_its_rounds() {
    let records = Records::of([SALES, KILLS].map(|text| parse(text).expect("sound")).to_vec());
    assert_eq!(
        lines(&records, "classics rivals", &["`redis-lua`", "Measured"]),
        [
            "| `redis-lua` | 21,000 (20,000–22,000) | 105,000 | 0.0 µs | 4.00 ms (3.00 ms–5.00 ms) | 0.0 µs | 4.00 ms | 0 | 0 \
             | 0.0050 tx | 0.12 ms | 9.0 µs |",
            "20,000 units, closed loop over 64 connections, then 1,000 refusals; medians of 2 rounds. Measured 2026-11-30 at \
             commit 0123456 on 2 × a processor, Linux 6.18, Postgres 15.18, load before 0.3: `stampede-classic --designs \
             redis-lua --stock 20000 --requests 21000 -c 64 --pairs 2`",
        ]
    );
    assert_eq!(
        lines(&records, "classics rivals-compared", &["`redis-lua`"]),
        ["| `redis-lua` | 1.43 | 0.50 | 0.42 | 0.56 |"]
    );
    // The worst of each column, but the median of the time away.
    assert_eq!(
        lines(&records, "classics losses", &["power cut"]),
        ["| `redis-lua` | power cut | 4,290 | 1 | 1,290 | 0 | 9 | 2 | 0 | 0.30 (0.20–0.40) s |"]
    );
    assert_eq!(lines(&records, "classics designs", &["Not measured yet."]).len(), 1);
}

/// What of a page is not written from records.
fn prose(page: &str) -> String {
    let text = fs::read_to_string(root().join(page)).expect(page);
    let mut blocks = text.split("<!-- figures: ");
    let first = blocks.next().unwrap_or_default().to_owned();
    // After the begin of a block comes its table; after its end comes prose again.
    blocks.filter_map(|part| part.strip_prefix("end -->")).fold(first, |prose, part| prose + part)
}

/// A time in a sentence is a figure that no run brings up to date.
#[test]
fn measured_times_stand_in_rendered_blocks_only() {
    for page in ["docs/BENCHMARKS.md", "docs/CAPACITY.md", "docs/CLASSICS.md"] {
        let prose = prose(page);
        for line in prose.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_time = |pair: &&[&str]| {
                let unit = pair[1].trim_end_matches(|sign: char| sign.is_ascii_punctuation());
                pair[0].ends_with(|digit: char| digit.is_ascii_digit()) && ["ns", "µs", "ms"].contains(&unit)
            };
            let time = words.windows(2).find(is_time);
            assert!(time.is_none(), "{page} says {time:?} outside of a block: {line}");
        }
    }
}

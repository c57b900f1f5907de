//! Batches as a target of the engine, against a server that takes them: all of it adds up in both loops, and
//! what a server does wrong ends the run with its name.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use stampede_loadgen::assert::Assertion;
use stampede_loadgen::batch::{BatchError, Format, Load, Mode, Plan, Trouble, run, run_under};
use stampede_loadgen::engine;
use stampede_loadgen::meaning::Code;
use stampede_loadgen::record::Record;

const STOCK: u64 = 5_000;
const ITEMS: u32 = 3;

/// What the server does to the request with this number, from 0.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    HangsUp(u64),
    OneAnswerTooFew(u64),
    Refuses(u64),
}

type Sold = Arc<Mutex<(u64, HashMap<u64, u64>)>>;

/// A server of JSON lines; it ends with the process.
fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let sold = Sold::default();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let sold = Arc::clone(&sold);
            thread::spawn(move || serve(&stream.unwrap(), &sold, fault));
        }
    });
    addr
}

fn serve(stream: &TcpStream, sold: &Sold, fault: Fault) {
    let (mut reader, mut out) = (BufReader::new(stream), stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.strip_prefix("Content-Length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut sold = sold.lock().unwrap();
        let number = sold.0;
        sold.0 += 1;
        if fault == Fault::HangsUp(number) {
            return;
        }
        let mut lines: Vec<String> = body.lines().map(|line| answer(&line.unwrap(), &mut sold.1)).collect();
        drop(sold);
        if fault == Fault::OneAnswerTooFew(number) {
            lines.pop();
        }
        let status = if fault == Fault::Refuses(number) { "503 Busy" } else { "200 OK" };
        let body = lines.concat();
        let sent = write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if sent.is_err() {
            return;
        }
    }
}

fn answer(record: &str, sold: &mut HashMap<u64, u64>) -> String {
    let record: Value = serde_json::from_str(record).unwrap();
    let order = |status: u16, order: u64, state: &str| {
        let item = order >> 32;
        format!(
            "{{\"status\":{status},\"order_id\":\"{order}\",\"item_id\":{item},\"quantity\":1,\"state\":\"{state}\",\
             \"created_at_ms\":1}}\n"
        )
    };
    if record["kind"] == "pay" {
        return order(200, record["order_id"].as_str().unwrap().parse().unwrap(), "paid");
    }
    let item = record["item_id"].as_u64().unwrap();
    let seq = sold.entry(item).or_default();
    if *seq == STOCK {
        return "{\"status\":409,\"code\":\"sold_out\"}\n".to_owned();
    }
    *seq += 1;
    order(201, item << 32 | *seq, "held")
}

fn plan(addr: SocketAddr, mode: Mode, count: u64) -> Plan {
    let (token, format) = ("t".to_owned(), Format::Jsonl);
    let (item, items, stock, batch, pipeline, tag) = (9, ITEMS, STOCK, 1_000, 4, 7);
    Plan { addr, token, item, items, stock, count, batch, pipeline, format, mode, tag }
}

#[test]
fn a_closed_run_adds_up() {
    let report = run(&plan(start(Fault::None), Mode::HoldAndPay, 9_500)).unwrap();
    assert_eq!((report.winners, report.refused, report.paid, report.answers), (9_500, 0, 9_500, 19_000));
    assert_eq!(report.latency_ns.len(), 19_000);
    let report = run(&plan(start(Fault::None), Mode::SoldOut, 20_000)).unwrap();
    assert_eq!((report.winners, report.refused), (u64::from(ITEMS) * STOCK, 5_000));
}

#[test]
fn an_open_run_over_several_connections_is_asserted_of() {
    let plan = plan(start(Fault::None), Mode::Winners, 12_000);
    let load = Load { mode: engine::Mode::open(20_000.0), connections: 3, threads: 2 };
    let config = plan.config(&load);
    let report = run_under(&config, &plan).unwrap();
    assert_eq!((report.winners, report.outcome.tally.sent), (12_000, 12));
    // Twelve batches at twenty a second.
    assert!(report.elapsed.as_millis() >= 500, "{:?}", report.elapsed);
    let mut record = Record::new(&config, &report.outcome, None);
    let due: u64 = record.timeline.slices.iter().map(|slice| slice.due).sum();
    assert_eq!((record.count(Code::Won.name()), due), (12_000, 12_000));
    record.assert(&["winners==12000", "winners>12000"].map(|text| Assertion::parse(text).unwrap()));
    assert_eq!(record.assertions.iter().map(|assertion| assertion.holds).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn what_a_server_does_wrong_ends_the_run() {
    let of = |fault| run(&plan(start(fault), Mode::Winners, 9_000)).map(|report| report.winners);
    let error = of(Fault::OneAnswerTooFew(3)).unwrap_err();
    assert!(
        matches!(&error, BatchError::Trouble(Trouble::Broken(what)) if what.contains("fewer answers")),
        "{error}"
    );
    let error = of(Fault::Refuses(2)).unwrap_err();
    assert!(
        matches!(&error, BatchError::Trouble(Trouble::Refused(what)) if what.starts_with("503")),
        "{error}"
    );
    let error = of(Fault::HangsUp(4)).unwrap_err();
    assert!(matches!(error, BatchError::Lost { unanswered, .. } if unanswered >= 1_000), "{error}");
}

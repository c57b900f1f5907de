//! Row 9: purchases of one hot item beside purchases spread evenly over 100,000 items.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;
use stampede_loadgen::meaning::Code;
use stampede_loadgen::workload::{Items, Target, Workload};

use crate::load::Leg;
use crate::server::{ADMIN_TOKEN, Flags, ServerProcess, answer_bytes, item_body};
use crate::table::Table;
use crate::{Bench, PLENTY, fresh_seed, ratios};

const ITEMS: u32 = 100_000;
/// The first of them, apart from the items that every server has.
const FIRST: u32 = 1_001;
/// Units of each: more than come to one item in all legs.
const UNITS: u64 = 10_000;
/// Connections over which the items are put on sale, and requests under way on each.
const WRITERS: u32 = 16;
const UNDER_WAY: usize = 32;

/// Adds the row.
pub(crate) fn hot_beside_uniform(bench: &Bench, table: &mut Table) {
    let server = ServerProcess::start(bench, &Flags::default());
    put_items(server.admin);
    let even = Items { first: FIRST, count: ITEMS, zipf: 0.0 };
    let rounds = bench.rounds(["one item/s", "100,000 items/s"], || {
        [Items::one(PLENTY), even].map(|items| {
            let plain = Workload::purchases(PLENTY, fresh_seed());
            let workload = Workload { target: Target::Purchase { items }, ..plain };
            Leg::closed(server.addr, workload, Code::Won, bench.size.leg).run(bench.cpus).per_s()
        })
    });
    table.add("9", ratios(&rounds));
}

/// Puts them all on sale, many at a time: one by one each would wait for a write to the disk.
fn put_items(admin: SocketAddr) {
    let body = item_body(UNITS, &json!({})).to_string();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let body = &body;
            let own = (FIRST..FIRST + ITEMS).skip(writer as usize).step_by(WRITERS as usize);
            scope.spawn(move || put_pipelined(admin, own.collect::<Vec<_>>().as_slice(), body));
        }
    });
}

fn put_pipelined(admin: SocketAddr, items: &[u32], body: &str) {
    let mut stream = TcpStream::connect(admin).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time");
    for some in items.chunks(UNDER_WAY) {
        let requests: String = some.iter().map(|item| put(admin, *item, body)).collect();
        stream.write_all(requests.as_bytes()).expect("sent");
        read_answers(&mut stream, some.len());
    }
}

fn put(admin: SocketAddr, item: u32, body: &str) -> String {
    let length = body.len();
    format!(
        "PUT /admin/items/{item} HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn read_answers(stream: &mut TcpStream, count: usize) {
    let (mut bytes, mut room, mut left) = (Vec::new(), [0; 16 * 1024], count);
    while left > 0 {
        while let Some(length) = answer_bytes(&bytes) {
            assert!(bytes.starts_with(b"HTTP/1.1 20"), "{}", bytes[..length].escape_ascii());
            bytes.drain(..length);
            left -= 1;
        }
        if left > 0 {
            let received = stream.read(&mut room).expect("an answer");
            assert!(received > 0, "closed before the last answer");
            bytes.extend_from_slice(&room[..received]);
        }
    }
}

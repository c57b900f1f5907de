//! Two readers, one stream: requests are made by a grammar, spoilt, and read by both.
//!
//! The seed is that of the day, is printed, and `STAMPEDE_SEED` repeats it. What the two disagree
//! about is made smaller before it is shown.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::compare::check;

/// Streams that are read by both; about twelve seconds on two cores.
const STREAMS: u64 = 1_500_000;

/// A stream of numbers: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
/// Generators, 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }
    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

const METHODS: [&str; 12] =
    ["GET", "POST", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "G!T"];
const TARGETS: [&str; 30] = [
    "/",
    "/v1/time",
    "/v1/items/7/orders",
    "/v1/orders/batch",
    "/v1/items/7/orders?x=1",
    "/v1/items/07/ticket",
    "/v1/items/7/ticket",
    "/v1/orders/4294967297/cancel",
    "/v1/orders/batch",
    "/sale/7",
    "/a%20b",
    "/a%2",
    "*",
    "http://a",
    "http://a/v1/time",
    "HTTP://A:80?x",
    "http://b/",
    "http:///",
    "https://a/",
    "//a",
    "?",
    "a:80",
    "/\u{e4}",
    "/x?y?z=/@:",
    "/?a=|{}[]^`\\\"<>",
    "/sale/7?\u{e4}#%",
    "/|",
    "http://[::1]:7/x",
    "https://a?|",
    "/healthz",
];
const VERSIONS: [&str; 8] =
    ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1"];
const HOSTS: [&str; 12] =
    ["a", "a", "a", "A:80", "[::1]:7", "a:", "a:123456", "", "a b", "[x]", "a%2", "a,b"];
const LENGTHS: [&str; 18] = [
    "2",
    "2",
    "0",
    "1",
    "3",
    "02",
    "+2",
    "-1",
    "2,2",
    "0x2",
    "2 ",
    "",
    "4096",
    "4097",
    "65536",
    "65537",
    "18446744073709551616",
    "2\u{b}",
];
const FIELDS: [&str; 30] = [
    "Transfer-Encoding: chunked",
    "transfer-encoding: identity",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: x, Close;q=1",
    "Expect: 100-continue",
    "Expect: other",
    "X-Buyer: b",
    "x-buyer:c",
    "X-Buyer-Level: 1",
    "Authorization: Bearer x",
    "Cookie: a=b; c=d",
    "Origin: http://a",
    "Prefer: respond-async",
    "Prefer: a, Respond-Async;b",
    "Idempotency-Key: \"k\"",
    "If-None-Match: *",
    "X-Forwarded-For: 1.2.3.4, 5.6.7.8",
    "Accept-Encoding: gzip",
    "X: y",
    "X:",
    "X: \t y \t",
    "X : y",
    " X: y",
    "X",
    ": y",
    "X\u{e4}: y",
    "X: \u{e4}",
    "X: a\u{1}b",
    "Sec-Fetch-Site: none",
];
/// Bytes that grammars hang on.
const NASTY: [u8; 20] = *b"\r\n\r\n \t:,;\0\x0b\x7f\x80\xff%?#-+0";

/// A request, right more often than not.
fn request(dice: &mut Dice, out: &mut Vec<u8>) {
    if dice.one_in(12) {
        out.extend_from_slice(b"\r\n");
    }
    let usual = !dice.one_in(4);
    let method = if usual { dice.pick(&METHODS[..4]) } else { dice.pick(&METHODS) };
    let target = if usual { dice.pick(&TARGETS[..7]) } else { dice.pick(&TARGETS) };
    let version = if usual { "HTTP/1.1" } else { dice.pick(&VERSIONS) };
    let mut head = format!("{method} {target} {version}\r\n");
    let mut lines: Vec<String> = Vec::new();
    for _ in 0..if dice.one_in(12) { dice.below(3) } else { 1 } {
        lines.push(format!("Host: {}", if usual { "a" } else { dice.pick(&HOSTS) }));
    }
    let in_chunks = dice.one_in(4).then(|| chunks(dice));
    let (says, len) = match &in_chunks {
        Some(_) => (None, 0),
        None => length(dice, method, usual),
    };
    lines.extend(says.map(|says| format!("Content-Length: {says}")));
    lines.extend(in_chunks.iter().map(|_| "Transfer-Encoding: chunked".to_owned()));
    let plain = if dice.one_in(3) { &FIELDS[..] } else { &FIELDS[5..22] };
    for _ in 0..dice.below(4) {
        let line = dice.pick(plain).to_owned();
        lines.insert(dice.below(lines.len() + 1), line);
    }
    lines.extend((0..size_of_flood(dice)).map(|number| format!("X{number}: y")));
    if dice.one_in(30) {
        lines.push(format!("X: {}", "y".repeat(7_900 + dice.below(400))));
    }
    lines.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend((0..len).map(|at| b"{\"quantity\":1}"[at % 14]));
    out.extend(in_chunks.unwrap_or_default());
}

const EXTENSIONS: [&str; 9] = [";a", ";a=b;c", "; a=\"b c\"", ";\u{e4}", ";", " ;a", " ", ";\u{1}", ";\n"];

/// A body in chunks, right more often than not.
fn chunks(dice: &mut Dice) -> Vec<u8> {
    let mut out = Vec::new();
    let extension = |dice: &mut Dice| if dice.one_in(8) { dice.pick(&EXTENSIONS) } else { "" };
    for _ in 0..dice.below(4) {
        let len = if dice.one_in(60) { 4_080 + dice.below(24) } else { 1 + dice.below(20) };
        let size = match dice.below(4) {
            0 => format!("{len:X}"),
            1 => format!("{len:0width$x}", width = 1 + dice.below(18)),
            _ => format!("{len:x}"),
        };
        out.extend_from_slice(format!("{size}{}\r\n", extension(dice)).as_bytes());
        out.extend((0..len).map(|at| b"{\"quantity\":1}"[at % 14]));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("{}{}\r\n", dice.pick(&["0", "0", "000"]), extension(dice)).as_bytes());
    for _ in 0..if dice.one_in(4) { dice.below(4) } else { 0 } {
        out.extend_from_slice(format!("{}\r\n", dice.pick(&FIELDS)).as_bytes());
    }
    for _ in 0..size_of_flood(dice) {
        out.extend_from_slice(b"X: y\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Now and then about as many fields as are taken.
fn size_of_flood(dice: &mut Dice) -> usize {
    if dice.one_in(40) { 60 + dice.below(6) } else { 0 }
}

/// What `Content-Length` says, and how long the body is.
fn length(dice: &mut Dice, method: &str, usual: bool) -> (Option<String>, usize) {
    let carries = ["POST", "PUT", "PATCH"].contains(&method);
    match (usual, carries) {
        (true, false) => (None, 0),
        (true, true) => {
            let len = if dice.one_in(60) { 4_090 + dice.below(12) } else { dice.below(40) };
            (Some(len.to_string()), len)
        }
        (false, _) if dice.one_in(3) => (None, 0),
        (false, _) => {
            let says = dice.pick(&LENGTHS);
            let len = says.trim().parse::<usize>().unwrap_or(2).min(70_000);
            (Some(says.to_owned()), if dice.one_in(3) { dice.below(5) } else { len })
        }
    }
}

/// One or several requests, perhaps spoilt.
fn stream(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + dice.below(3) {
        request(dice, &mut bytes);
    }
    if dice.one_in(2) {
        for _ in 0..1 + dice.below(3) {
            spoil(dice, &mut bytes);
        }
    }
    bytes
}

fn spoil(dice: &mut Dice, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.below(bytes.len());
    match dice.below(8) {
        0 => bytes[at] = dice.pick(&NASTY),
        1 => bytes.insert(at, dice.pick(&NASTY)),
        2 => {
            bytes.remove(at);
        }
        3 => bytes[at] ^= 1 << dice.below(8),
        4 => bytes.truncate(at),
        5 => {
            // A part of it stands twice.
            let part = bytes[at..bytes.len().min(at + 1 + dice.below(40))].to_vec();
            let to = dice.below(bytes.len() + 1);
            bytes.splice(to..to, part);
        }
        6 => {
            // One line end is another.
            let ends: Vec<usize> =
                bytes.windows(2).enumerate().filter(|(_, two)| *two == b"\r\n").map(|(at, _)| at).collect();
            if !ends.is_empty() {
                let end = ends[dice.below(ends.len())];
                let other =
                    dice.pick(&["\n", "\r", "\r\r\n", "\n\r", "\r\n ", "\r\n\t", "\r\n\r\n", " \r\n", ""]);
                bytes.splice(end..end + 2, other.bytes());
            }
        }
        _ => {
            let other = dice.pick(&FIELDS);
            bytes.splice(at..at, other.bytes());
        }
    }
}

/// Where the stream is cut.
fn cuts(dice: &mut Dice, len: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..dice.below(4)).map(|_| dice.below(len + 1)).collect();
    cuts.sort_unstable();
    cuts
}

/// Takes away whatever is not needed for the two to disagree.
fn shrink(bytes: &[u8], disagree: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut least = bytes.to_vec();
    let mut size = least.len().div_ceil(2).max(1);
    loop {
        let before = least.len();
        let mut at = 0;
        while at < least.len() {
            let mut less = least.clone();
            less.drain(at..(at + size).min(least.len()));
            if disagree(&less) {
                least = less;
            } else {
                at += size;
            }
        }
        if size == 1 && least.len() == before {
            return least;
        }
        size = (size / 2).max(1);
    }
}

fn seed_of_today() -> u64 {
    let named = std::env::var("STAMPEDE_SEED").ok().map(|seed| seed.parse().expect("a seed is a number"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    named.unwrap_or(now.as_secs() / 86_400)
}

/// Reads one stream with both; `None` if they agree, else what is wrong with the least of it.
fn disagreement(bytes: &[u8], cuts: &[usize]) -> Option<String> {
    check(bytes, cuts).err()?;
    let pieces = |bytes: &[u8]| -> Vec<usize> { (1..bytes.len()).collect() };
    // Cut everywhere it goes wrong, too, whatever cut it went wrong at; else it stays as it is.
    let least = shrink(bytes, |less| check(less, &pieces(less)).is_err());
    let why = check(&least, &pieces(&least)).err().or(check(bytes, cuts).err())?;
    Some(format!("{why}\nthe bytes, {} of {}:\n{}", least.len(), bytes.len(), least.escape_ascii()))
}

#[test]
fn both_readers_see_the_same_requests() {
    let seed = seed_of_today();
    println!("seed: STAMPEDE_SEED={seed}");
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(2) as u64;
    let counts = std::thread::scope(|scope| {
        let run = |part: u64| {
            let (mut requests, mut whole) = (0, 0);
            for number in (part..STREAMS).step_by(threads as usize) {
                let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number);
                let bytes = stream(&mut dice);
                let cuts = cuts(&mut dice, bytes.len());
                match check(&bytes, &cuts) {
                    Ok(found) => (requests, whole) = (requests + found, whole + usize::from(found > 0)),
                    Err(_) => {
                        let why = disagreement(&bytes, &cuts).unwrap_or_default();
                        panic!("STAMPEDE_SEED={seed}, stream {number}: {why}");
                    }
                }
            }
            (requests, whole)
        };
        let parts: Vec<_> = (0..threads).map(|part| scope.spawn(move || run(part))).collect();
        parts.into_iter().map(|part| part.join().expect("the readers agree")).collect::<Vec<_>>()
    });
    let requests: usize = counts.iter().map(|(requests, _)| requests).sum();
    let whole: usize = counts.iter().map(|(_, whole)| whole).sum();
    println!("{STREAMS} streams, {whole} with a request in them, {requests} requests");
    // A generator that makes nothing but rubbish, or nothing but good requests, tests little.
    assert!((STREAMS as usize / 4..STREAMS as usize * 9 / 10).contains(&whole), "{whole}");
}

#[test]
fn shrinking_keeps_what_matters() {
    let least = shrink(b"aaaXbbbYccc", |bytes| bytes.contains(&b'X') && bytes.contains(&b'Y'));
    assert_eq!(least, b"XY");
}

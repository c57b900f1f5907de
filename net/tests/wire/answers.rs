//! Answers as bytes: in a few words for the table, and without what time and counters change.

/// Everything that came back on one connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answers {
    pub(crate) bytes: Vec<u8>,
    /// The connection ends with the last answer.
    pub(crate) closes: bool,
    /// A request has begun and not ended.
    pub(crate) waits: bool,
}

/// `100 Continue` comes or not, as the client waits for it or not.
const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Values that are others in every run, with what stands around them.
const VARYING: [(&str, &[char]); 9] = [
    ("Date: ", &['\r']),
    ("Location: ", &['\r']),
    ("\"order_id\":\"", &['"']),
    ("\"ticket\":\"", &['"']),
    ("\"created_at_ms\":", NUMBER),
    ("\"expires_at_ms\":", NUMBER),
    ("\"opens_in_ms\":", NUMBER),
    ("\"lsn\":", NUMBER),
    ("\"now_ms\":", NUMBER),
];
/// What ends a number.
const NUMBER: &[char] = &[',', '}'];

impl Answers {
    /// The status and code of every answer, and what became of the connection.
    pub(crate) fn brief(&self) -> String {
        let mut words: Vec<String> = self.each().iter().map(|(head, body)| brief(head, body)).collect();
        if self.waits {
            words.push("waits".into());
        }
        let mut text = words.join(" | ");
        if self.closes {
            text.push_str(if text.is_empty() { "closes" } else { ", closes" });
        }
        text
    }

    /// How many units were bought; an order that is shown again is not among them.
    pub(crate) fn bought(&self) -> u64 {
        let each = self.each();
        let orders = each.iter().filter(|(head, body)| brief(head, body) == "201 confirmed");
        orders.map(|(_, body)| units(body)).sum()
    }

    /// The same bytes for the same answers: times, numbers of orders and the like are masked,
    /// after their lengths were checked.
    pub(crate) fn masked(&self) -> Vec<u8> {
        let mut masked = Vec::new();
        for (head, body) in self.each() {
            let (mut head, mut body) = (head, body);
            for (before, end) in VARYING {
                head = mask(&head, before, end);
                body = mask(&body, before, end);
            }
            let length = format!("Content-Length: {}\r\n", body.len());
            masked.extend_from_slice(mask(&head, "Content-Length: ", &['\r']).as_bytes());
            masked.extend_from_slice(length.as_bytes());
            masked.extend_from_slice(body.as_bytes());
        }
        masked.extend_from_slice(format!("closes={} waits={}", self.closes, self.waits).as_bytes());
        masked
    }

    /// The head of the first answer.
    pub(crate) fn first_head(&self) -> String {
        self.each().first().expect("an answer").0.clone()
    }

    /// Heads and bodies; interim answers are left out.
    fn each(&self) -> Vec<(String, String)> {
        let (mut rest, mut each) = (self.bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            if let Some(behind) = rest.strip_prefix(INTERIM) {
                rest = behind;
                continue;
            }
            let end = rest.windows(4).position(|part| part == b"\r\n\r\n").expect("an answer has a head");
            let head = String::from_utf8(rest[..end + 4].to_vec()).expect("heads are ASCII");
            check_head(&head);
            // What answers HEAD, and 304, says a length and has none.
            let bodiless = rest[end + 4..].is_empty() || rest[end + 4..].starts_with(b"HTTP/1.1 ");
            let length = if bodiless { 0 } else { length_of(&head) };
            let body = rest.get(end + 4..end + 4 + length).expect("an answer is as long as it says");
            // Assets may be compressed; they are compared by their length and heads.
            each.push((head, String::from_utf8_lossy(body).into_owned()));
            rest = &rest[end + 4 + length..];
        }
        each
    }
}

/// What holds for every answer: it says who may keep it, and if it stays, for how long the
/// connection does. Only what was found may be kept.
fn check_head(head: &str) {
    let lines = |name: &str| head.lines().filter_map(|line| line.strip_prefix(name)).collect::<Vec<_>>();
    let kept = lines("Cache-Control: ") != ["no-store"];
    assert_eq!(lines("Cache-Control: ").len(), 1, "{head}");
    assert!(!kept || ["200", "304"].contains(&&head[9..12]), "{head}");
    assert!(!kept || lines("Vary: ").len() == 1, "{head}");
    let closes = lines("Connection: ") == ["close"];
    assert_eq!(lines("Keep-Alive: "), if closes { &[][..] } else { &["timeout=75"] }, "{head}");
}

fn length_of(head: &str) -> usize {
    let mut lines = head.lines().filter_map(|line| line.strip_prefix("Content-Length: "));
    lines.next().map_or(0, |length| length.parse().expect("a number"))
}

fn brief(head: &str, body: &str) -> String {
    let status = head.split(' ').nth(1).expect("a status");
    let mut words = vec![status.to_owned()];
    words.extend(["\"code\":\"", "\"state\":\""].iter().filter_map(|name| value(body, name)).take(1));
    if head.contains("Idempotent-Replay: true") {
        words.push("again".into());
    }
    if body.starts_with("{\"ticket\"") {
        words.push("ticket".into());
    }
    words.join(" ")
}

fn value(body: &str, name: &str) -> Option<String> {
    let at = body.find(name)? + name.len();
    Some(body[at..].split('"').next().unwrap_or_default().to_owned())
}

/// The quantity of an order.
fn units(body: &str) -> u64 {
    let (_, rest) = body.split_once("\"quantity\":").expect("an order has a quantity");
    rest.split(NUMBER).next().and_then(|digits| digits.parse().ok()).expect("a number")
}

fn mask(text: &str, before: &str, end: &[char]) -> String {
    let Some(at) = text.find(before) else { return text.to_owned() };
    let value_at = at + before.len();
    let len = text[value_at..].find(end).unwrap_or(0);
    format!("{}#{}", &text[..value_at], &text[value_at + len..])
}

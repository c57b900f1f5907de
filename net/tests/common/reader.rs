//! A second reader of requests: slow, plain, and strict to the letter of RFC 9112.
//!
//! It shares nothing with the reader of the server, so that the two can be compared. Each rule
//! stands here as the grammar has it, over one request at a time; where the server is stricter
//! than the RFC on purpose (see `net/src/http.rs`), the rule says "house rule". It never looks at
//! a byte without saying which production it belongs to.

/// What the bytes at a place are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// A request, and so many bytes of it.
    Whole(Box<Message>, usize),
    /// No request, whatever follows.
    Refused(&'static str),
    /// The beginning of one.
    Unfinished {
        /// Whether its head has ended, so that only its body is awaited.
        in_body: bool,
    },
    /// Nothing, or one empty line.
    Nothing,
}

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) method: String,
    /// Minor version: 0 or 1.
    pub(crate) minor: u8,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    /// Names in lower case, values without the space around them, in order.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// Whether the connection ends after it.
    pub(crate) closes: bool,
}

impl Message {
    /// All values of a field.
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        let named = self.fields.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_slice()).collect()
    }

    /// Whether a field that is a list has this member, its parameters aside.
    pub(crate) fn lists(&self, name: &str, member: &str) -> bool {
        let listed = |value: &[u8]| {
            let text = String::from_utf8_lossy(value).to_ascii_lowercase();
            text.split(',').any(|part| part.split(';').next().unwrap_or("").trim_ascii() == member)
        };
        self.values(name).into_iter().any(listed)
    }
}

/// House rules: the sizes that are taken.
const HEAD: usize = 8 * 1024;
const FIELDS: usize = 64;
const TARGET: usize = 2 * 1024;
const SMALL_BODY: usize = 4 * 1024;
const BODY: usize = 64 * 1024;
/// No request line that is taken is longer: the longest method, two spaces, the longest target,
/// a version, and the line end, with room to spare.
const LINE: usize = TARGET + 64;

/// Reads what stands at the beginning of `bytes`, sent by a buyer.
pub(crate) fn read(bytes: &[u8]) -> Reading {
    // RFC 9112 2.2: a server should ignore at least one empty line before the request line.
    // House rule: exactly one.
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    match bytes {
        [] | [b'\r'] | [b'\r', b'\n'] => return Reading::Nothing,
        _ => {}
    }
    match read_from(&bytes[skipped..]) {
        Reading::Whole(message, len) => Reading::Whole(message, skipped + len),
        other => other,
    }
}

fn read_from(bytes: &[u8]) -> Reading {
    // The first byte of a method is a token's.
    if !tchar(bytes[0]) {
        return Reading::Refused("no method begins here");
    }
    let lines = match split_lines(bytes) {
        Ok(lines) => lines,
        Err(reason) => return Reading::Refused(reason),
    };
    let line = match lines.first() {
        Some(first) => match request_line(first) {
            Ok(line) => line,
            Err(reason) => return Reading::Refused(reason),
        },
        None if bytes.len() >= LINE => return Reading::Refused("an endless request line"),
        None => return Reading::Unfinished { in_body: false },
    };
    let Some(end) = lines.iter().position(|line| line.is_empty()) else {
        let endless = bytes.len() >= HEAD;
        return if endless { Reading::Refused("too long") } else { Reading::Unfinished { in_body: false } };
    };
    let head_len = lines[..=end].iter().map(|line| line.len() + 2).sum::<usize>();
    if head_len > HEAD {
        return Reading::Refused("the head is too long");
    }
    match lines[1..end].iter().map(|line| field(line)).collect::<Result<Vec<_>, _>>() {
        Ok(fields) => framed(line, fields, &bytes[head_len..], head_len),
        Err(reason) => Reading::Refused(reason),
    }
}

/// RFC 9112 2.1: lines end with CRLF. House rule: a bare LF ends nothing. The last piece, which
/// has no end, is left out; so is whatever stands behind the empty line.
fn split_lines(bytes: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let mut lines = Vec::new();
    let mut from = 0;
    for at in 0..bytes.len() {
        if bytes[at] != b'\n' {
            continue;
        }
        if at == from || bytes[at - 1] != b'\r' {
            return if at < HEAD { Err("a bare LF") } else { Ok(lines) };
        }
        lines.push(&bytes[from..at - 1]);
        from = at + 1;
        if lines.last().is_some_and(|line| line.is_empty()) {
            break;
        }
    }
    Ok(lines)
}

/// What the request line says.
struct Line {
    method: String,
    minor: u8,
    authority: Option<String>,
    path: String,
    query: Option<String>,
}

/// RFC 9112 3: method SP request-target SP HTTP-version.
fn request_line(line: &[u8]) -> Result<Line, &'static str> {
    let text = str::from_utf8(line).map_err(|_| "not ASCII")?;
    let [method, target, version] = text.split(' ').collect::<Vec<_>>()[..] else {
        return Err("not three parts");
    };
    if method.is_empty() || !method.bytes().all(tchar) {
        return Err("the method is no token");
    }
    let minor = match version {
        "HTTP/1.1" => 1,
        "HTTP/1.0" => 0,
        _ => return Err("another version"),
    };
    // RFC 9110 9.1: methods are case-sensitive. House rule: these, and 501 for others.
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"];
    if !known.contains(&method) {
        return Err("an unknown method");
    }
    let (authority, rest) = request_target(method, target)?;
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (rest, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    let authority = authority.map(str::to_owned);
    Ok(Line { method: method.to_owned(), minor, authority, path: path.to_owned(), query })
}

/// RFC 9112 3.2: origin-form, absolute-form, or asterisk-form.
fn request_target<'t>(method: &str, target: &'t str) -> Result<(Option<&'t str>, &'t str), &'static str> {
    if target.is_empty() || target.len() > TARGET {
        return Err("no target, or too long a one");
    }
    if target == "*" {
        return if method == "OPTIONS" { Ok((None, "*")) } else { Err("an asterisk") };
    }
    if target.starts_with('/') {
        uri_text(target)?;
        return Ok((None, target));
    }
    // House rule: of the absolute forms, http alone.
    let (scheme, rest) = target.split_once("://").ok_or("neither a path nor an URI")?;
    if !scheme.eq_ignore_ascii_case("http") {
        return Err("another scheme");
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    if !host_and_port(&rest.as_bytes()[..end]) {
        return Err("no host in the target");
    }
    uri_text(rest)?;
    Ok((Some(&rest[..end]), &rest[end..]))
}

/// RFC 3986: pchar, "/" and "?"; percent signs with two digits behind them.
fn uri_text(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let pchar = uri_plain(byte) || matches!(byte, b':' | b'@');
        let escape = byte == b'%' && bytes.get(at + 1..at + 3).is_some_and(|two| two.iter().all(hex));
        if !(pchar || escape || matches!(byte, b'/' | b'?')) {
            return Err("a character that no URI has");
        }
    }
    Ok(())
}

/// RFC 3986: unreserved or sub-delims.
fn uri_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

fn hex(byte: &u8) -> bool {
    byte.is_ascii_hexdigit()
}

/// RFC 9110 7.2: uri-host [ ":" port ]. House rule: a host is not empty, a list's comma, brackets,
/// quotes and asterisks are in none, and a port has five digits at most.
fn host_and_port(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let (host_holds, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        (address.parse::<std::net::Ipv6Addr>().is_ok(), port)
    } else {
        let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        let plain = |byte: u8| uri_plain(byte) && !b",()'*".contains(&byte);
        let escape = |at: usize| host.as_bytes().get(at + 1..at + 3).is_some_and(|two| two.iter().all(hex));
        let holds = host.bytes().enumerate().all(|(at, byte)| plain(byte) || byte == b'%' && escape(at));
        (holds && !host.is_empty(), port)
    };
    let port_holds = match port.strip_prefix(':') {
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    host_holds && port_holds
}

/// RFC 9112 5: field-name ":" OWS field-value OWS, no folding.
fn field(line: &[u8]) -> Result<(String, Vec<u8>), &'static str> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or("a line without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|&byte| tchar(byte)) {
        return Err("a name that is no token");
    }
    let space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let from = value.iter().position(|byte| !space(byte)).unwrap_or(value.len());
    let to = value.iter().rposition(|byte| !space(byte)).map_or(from, |at| at + 1);
    // RFC 9110 5.5: VCHAR, obs-text, and space or tab within.
    let fits = |byte: &u8| space(byte) || byte.is_ascii_graphic() || *byte >= 0x80;
    if !value.iter().all(fits) {
        return Err("a control character in a value");
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    Ok((name, value[from..to].to_vec()))
}

/// RFC 9110 5.6.2.
fn tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9112 6: how long the body is, and what else a whole head has to have.
fn framed(line: Line, fields: Vec<(String, Vec<u8>)>, rest: &[u8], head_len: usize) -> Reading {
    let Line { method, minor, authority, path, query } = line;
    let mut message = Message { method, minor, path, query, fields, body: Vec::new(), closes: false };
    if message.fields.len() > FIELDS {
        return Reading::Refused("too many fields");
    }
    if let Err(reason) = check_host(&message, authority.as_deref()) {
        return Reading::Refused(reason);
    }
    let expect = message.values("expect");
    let continues = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    if expect.len() > 1 || !expect.into_iter().all(continues) {
        return Reading::Refused("an expectation that is not met");
    }
    let len = match body_len(&message) {
        Ok(len) => len,
        Err(reason) => return Reading::Refused(reason),
    };
    let Some(body) = rest.get(..len) else { return Reading::Unfinished { in_body: true } };
    message.body = body.to_vec();
    let asks = |what: &str| message.lists("connection", what);
    message.closes = asks("close") || minor == 0 && !asks("keep-alive");
    Reading::Whole(Box::new(message), head_len + len)
}

/// RFC 9112 3.2: exactly one Host in HTTP/1.1, at most one before; the target's host wins, and
/// by house rule the two must agree.
fn check_host(message: &Message, authority: Option<&str>) -> Result<(), &'static str> {
    match (message.values("host")[..].as_ref(), authority) {
        ([], _) if message.minor == 0 => Ok(()),
        ([], _) => Err("no Host"),
        ([host], _) if !host_and_port(host) => Err("a malformed Host"),
        ([host], Some(authority)) if !host.eq_ignore_ascii_case(authority.as_bytes()) => Err("two hosts"),
        ([_], _) => Ok(()),
        _ => Err("Host more than once"),
    }
}

/// RFC 9112 6.3. House rules: no transfer coding; a length stands once, without sign or leading
/// zero; methods that carry nothing have no body, and those that do say how long it is.
fn body_len(message: &Message) -> Result<usize, &'static str> {
    if !message.values("transfer-encoding").is_empty() {
        return Err("a transfer coding");
    }
    let carries = ["POST", "PUT", "PATCH"].contains(&message.method.as_str());
    let digits = match message.values("content-length")[..] {
        [] if carries => return Err("no length"),
        [] => return Ok(0),
        [digits] => digits,
        _ => return Err("a length more than once"),
    };
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if !plain || digits.len() > 1 && digits[0] == b'0' {
        return Err("a length that is no plain number");
    }
    let len = String::from_utf8_lossy(digits).parse::<usize>().unwrap_or(usize::MAX);
    let most = if small_bodies(&message.path) { SMALL_BODY } else { BODY };
    match len {
        0 => Ok(0),
        _ if !carries => Err("a body where none can be"),
        len if len > most => Err("too long a body"),
        len => Ok(len),
    }
}

/// House rule: the paths to a purchase, and those of the sale page, take small bodies.
fn small_bodies(path: &str) -> bool {
    let plain = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits && !text.starts_with('0') { text.parse::<u64>().ok() } else { None }
    };
    let item = |id: &str| plain(id).filter(|id| *id <= i32::MAX as u64);
    let order = |id: &str| plain(id).filter(|id| item(&(id >> 32).to_string()).is_some() && *id as u32 > 0);
    let order_of = |id: &str, of: &str| item(id).is_some() && order(of).map(|of| of >> 32) == item(id);
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "v1", "items", id, "orders" | "ticket"] | ["", "sale", id] => item(id).is_some(),
        ["", "sale", id, "order", of] | ["", "sale", id, "order", of, "cancel" | "pay"] => order_of(id, of),
        ["", "v1", "demo", "orders", id, "pay"] => order(id).is_some(),
        ["", "v1", "demo", "session"] | ["", ""] | ["", "favicon.ico"] => true,
        _ => false,
    }
}

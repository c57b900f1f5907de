//! A second reader of requests: slow, plain, and strictly by the letter of RFC 9112.
//!
//! It shares no code with the server's reader, so the two can be compared. Each rule
//! follows the grammar, for one request at a time. Where the server is deliberately stricter
//! than the RFC (see `net/src/http.rs`), the rule says "house rule". For every byte
//! that it reads, it names the production.

/// What the bytes at a position are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// A request of so many bytes.
    Whole(Box<Message>, usize),
    /// Not a request, whatever follows.
    Refused(&'static str),
    /// The beginning of a request.
    Unfinished {
        /// Whether the head is complete, so that only the body is missing.
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
    pub(crate) query: Option<Vec<u8>>,
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

    /// Whether a list field has this member, ignoring parameters.
    pub(crate) fn lists(&self, name: &str, member: &str) -> bool {
        let listed = |value: &[u8]| {
            let text = String::from_utf8_lossy(value).to_ascii_lowercase();
            text.split(',').any(|part| part.split(';').next().unwrap_or("").trim_ascii() == member)
        };
        self.values(name).into_iter().any(listed)
    }
}

/// House rules: the accepted sizes.
const HEAD: usize = 8 * 1024;
const FIELDS: usize = 64;
const TARGET: usize = 2 * 1024;
const SMALL_BODY: usize = 4 * 1024;
const BODY: usize = 64 * 1024;
const BATCH: usize = 8 << 20;
/// No accepted request line is longer: the longest method, two spaces, the longest target,
/// a version, and the line end, with some reserve.
const LINE: usize = TARGET + 64;

/// The listener that the bytes arrive at: it decides how large a body may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Buyers,
    Shop,
}

/// Reads what is at the beginning of `bytes`.
pub(crate) fn read(side: Side, bytes: &[u8]) -> Reading {
    // RFC 9112 2.2: a server should ignore at least one empty line before the request line.
    // House rule: exactly one.
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    match bytes {
        [] | [b'\r'] | [b'\r', b'\n'] => return Reading::Nothing,
        _ => {}
    }
    match read_from(side, &bytes[skipped..]) {
        Reading::Whole(message, len) => Reading::Whole(message, skipped + len),
        other => other,
    }
}

fn read_from(side: Side, bytes: &[u8]) -> Reading {
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
        Ok(fields) => framed(side, line, fields, &bytes[head_len..], head_len),
        Err(reason) => Reading::Refused(reason),
    }
}

/// RFC 9112 2.1: lines end with CRLF. House rule: a bare LF ends nothing. The last piece, without
/// an end, is left out, and so is everything after the empty line.
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
    path: String,
    query: Option<Vec<u8>>,
}

/// RFC 9112 3: method SP request-target SP HTTP-version.
fn request_line(line: &[u8]) -> Result<Line, &'static str> {
    let [method, target, version] = line.split(|&byte| byte == b' ').collect::<Vec<_>>()[..] else {
        return Err("not three parts");
    };
    let ascii = |part| str::from_utf8(part).ok().filter(|text| text.is_ascii()).ok_or("not ASCII");
    let (method, version) = (ascii(method)?, ascii(version)?);
    if method.is_empty() || !method.bytes().all(tchar) {
        return Err("the method is not a token");
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
    if target.is_empty() || target.len() > TARGET {
        return Err("no target, or a target that is too long");
    }
    // The query begins at the first question mark, wherever that is.
    let mut parts = target.splitn(2, |&byte| byte == b'?');
    let (before, query) = (ascii(parts.next().unwrap_or_default())?, parts.next());
    // House rule: a query may contain whatever browsers leave in one (the URL standard), and more.
    if query.is_some_and(|query| query.iter().any(|&byte| byte <= b' ' || byte == 0x7f)) {
        return Err("a space or a control in the query");
    }
    let path = path_of(method, before, query.is_some())?;
    Ok(Line { method: method.to_owned(), minor, path: path.to_owned(), query: query.map(<[u8]>::to_vec) })
}

/// RFC 9112 3.2: origin-form, absolute-form, or asterisk-form, without its query. The host of an absolute
/// form counts, whatever Host says (3.2.2).
fn path_of<'t>(method: &str, target: &'t str, has_query: bool) -> Result<&'t str, &'static str> {
    if target == "*" {
        return if method == "OPTIONS" && !has_query { Ok("*") } else { Err("an asterisk") };
    }
    if target.starts_with('/') {
        uri_text(target)?;
        return Ok(target);
    }
    // House rule: of the absolute forms, http and https.
    let (scheme, rest) = target.split_once("://").ok_or("neither a path nor an URI")?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err("another scheme");
    }
    let end = rest.find('/').unwrap_or(rest.len());
    if !host_and_port(&rest.as_bytes()[..end]) {
        return Err("no host in the target");
    }
    uri_text(&rest[end..])?;
    Ok(if end == rest.len() { "/" } else { &rest[end..] })
}

/// RFC 3986: pchar, "/" and "?"; percent signs followed by two digits.
fn uri_text(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let pchar = uri_plain(byte) || matches!(byte, b':' | b'@');
        let escape = byte == b'%' && bytes.get(at + 1..at + 3).is_some_and(|two| two.iter().all(hex));
        if !(pchar || escape || matches!(byte, b'/' | b'?')) {
            return Err("a character that is not allowed in a URI");
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

/// RFC 9110 7.2: uri-host [ ":" port ]. House rule: a host is not empty and contains no comma, brackets,
/// quotes or asterisks; a port has five digits at most.
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
        return Err("a name that is not a token");
    }
    let space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let from = value.iter().position(|byte| !space(byte)).unwrap_or(value.len());
    let to = value.iter().rposition(|byte| !space(byte)).map_or(from, |at| at + 1);
    if !value.iter().all(in_a_value) {
        return Err("a control character in a value");
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    Ok((name, value[from..to].to_vec()))
}

/// RFC 9110 5.6.2.
fn tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9112 6: how long the body is, and what else a complete head needs.
fn framed(side: Side, line: Line, fields: Vec<(String, Vec<u8>)>, rest: &[u8], head_len: usize) -> Reading {
    let Line { method, minor, path, query } = line;
    let mut message = Message { method, minor, path, query, fields, body: Vec::new(), closes: false };
    if message.fields.len() > FIELDS {
        return Reading::Refused("too many fields");
    }
    if let Err(reason) = check_host(&message) {
        return Reading::Refused(reason);
    }
    let expect = message.values("expect");
    let continues = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    if expect.len() > 1 || !expect.into_iter().all(continues) {
        return Reading::Refused("an expectation that is not met");
    }
    let body = match body_len(side, &message) {
        Ok(Framing::Length(len)) => Ok(rest.get(..len).map(|body| (body.to_vec(), len))),
        Ok(Framing::Chunks(most)) => chunked(rest, most),
        Err(reason) => Err(reason),
    };
    let len = match body {
        Ok(Some((body, len))) => {
            message.body = body;
            len
        }
        Ok(None) => return Reading::Unfinished { in_body: true },
        Err(reason) => return Reading::Refused(reason),
    };
    let asks = |what: &str| message.lists("connection", what);
    message.closes = asks("close") || minor == 0 && !asks("keep-alive");
    Reading::Whole(Box::new(message), head_len + len)
}

/// RFC 9112 3.2: exactly one Host in HTTP/1.1, at most one before.
fn check_host(message: &Message) -> Result<(), &'static str> {
    match message.values("host")[..] {
        [] if message.minor == 0 => Ok(()),
        [] => Err("no Host"),
        [host] if !host_and_port(host) => Err("a malformed Host"),
        [_] => Ok(()),
        _ => Err("Host more than once"),
    }
}

/// How the end of a body is found.
enum Framing {
    /// By its length in bytes.
    Length(usize),
    /// By the last chunk; the body may have so many bytes at most.
    Chunks(usize),
}

/// RFC 9112 6.3: without a header about it there is no body. House rules: chunked is the only transfer coding, once,
/// in HTTP/1.1, and never with a length; a length occurs once, without sign or leading
/// zero; methods without content have no body.
fn body_len(side: Side, message: &Message) -> Result<Framing, &'static str> {
    let carries = ["POST", "PUT", "PATCH"].contains(&message.method.as_str());
    let most = match side {
        Side::Buyers if small_bodies(&message.path) => SMALL_BODY,
        Side::Shop if message.path == "/v1/orders/batch" && message.method == "POST" => BATCH,
        Side::Buyers | Side::Shop => BODY,
    };
    let (codings, lengths) = (message.values("transfer-encoding"), message.values("content-length"));
    if !codings.is_empty() {
        let chunked = matches!(codings[..], [coding] if coding.eq_ignore_ascii_case(b"chunked"));
        return match () {
            () if !lengths.is_empty() => Err("a length and a transfer coding"),
            () if message.minor == 0 => Err("a transfer coding in HTTP/1.0"),
            () if !chunked => Err("another transfer coding"),
            () => Ok(Framing::Chunks(if carries { most } else { 0 })),
        };
    }
    let digits = match lengths[..] {
        [] => return Ok(Framing::Length(0)),
        [digits] => digits,
        _ => return Err("a length more than once"),
    };
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if !plain || digits.len() > 1 && digits[0] == b'0' {
        return Err("a length that is not a plain number");
    }
    let len = String::from_utf8_lossy(digits).parse::<usize>().unwrap_or(usize::MAX);
    match len {
        0 => Ok(Framing::Length(0)),
        _ if !carries => Err("a body where none is allowed"),
        len if len > most => Err("the body is too long"),
        len => Ok(Framing::Length(len)),
    }
}

/// House rules: the limits for everything around the data of a chunked body.
const SIZE_DIGITS: usize = 16;
const EXTENSIONS: usize = 1024;
const TRAILER: usize = 8 * 1024;

/// RFC 9112 7.1: `*chunk last-chunk trailer-section CRLF`. The body, and the length of the whole in
/// bytes; `None` if it is incomplete. House rule: no spaces between a size and what follows it.
fn chunked(bytes: &[u8], most: usize) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let (mut body, mut at, mut extensions) = (Vec::new(), 0, 0);
    loop {
        let rest = &bytes[at..];
        // chunk-size = 1*HEXDIG
        let digits = rest.iter().take_while(|byte| hex(byte)).count();
        if digits > SIZE_DIGITS {
            // Unless it was too large before it was too long.
            return Err("the size of a chunk has too many digits");
        }
        let text = str::from_utf8(&rest[..digits]).unwrap_or_default();
        let size = if digits == 0 { 0 } else { u64::from_str_radix(text, 16).unwrap_or(u64::MAX) };
        if size > (most - body.len()) as u64 {
            return Err("the body is too long");
        }
        let Some(next) = rest.get(digits) else { return Ok(None) };
        if digits == 0 || !b";\r".contains(next) {
            return Err("a chunk without a size");
        }
        // chunk-ext: only its length counts
        let line = &rest[digits..];
        let end = line.iter().position(|&byte| byte == b'\r').unwrap_or(line.len());
        let extension = line[..end].strip_prefix(b";").unwrap_or_default();
        extensions += extension.len();
        if extensions > EXTENSIONS || !extension.iter().all(in_a_value) {
            return Err("an extension that is too long, or malformed");
        }
        match line[end..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => at += digits + end + 2,
            _ => return Err("a line of a chunk that ends in the middle"),
        }
        if size == 0 {
            return Ok(trailer(&bytes[at..])?.map(|len| (body, at + len)));
        }
        // chunk-data CRLF
        let data = &bytes[at..];
        body.extend_from_slice(&data[..data.len().min(size as usize)]);
        match data.get(size as usize..) {
            None | Some([] | [b'\r']) => return Ok(None),
            Some([b'\r', b'\n', ..]) => at += size as usize + 2,
            Some(_) => return Err("a chunk longer than it says"),
        }
    }
}

/// RFC 9112 7.1.2: `*( field-line CRLF ) CRLF`. Only its length counts; returns it.
fn trailer(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let (mut at, mut lines) = (0, 0);
    loop {
        let rest = &bytes[at..];
        let end = rest.iter().position(|&byte| byte == b'\r').unwrap_or(rest.len());
        let (line, behind) = rest.split_at(end);
        let name = line.iter().take_while(|&&byte| tchar(byte)).count();
        let value = match line[name..] {
            [] => &[][..],
            [b':', ref value @ ..] if name > 0 => value,
            _ => return Err("a line of the trailer without a name"),
        };
        if !value.iter().all(in_a_value) {
            return Err("a control character in the trailer");
        }
        lines += usize::from(name > 0);
        let ends = match behind {
            [] | [b'\r'] => false,
            [b'\r', b'\n', ..] => true,
            _ => return Err("a line of the trailer that ends in the middle"),
        };
        if name > 0 && name == line.len() && !behind.is_empty() {
            return Err("a line of the trailer without a colon");
        }
        if lines > FIELDS || at + end + behind.len().min(2) > TRAILER {
            return Err("the trailer is too long");
        }
        match (ends, line.is_empty()) {
            (false, _) => return Ok(None),
            (true, true) => return Ok(Some(at + 2)),
            (true, false) => at += end + 2,
        }
    }
}

/// RFC 9110 5.5: VCHAR, obs-text, and space or tab within.
fn in_a_value(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t') || byte.is_ascii_graphic() || *byte >= 0x80
}

/// House rule: the purchase endpoints and the sale page accept only small bodies.
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

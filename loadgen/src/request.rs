//! The bytes of requests: built once in pieces, then copied together and patched.
//!
//! No allocation per request beyond the caller's growing buffer, no socket. Next:
//! [`crate::engine`], which sends them.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::workload::{Auth, Flow, ItemPicker, Items, NAME_BYTES, Names, Target, Workload};

/// Characters of an HS256 signature in base64url.
const SIGNATURE_BYTES: usize = 43;
/// Stands where a buyer's name or a key is patched in.
const BLANK: &[u8; NAME_BYTES] = b"....................";

/// A setting of a workload that cannot become a request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    /// Not a header line.
    #[error("`{0}` is not a header; write for example -H 'X-Region: eu'")]
    Header(String),
    /// Not a path.
    #[error("`{0}` is not a path; it has to begin with / and contain no space")]
    Path(String),
    /// Not a method.
    #[error("`{0}` is not a method that can be measured; write for example GET")]
    Method(String),
}

/// The shop's side of the server, where payments are reported.
#[derive(Clone, PartialEq, Eq)]
pub struct Shop {
    /// What the `Host` header says.
    pub host: String,
    /// The admin token.
    pub token: String,
}

/// How requests are framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Framing<'a> {
    /// What the `Host` header says.
    pub host: &'a str,
    /// Whether a connection carries more than one request.
    pub keep_alive: bool,
    /// When buyers' tokens expire, in Unix seconds.
    pub expires_at_s: u64,
}

/// Makes the requests of a workload.
#[derive(Clone)]
pub struct Requests {
    names: Names,
    picker: ItemPicker,
    /// The only request of raw mode.
    raw: Vec<u8>,
    /// Lines that each request to the public listener has.
    common: Vec<u8>,
    /// Lines that each request to the merchant API has.
    shop: Vec<u8>,
    buyer: Buyer,
    asynchronous: bool,
    quantity: u32,
    /// Last lines and body of a purchase that brings no ticket of its own.
    plain_purchase: Vec<u8>,
}

#[derive(Clone)]
enum Buyer {
    Header { levels: Option<u8> },
    Jwt(Box<Signer>),
}

impl Requests {
    /// The requests of this workload; `shop` if payments are to be reported.
    ///
    /// # Errors
    /// [`RequestError`] names the setting that cannot be sent.
    pub fn new(workload: &Workload, framing: Framing<'_>, shop: Option<&Shop>) -> Result<Self, RequestError> {
        let names = workload.names();
        let mut common = format!("Host: {}\r\n", framing.host).into_bytes();
        for line in &workload.headers {
            check_header(line)?;
            let _ = write!(common, "{line}\r\n");
        }
        if !framing.keep_alive {
            common.extend_from_slice(b"Connection: close\r\n");
        }
        let raw = match &workload.target {
            Target::Purchase { .. } | Target::Batch(_) => Vec::new(),
            Target::Raw { method, path } => raw(method, path, &common)?,
        };
        let shop = shop.map_or_else(Vec::new, |shop| {
            format!("Host: {}\r\nAuthorization: Bearer {}\r\n", shop.host, shop.token).into_bytes()
        });
        let mut plain_purchase = Vec::new();
        match &workload.ticket {
            None => write_body(&mut plain_purchase, format_args!("{{\"quantity\":{}}}", workload.quantity)),
            Some(ticket) => write_purchase(&mut plain_purchase, workload.quantity, ticket),
        }
        Ok(Self {
            names,
            picker: ItemPicker::new(workload.items().unwrap_or(Items::one(1)), workload.seed),
            raw,
            common,
            shop,
            buyer: Buyer::new(&workload.auth, workload.levels, framing.expires_at_s),
            asynchronous: workload.flow == Flow::Whole,
            quantity: workload.quantity,
            plain_purchase,
        })
    }

    /// The request of raw mode.
    pub fn raw(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.raw);
    }

    /// A purchase, with its ticket if the item wants one.
    pub fn purchase(&mut self, purchase: u32, ticket: Option<&str>, out: &mut Vec<u8>) {
        self.item_line(b"POST /v1/items/", purchase, b"/orders HTTP/1.1\r\n", out);
        self.buyer_lines(purchase, out);
        out.extend_from_slice(b"Idempotency-Key: ");
        let key_at = out.len();
        out.extend_from_slice(BLANK);
        self.names.write_key(purchase, name_at(out, key_at));
        out.extend_from_slice(b"\r\n");
        if self.asynchronous {
            out.extend_from_slice(b"Prefer: respond-async\r\n");
        }
        match ticket {
            None => out.extend_from_slice(&self.plain_purchase),
            Some(ticket) => {
                write_purchase(out, self.quantity, ticket);
            }
        }
    }

    /// The page of a purchase's item.
    pub fn page(&mut self, purchase: u32, out: &mut Vec<u8>) {
        self.item_line(b"GET /v1/items/", purchase, b" HTTP/1.1\r\n", out);
        out.extend_from_slice(b"\r\n");
    }

    /// A challenge for the buyer.
    pub fn challenge(&mut self, purchase: u32, out: &mut Vec<u8>) {
        self.item_line(b"GET /v1/items/", purchase, b"/challenge HTTP/1.1\r\n", out);
        self.buyer_lines(purchase, out);
        out.extend_from_slice(b"\r\n");
    }

    /// A ticket, with the solved challenge (`"challenge":…,"answer":…`) if there was one.
    pub fn ticket(&mut self, purchase: u32, solved: Option<&str>, out: &mut Vec<u8>) {
        self.item_line(b"POST /v1/items/", purchase, b"/ticket HTTP/1.1\r\n", out);
        self.buyer_lines(purchase, out);
        write_body(out, format_args!("{{{}}}", solved.unwrap_or("")));
    }

    /// The buyer's own order, as soon as it is durable.
    pub fn wait(&mut self, purchase: u32, order_id: u64, wait_ms: u64, out: &mut Vec<u8>) {
        let _ = write!(out, "GET /v1/orders/{order_id}?wait_ms={wait_ms} HTTP/1.1\r\n");
        out.extend_from_slice(&self.common);
        self.buyer_lines(purchase, out);
        out.extend_from_slice(b"\r\n");
    }

    /// The buyer calls an order off.
    pub fn cancel(&mut self, purchase: u32, order_id: u64, out: &mut Vec<u8>) {
        let _ = write!(out, "POST /v1/orders/{order_id}/cancel HTTP/1.1\r\n");
        out.extend_from_slice(&self.common);
        self.buyer_lines(purchase, out);
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }

    /// The payment service reports a payment; to the merchant API.
    pub fn pay(&mut self, purchase: u32, order_id: u64, out: &mut Vec<u8>) {
        let _ = write!(out, "POST /admin/orders/{order_id}/pay HTTP/1.1\r\n");
        out.extend_from_slice(&self.shop);
        let key = self.names.key(purchase);
        write_body(out, format_args!("{{\"payment_ref\":\"p-{key}\"}}"));
    }

    fn item_line(&self, before: &[u8], purchase: u32, after: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(before);
        write_number(self.picker.item(purchase), out);
        out.extend_from_slice(after);
        out.extend_from_slice(&self.common);
    }

    fn buyer_lines(&mut self, purchase: u32, out: &mut Vec<u8>) {
        match &mut self.buyer {
            Buyer::Header { levels } => {
                out.extend_from_slice(b"X-Buyer: ");
                let at = out.len();
                out.extend_from_slice(BLANK);
                self.names.write_buyer(purchase, name_at(out, at));
                out.extend_from_slice(b"\r\n");
                if let Some(levels) = *levels {
                    out.extend_from_slice(b"X-Buyer-Level: ");
                    write_number(u32::from(self.names.level(purchase, levels)), out);
                    out.extend_from_slice(b"\r\n");
                }
            }
            Buyer::Jwt(signer) => {
                out.extend_from_slice(b"Authorization: Bearer ");
                let at = out.len();
                out.resize(at + signer.token_bytes(), b'.');
                signer.sign(&self.names, purchase, &mut out[at..]);
                out.extend_from_slice(b"\r\n");
            }
        }
    }
}

impl Buyer {
    fn new(auth: &Auth, levels: Option<u8>, expires_at_s: u64) -> Self {
        match auth {
            Auth::Header => Self::Header { levels },
            Auth::Jwt { key, kid } => {
                Self::Jwt(Box::new(Signer::new(key, kid.as_deref(), levels, expires_at_s)))
            }
        }
    }
}

fn raw(method: &str, path: &str, common: &[u8]) -> Result<Vec<u8>, RequestError> {
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if !visible(method) {
        return Err(RequestError::Method(method.to_owned()));
    }
    if !visible(path) || !path.starts_with('/') {
        return Err(RequestError::Path(path.to_owned()));
    }
    let mut request = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
    request.extend_from_slice(common);
    request.extend_from_slice(b"\r\n");
    Ok(request)
}

fn check_header(line: &str) -> Result<(), RequestError> {
    let name = line.split_once(':').map_or("", |(name, _)| name);
    let token = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b));
    if token && !line.bytes().any(|b| b.is_ascii_control()) {
        Ok(())
    } else {
        Err(RequestError::Header(line.to_owned()))
    }
}

/// Last lines and body of a purchase with a ticket.
fn write_purchase(out: &mut Vec<u8>, quantity: u32, ticket: &str) {
    write_body(out, format_args!("{{\"quantity\":{quantity},\"ticket\":\"{ticket}\"}}"));
}

/// The last lines of a request with a body, and the body.
fn write_body(out: &mut Vec<u8>, body: std::fmt::Arguments<'_>) {
    let body = body.to_string();
    let length = body.len();
    let _ = write!(out, "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
}

fn write_number(number: u32, out: &mut Vec<u8>) {
    let mut digits = [0; 10];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn name_at(request: &mut [u8], at: usize) -> &mut [u8; NAME_BYTES] {
    request[at..].first_chunk_mut().expect("the template leaves room for a name")
}

/// Signs HS256 tokens of one fixed length (RFC 7519, RFC 7515 section 3.1).
#[derive(Clone)]
struct Signer {
    mac: Hmac<Sha256>,
    header: String,
    claims: Vec<u8>,
    sub_at: usize,
    /// Where the level's digit stands, and how many levels there are.
    level: Option<(usize, u8)>,
    claims_bytes: usize,
}

impl Signer {
    fn new(key: &[u8], kid: Option<&str>, levels: Option<u8>, expires_at_s: u64) -> Self {
        let kid = kid.map_or_else(String::new, |kid| format!(",\"kid\":{}", serde_json::json!(kid)));
        let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"typ\":\"JWT\"{kid}}}"));
        let sub = BLANK.escape_ascii();
        let (claims, level) = match levels {
            None => (format!("{{\"sub\":\"{sub}\",\"exp\":{expires_at_s}}}"), None),
            Some(levels) => {
                let claims = format!("{{\"sub\":\"{sub}\",\"exp\":{expires_at_s},\"lvl\":0}}");
                let at = claims.len() - 2;
                (claims, Some((at, levels)))
            }
        };
        let claims = claims.into_bytes();
        let claims_bytes = URL_SAFE_NO_PAD.encode(&claims).len();
        let mac = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        Self { mac, header, claims, level, sub_at: r#"{"sub":""#.len(), claims_bytes }
    }
    fn token_bytes(&self) -> usize {
        self.header.len() + 1 + self.claims_bytes + 1 + SIGNATURE_BYTES
    }
    fn sign(&mut self, names: &Names, purchase: u32, out: &mut [u8]) {
        names.write_buyer(purchase, name_at(&mut self.claims, self.sub_at));
        if let Some((at, levels)) = self.level {
            self.claims[at] = b'0' + names.level(purchase, levels);
        }
        let claims_at = self.header.len() + 1;
        out[..self.header.len()].copy_from_slice(self.header.as_bytes());
        let fits = "the template leaves room for a token";
        URL_SAFE_NO_PAD.encode_slice(&self.claims, &mut out[claims_at..]).expect(fits);
        let signed = claims_at + self.claims_bytes;
        let mut mac = self.mac.clone();
        mac.update(&out[..signed]);
        let signature = mac.finalize().into_bytes();
        URL_SAFE_NO_PAD.encode_slice(signature, &mut out[signed + 1..]).expect(fits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::ITEMS_MAX;

    fn requests(workload: &Workload) -> Result<Requests, RequestError> {
        let framing = Framing { host: "h:1", keep_alive: true, expires_at_s: 1_900_000_000 };
        Requests::new(workload, framing, Some(&Shop { host: "h:2".into(), token: "T".into() }))
    }

    fn render(workload: &Workload, write: impl Fn(&mut Requests, &mut Vec<u8>)) -> String {
        let (mut requests, mut out) = (requests(workload).unwrap(), Vec::new());
        requests.purchase(9, None, &mut Vec::new());
        write(&mut requests, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_purchase_by_header() {
        let workload = Workload { headers: vec!["X-A: b".into()], ..Workload::purchases(5, 1) };
        let (buyer, key) = (workload.names().buyer(3), workload.names().key(3));
        let expected = format!(
            "POST /v1/items/5/orders HTTP/1.1\r\nHost: h:1\r\nX-A: b\r\nX-Buyer: {buyer}\r\nIdempotency-Key: {key}\r\n\
             Content-Type: application/json\r\nContent-Length: 14\r\n\r\n{{\"quantity\":1}}"
        );
        assert_eq!(render(&workload, |requests, out| requests.purchase(3, None, out)), expected);
    }

    #[test]
    fn a_purchase_by_token_verifies() {
        let auth = Auth::Jwt { key: vec![7; 32], kid: Some("k\"1".into()) };
        let workload = Workload { auth, levels: Some(10), ..Workload::purchases(5, 1) };
        let text = render(&workload, |requests, out| requests.purchase(3, None, out));
        let token = text.split("Bearer ").nth(1).unwrap().split("\r\n").next().unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
        mac.update(signed.as_bytes());
        mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let json = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        let (header, claims) = signed.split_once('.').unwrap();
        assert_eq!(json(header)["kid"], "k\"1");
        assert_eq!(json(claims)["sub"], workload.names().buyer(3).as_str());
        assert_eq!(json(claims)["lvl"], workload.names().level(3, 10));
    }

    #[test]
    fn the_flow_to_an_order() {
        let workload = Workload {
            flow: Flow::Whole,
            levels: Some(4),
            target: Target::Purchase { items: Items { first: 10, count: ITEMS_MAX, zipf: 1.0 } },
            ..Workload::purchases(1, 1)
        };
        let (names, level) = (workload.names(), workload.names().level(3, 4));
        let (buyer, key) = (names.buyer(3), names.key(3));
        let item = ItemPicker::new(workload.items().unwrap(), 1).item(3);
        let who = format!("X-Buyer: {buyer}\r\nX-Buyer-Level: {level}\r\n");
        let body = "Content-Type: application/json\r\nContent-Length: ";
        let check = |write: fn(&mut Requests, &mut Vec<u8>), expected: String| {
            assert_eq!(render(&workload, write), expected);
        };
        let host = "HTTP/1.1\r\nHost: h:1\r\n";
        check(|r, out| r.page(3, out), format!("GET /v1/items/{item} {host}\r\n"));
        check(|r, out| r.challenge(3, out), format!("GET /v1/items/{item}/challenge {host}{who}\r\n"));
        check(
            |r, out| r.ticket(3, None, out),
            format!("POST /v1/items/{item}/ticket {host}{who}{body}2\r\n\r\n{{}}"),
        );
        check(
            |r, out| r.ticket(3, Some("\"challenge\":\"c\",\"answer\":\"7\""), out),
            format!(
                "POST /v1/items/{item}/ticket {host}{who}{body}30\r\n\r\n{{\"challenge\":\"c\",\"answer\":\"7\"}}"
            ),
        );
        check(
            |r, out| r.purchase(3, Some("t"), out),
            format!(
                "POST /v1/items/{item}/orders {host}{who}Idempotency-Key: {key}\r\nPrefer: respond-async\r\n\
                 {body}27\r\n\r\n{{\"quantity\":1,\"ticket\":\"t\"}}"
            ),
        );
        check(|r, out| r.wait(3, 8, 100, out), format!("GET /v1/orders/8?wait_ms=100 {host}{who}\r\n"));
        check(
            |r, out| r.cancel(3, 8, out),
            format!("POST /v1/orders/8/cancel {host}{who}Content-Length: 0\r\n\r\n"),
        );
        check(
            |r, out| r.pay(3, 8, out),
            format!(
                "POST /admin/orders/8/pay HTTP/1.1\r\nHost: h:2\r\nAuthorization: Bearer T\r\n{body}40\r\n\r\n\
                 {{\"payment_ref\":\"p-{key}\"}}"
            ),
        );
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let bad = |workload: Workload| requests(&workload).err();
        for line in ["X", ": x", "X: a\r\nY: b", "X Y: z"] {
            let workload = Workload { headers: vec![line.into()], ..Workload::purchases(1, 1) };
            assert_eq!(bad(workload), Some(RequestError::Header(line.into())));
        }
        assert_eq!(bad(Workload::get("x")), Some(RequestError::Path("x".into())));
        assert_eq!(bad(Workload::get("/a b")), Some(RequestError::Path("/a b".into())));
    }
}

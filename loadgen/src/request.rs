//! The bytes of a request: built once, then copied and patched.
//!
//! No allocation per request beyond the caller's growing buffer, no socket. Next:
//! [`crate::engine`], which sends them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::workload::{Auth, NAME_BYTES, Names, Target, Workload};

/// Characters of an HS256 signature in base64url.
const SIGNATURE_BYTES: usize = 43;
/// Stands where a buyer's name or a key is patched in.
const BLANK: &str = "....................";
const _: () = assert!(BLANK.len() == NAME_BYTES);

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

/// A request with blanks, and what fills them.
#[derive(Clone)]
pub struct Template {
    bytes: Vec<u8>,
    names: Names,
    key_at: Option<usize>,
    buyer: Buyer,
}

#[derive(Clone)]
enum Buyer {
    None,
    Header { at: usize },
    Jwt { at: usize, signer: Box<Signer> },
}

impl Template {
    /// The request of this workload to this host. Tokens expire at `expires_at_s` (Unix seconds).
    ///
    /// # Errors
    /// [`RequestError`] names the setting that cannot be sent.
    pub fn new(workload: &Workload, host: &str, expires_at_s: u64) -> Result<Self, RequestError> {
        let mut head = start(workload, host)?;
        let names = workload.names();
        let mut template = Self { bytes: Vec::new(), names, key_at: None, buyer: Buyer::None };
        if workload.is_purchase() {
            template.buyer = identify(&workload.auth, &mut head, expires_at_s);
            head.push_str("Idempotency-Key: ");
            template.key_at = Some(head.len());
            let body = format!("{{\"quantity\":{}}}", workload.quantity);
            head.push_str(&format!(
                "{BLANK}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            head.push_str(&body);
        } else {
            head.push_str("\r\n");
        }
        template.bytes = head.into_bytes();
        Ok(template)
    }

    /// Appends the request for the purchase with this number.
    pub fn append(&mut self, purchase: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let request = &mut out[start..];
        if let Some(at) = self.key_at {
            self.names.write_key(purchase, name_at(request, at));
        }
        match &mut self.buyer {
            Buyer::None => {}
            Buyer::Header { at } => self.names.write_buyer(purchase, name_at(request, *at)),
            Buyer::Jwt { at, signer } => signer.sign(&self.names, purchase, &mut request[*at..]),
        }
    }
}

fn start(workload: &Workload, host: &str) -> Result<String, RequestError> {
    let mut head = match &workload.target {
        Target::Purchase { item } => format!("POST /v1/items/{item}/orders HTTP/1.1\r\n"),
        Target::Raw { method, path } => {
            let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
            // The answer to HEAD announces a body that never comes.
            if !visible(method) || method == "HEAD" {
                return Err(RequestError::Method(method.clone()));
            }
            if !visible(path) || !path.starts_with('/') {
                return Err(RequestError::Path(path.clone()));
            }
            format!("{method} {path} HTTP/1.1\r\n")
        }
    };
    head.push_str(&format!("Host: {host}\r\n"));
    for line in &workload.headers {
        let name = line.split_once(':').map_or("", |(name, _)| name);
        let token = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b));
        if !token || line.bytes().any(|b| b.is_ascii_control()) {
            return Err(RequestError::Header(line.clone()));
        }
        head.push_str(&format!("{line}\r\n"));
    }
    Ok(head)
}

fn identify(auth: &Auth, head: &mut String, expires_at_s: u64) -> Buyer {
    match auth {
        Auth::Header => {
            head.push_str("X-Buyer: ");
            let at = head.len();
            head.push_str(&format!("{BLANK}\r\n"));
            Buyer::Header { at }
        }
        Auth::Jwt { key, kid } => {
            let signer = Box::new(Signer::new(key, kid.as_deref(), expires_at_s));
            head.push_str("Authorization: Bearer ");
            let at = head.len();
            head.push_str(&".".repeat(signer.token_bytes()));
            head.push_str("\r\n");
            Buyer::Jwt { at, signer }
        }
    }
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
    claims_bytes: usize,
}

impl Signer {
    fn new(key: &[u8], kid: Option<&str>, expires_at_s: u64) -> Self {
        let kid = kid.map_or_else(String::new, |kid| format!(",\"kid\":{}", serde_json::json!(kid)));
        let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"typ\":\"JWT\"{kid}}}"));
        let claims = format!("{{\"sub\":\"{BLANK}\",\"exp\":{expires_at_s}}}").into_bytes();
        let claims_bytes = URL_SAFE_NO_PAD.encode(&claims).len();
        let mac = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        Self { mac, header, claims, sub_at: r#"{"sub":""#.len(), claims_bytes }
    }
    fn token_bytes(&self) -> usize {
        self.header.len() + 1 + self.claims_bytes + 1 + SIGNATURE_BYTES
    }
    fn sign(&mut self, names: &Names, purchase: u32, out: &mut [u8]) {
        names.write_buyer(purchase, name_at(&mut self.claims, self.sub_at));
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

    fn render(workload: &Workload, purchase: u32) -> String {
        let mut out = Vec::new();
        let mut template = Template::new(workload, "h:1", 1_900_000_000).unwrap();
        template.append(9, &mut Vec::new());
        template.append(purchase, &mut out);
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
        assert_eq!(render(&workload, 3), expected);
    }

    #[test]
    fn a_purchase_by_token_verifies() {
        let auth = Auth::Jwt { key: vec![7; 32], kid: Some("k\"1".into()) };
        let workload = Workload { auth, ..Workload::purchases(5, 1) };
        let text = render(&workload, 3);
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
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let bad = |workload: Workload| Template::new(&workload, "h", 0).err();
        for line in ["X", ": x", "X: a\r\nY: b", "X Y: z"] {
            let workload = Workload { headers: vec![line.into()], ..Workload::purchases(1, 1) };
            assert_eq!(bad(workload), Some(RequestError::Header(line.into())));
        }
        assert_eq!(bad(Workload::get("x")), Some(RequestError::Path("x".into())));
        assert_eq!(bad(Workload::get("/a b")), Some(RequestError::Path("/a b".into())));
    }
}

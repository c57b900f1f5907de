//! CORS: pages of other origins that may use the API (Fetch standard).
//!
//! A browser keeps a page from reading responses of another origin, and from sending unusual requests
//! there, unless that origin allows it. The operator configures the allowed origins. Their header lines
//! are made once, at the start. Next: [`crate::identity::cookie`] for requests that browsers send without
//! asking.

use std::fmt;

use crate::http::answer::Cors;
use crate::http::field::Name;
use crate::http::head::Head;
use crate::http::line::is_authority;

/// Response headers that such a page may read besides the ones that any page may.
const EXPOSED: &str = "Access-Control-Expose-Headers: ETag, Idempotent-Replay, Location, Retry-After\r\n";

/// Header lines for the response to a preflight request: what such a page may send, and for how long (in
/// seconds) the browser need not ask again.
pub const PREFLIGHT: &str = "Access-Control-Allow-Methods: GET, HEAD, POST\r\n\
    Access-Control-Allow-Headers: Authorization, Content-Type, Idempotency-Key, If-None-Match, Prefer\r\n\
    Access-Control-Max-Age: 86400\r\n";

/// The configured origins. They live as long as the process: settings are read once.
#[derive(Clone, Default, Debug)]
pub struct Origins {
    named: Vec<(String, &'static Cors)>,
    anybody: Option<&'static Cors>,
}

impl Origins {
    /// `scheme://host` or `scheme://host:port` each, the scheme `http` or `https`; or `*`.
    /// `None` if one is anything else.
    pub fn new(texts: &[&str]) -> Option<Self> {
        let mut origins = Self::default();
        for text in texts {
            if *text == "*" {
                let lines = format!("Access-Control-Allow-Origin: *\r\n{EXPOSED}");
                origins.anybody = Some(Box::leak(Box::new(Cors { lines })));
                continue;
            }
            let origin = text.to_ascii_lowercase();
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"))?;
            if !is_authority(host.as_bytes()) || host.ends_with(':') {
                return None;
            }
            let lines = format!(
                "Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\n{EXPOSED}"
            );
            origins.named.push((origin, Box::leak(Box::new(Cors { lines }))));
        }
        Some(origins)
    }

    /// The CORS header lines for the page that sent a request, if it may read the response.
    #[inline]
    pub fn may_read(&self, head: &Head<'_>) -> Option<&'static Cors> {
        if self.named.is_empty() && self.anybody.is_none() {
            return None;
        }
        let origin = head.field(Name::Origin).once()?;
        self.find(origin).or(self.anybody)
    }

    /// Whether a request comes from a page of one of the configured origins.
    pub fn name(&self, head: &Head<'_>) -> bool {
        head.field(Name::Origin).once().is_some_and(|origin| self.find(origin).is_some())
    }

    fn find(&self, origin: &[u8]) -> Option<&'static Cors> {
        self.named.iter().find(|(named, _)| named.as_bytes() == origin).map(|(_, cors)| *cors)
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.named.iter().map(|(origin, _)| origin.as_str());
        let all: Vec<&str> = named.chain(self.anybody.map(|_| "*")).collect();
        f.write_str(if all.is_empty() { "none" } else { "" })?;
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::Origins;

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_nothing_else() {
        let shown = |text: &str| Origins::new(&[text]).map(|origins| origins.to_string());
        for good in ["https://shop.example", "http://127.0.0.1:3000", "http://[::1]:80", "*"] {
            assert_eq!(shown(good).as_deref(), Some(good));
        }
        assert_eq!(shown("https://Shop.Example").as_deref(), Some("https://shop.example"));
        let bad = [
            "",
            "null",
            "shop.example",
            "https://",
            "https://a/",
            "https://a/b",
            "ftp://a",
            "https://a b",
            "https://u@a",
            "https://a:",
            "https://*.a",
            "https://a\r\nX: y",
            "//a",
            "https://a?b",
        ];
        for bad in bad {
            assert_eq!(shown(bad), None, "{bad}");
        }
        assert_eq!(Origins::new(&[]).map(|none| none.to_string()).as_deref(), Some("none"));
        let both = Origins::new(&["https://a", "*"]).map(|both| both.to_string());
        assert_eq!(both.as_deref(), Some("https://a, *"));
    }
}

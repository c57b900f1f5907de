//! What a node is told about its etcd, and the check of it before anything is asked. Next: [`super::client`].

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::error::ClusterError;
use crate::cluster::limits::ENDPOINTS_MAX;
use crate::cluster::names::{ClusterId, ClusterName};

/// How long is waited for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EtcdTimeouts {
    /// For a connection to one member, TLS included; then the next one is tried.
    pub connect: Duration,
    /// For one member's answer; then the same call goes to the next one.
    pub attempt: Duration,
    /// For a call over all members; then it is [`ClusterError::Unavailable`].
    pub call: Duration,
}

impl Default for EtcdTimeouts {
    /// 250 ms, 500 ms and 5 s: a member that is gone costs half a second, and etcd's own election fits.
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(250),
            attempt: Duration::from_millis(500),
            call: Duration::from_secs(5),
        }
    }
}

/// PEM files of a TLS connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsFiles {
    /// The authority that signed the members' certificates. Needed for `https`.
    pub authority: Option<PathBuf>,
    /// The node's own certificate and its key, where etcd asks for one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// How etcd is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    /// The cluster's name.
    pub name: ClusterName,
    /// The members, as `http://HOST:PORT` or `https://HOST:PORT`, all of one kind.
    pub endpoints: Vec<String>,
    /// User and password, where etcd asks for them.
    pub login: Option<(String, String)>,
    /// Certificates.
    pub tls: TlsFiles,
    /// Which cluster it has to be; `None` = the one that is found, for a node that was in none.
    pub expected: Option<ClusterId>,
    /// What etcd was given by `--quota-backend-bytes`; etcd says it itself since 3.6.
    pub quota_bytes: u64,
    /// Time-outs.
    pub timeouts: EtcdTimeouts,
}

impl EtcdOptions {
    /// Quota that etcd has without a setting.
    pub const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;

    /// In clear, without a login, with the default time-outs.
    #[must_use]
    pub fn new(name: ClusterName, endpoints: Vec<String>) -> Self {
        Self {
            name,
            endpoints,
            login: None,
            tls: TlsFiles::default(),
            expected: None,
            quota_bytes: Self::QUOTA_BYTES_DEFAULT,
            timeouts: EtcdTimeouts::default(),
        }
    }

    /// The members' addresses.
    pub(super) fn members(&self) -> Result<Vec<Endpoint>, ClusterError> {
        let members: Vec<Endpoint> =
            self.endpoints.iter().map(|text| Endpoint::parse(text)).collect::<Result<_, _>>()?;
        let is_tls = members.first().is_some_and(|first| first.is_tls);
        let said = if members.is_empty() || members.len() > ENDPOINTS_MAX {
            format!("{} endpoints of etcd; name 1 to {ENDPOINTS_MAX}", members.len())
        } else if members.iter().any(|member| member.is_tls != is_tls) {
            "some endpoints of etcd are http and some https; encryption that depends on which one answers is none".into()
        } else if is_tls && self.tls.authority.is_none() {
            "endpoints of etcd are https and no authority is named; name the file with its certificate".into()
        } else if !is_tls && self.tls != TlsFiles::default() {
            "certificates are named and the endpoints of etcd are http; write https".into()
        } else {
            return Ok(members);
        };
        Err(ClusterError::Unusable(said))
    }
}

/// Without the password.
impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .field("user", &self.login.as_ref().map(|(user, _)| user))
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// One member's address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Endpoint {
    /// Without the brackets of IPv6.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, ClusterError> {
        let refused = || {
            let said =
                format!("{text:?} is no endpoint of etcd; write http://HOST:PORT or https://HOST:PORT");
            ClusterError::Unusable(said)
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(refused)?;
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(refused)?;
        let is_tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(refused()),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_host = !bare.is_empty()
            && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
            && (bare.contains(':') == host.starts_with('['));
        let port = port.parse().ok().filter(|port| *port > 0 && is_host).ok_or_else(refused)?;
        Ok(Self { host: bare.to_owned(), port, is_tls })
    }

    /// As a URL without a path.
    pub(super) fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(endpoints: &[&str]) -> Result<Vec<Endpoint>, String> {
        let endpoints = endpoints.iter().map(|&text| text.to_owned()).collect();
        let options = EtcdOptions::new(ClusterName::new("a").expect("a name"), endpoints);
        options.members().map_err(|error| error.to_string())
    }

    #[test]
    fn endpoints_are_plain_addresses() {
        let good = ["http://127.0.0.1:2379", "http://etcd-1.shop.local:1", "http://[::1]:2379"];
        let urls: Vec<String> = members(&good).expect("good").iter().map(Endpoint::url).collect();
        assert_eq!(urls, good);
        for bad in [
            "127.0.0.1:2379",
            "http://a",
            "http://:1",
            "http://a:0",
            "http://a:65536",
            "http://a:1/v3",
            "http://u:p@a:1",
            "http://::1:1",
            "http://[a]:1",
            "unix://a:1",
            "http://a b:1",
            "",
        ] {
            assert!(members(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_that_would_weaken_tls_are_refused() {
        assert!(members(&[]).is_err());
        assert!(members(&["http://a:1", "https://b:1"]).unwrap_err().contains("some endpoints"));
        assert!(members(&["https://a:1"]).unwrap_err().contains("authority"));
        let mut options = EtcdOptions::new(ClusterName::new("a").unwrap(), vec!["http://a:1".into()]);
        options.tls.authority = Some("ca.pem".into());
        assert!(options.members().unwrap_err().to_string().contains("write https"));
    }

    #[test]
    fn the_password_is_not_shown() {
        let mut options = EtcdOptions::new(ClusterName::new("a").unwrap(), vec!["http://a:1".into()]);
        options.login = Some(("user".into(), "hidden".into()));
        assert!(!format!("{options:?}").contains("hidden"));
    }
}

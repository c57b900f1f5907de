//! Where the database is and how to connect to it, parsed from libpq's syntax.
//!
//! A connection string means what it means to `psql`: URL or `key=value`, `sslmode`, `sslrootcert`, and
//! for what it leaves out the variables `PGPASSWORD`, `PGUSER`, `PGSSLMODE`, `PGSSLROOTCERT`. Unsupported
//! options are refused by name. No message may contain a piece of the string that may be part of a
//! password: an unescaped `@` or blank puts half a password where a host or the name of an option is
//! expected. Next: [`super::tls`].

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::error::ExportError;
use super::limits::CONNECT_WAIT_MAX;

/// libpq's modes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum SslMode {
    /// In clear text.
    Disable,
    /// In clear text; encrypted if the server insists.
    Allow,
    /// Encrypted if the server offers it. The certificate is not verified.
    Prefer,
    /// Encrypted. Verified as with `verify-ca` if there is a root certificate, else not at all.
    Require,
    /// Encrypted, and the certificate is signed by the given authority.
    VerifyCa,
    /// The same, and the certificate is for this host.
    VerifyFull,
}

const MODES: [(&str, SslMode); 6] = [
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// A parsed connection string.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) mode: SslMode,
    /// The file of trusted root certificates; `None` = not given, or the system's.
    pub(super) roots: Option<PathBuf>,
}

/// Options of libpq that have no effect here, whatever their value.
const WITHOUT_EFFECT: [&str; 9] = [
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "sslcompression",
    "sslsni",
    "application_name",
    "keepalives_count",
];
/// Options that the client knows under the same names.
const PASSED_ON: [&str; 15] = [
    "user",
    "password",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "options",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "channel_binding",
    "load_balance_hosts",
    "sslnegotiation",
];
/// Options that are refused, because they would promise what is not done.
const UNSUPPORTED: [&str; 14] = [
    "passfile",
    "service",
    "servicefile",
    "require_auth",
    "requirepeer",
    "requiressl",
    "gssdelegation",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcertmode",
    "sslcrl",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
];

/// One of the environment's variables, if it is set.
pub(super) type Environment = fn(&str) -> Option<String>;

impl Target {
    pub(super) fn parse(text: &str, environment: Environment) -> Result<Self, ExportError> {
        let pairs = match ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme))
        {
            Some(rest) => pairs_of_url(rest)?,
            None if text.contains("://") => {
                return Err(bad("it begins with neither postgres:// nor postgresql://"));
            }
            None => pairs_of_words(text)?,
        };
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let (mut mode, mut roots) = (variable("PGSSLMODE"), variable("PGSSLROOTCERT"));
        let mut passed_on = String::new();
        let mut pass_on = |name: &str, value: &str| {
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            passed_on.push_str(&format!("{name}='{value}' "));
        };
        for (name, value) in &pairs {
            match name.as_str() {
                "sslmode" => mode = Some(value.clone()),
                // The spelling of other drivers, which libpq accepts in a URL.
                "ssl" if value == "true" => mode = Some("require".to_owned()),
                "sslrootcert" => roots = Some(value.clone()),
                "gssencmode" if value == "require" => return Err(bad("gssencmode=require is not supported")),
                // A standby cannot be written to.
                "target_session_attrs" => match value.as_str() {
                    "any" => {}
                    "primary" | "read-write" => pass_on(name, "read-write"),
                    _ => return Err(bad("target_session_attrs must be any, read-write or primary")),
                },
                known if PASSED_ON.contains(&known) => pass_on(name, value),
                known if WITHOUT_EFFECT.contains(&known) => {}
                known => return Err(unknown(known)),
            }
        }
        let mut config: Config = passed_on.parse().map_err(|error| wrong_value(&error))?;
        check_hosts(&config)?;
        if config.get_user().is_none() {
            let user = variable("PGUSER").ok_or_else(|| bad("it names no user"))?;
            config.user(user);
        }
        if let Some(password) = variable("PGPASSWORD").filter(|_| config.get_password().is_none()) {
            config.password(password);
        }
        config.application_name("stampede");
        config.keepalives_idle(Duration::from_secs(15));
        config.tcp_user_timeout(Duration::from_secs(30));
        config.connect_timeout(CONNECT_WAIT_MAX);
        let (mode, roots) = tls_of(mode.as_deref(), roots)?;
        Ok(Self { config, mode, roots })
    }

    /// Host, port and database, for messages.
    pub(super) fn shown(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => self.config.get_hostaddrs().first().map_or_else(|| "?".to_owned(), ToString::to_string),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or("?");
        format!("{host}:{port}/{database}")
    }

    /// The ports that it may lead to.
    pub(super) fn ports(&self) -> Vec<u16> {
        let ports = self.config.get_ports();
        if ports.is_empty() { vec![5432] } else { ports.to_vec() }
    }

    /// Whether every host is this machine, so that nobody on a network can listen.
    pub(super) fn is_local(&self) -> bool {
        let addrs = self.config.get_hostaddrs();
        if !addrs.is_empty() {
            return addrs.iter().all(std::net::IpAddr::is_loopback);
        }
        self.config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|addr| addr.is_loopback())
            }
        })
    }

    /// Whether all hosts are Unix sockets, for which libpq has no TLS.
    pub(super) fn is_unix(&self) -> bool {
        let hosts = self.config.get_hosts();
        !hosts.is_empty() && hosts.iter().all(|host| matches!(host, Host::Unix(_)))
    }
}

fn bad(what: &str) -> ExportError {
    ExportError::BadUrl(what.to_owned())
}

/// Only a name that libpq knows is shown: any other may be what follows a blank in a password.
fn unknown(name: &str) -> ExportError {
    if UNSUPPORTED.contains(&name) {
        return ExportError::BadUrl(format!("the option {name} is not supported"));
    }
    bad(
        "it has an option that does not exist (or a blank, a & or a quote in a value that is not escaped); those most \
         used are host, port, dbname, user, password, sslmode, sslrootcert, options, target_session_attrs",
    )
}

/// Shows the option that the client names, but nothing else of its error: that may hold a piece of a value.
fn wrong_value(error: &tokio_postgres::Error) -> ExportError {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let named = PASSED_ON.iter().find(|name| cause == format!("invalid value for option `{name}`"));
    match named {
        Some(name) => ExportError::BadUrl(format!("{name} has an invalid value")),
        None => bad("it cannot be parsed"),
    }
}

/// Refuses hosts with odd characters: they may be half a password, which must not be printed.
fn check_hosts(config: &Config) -> Result<(), ExportError> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(bad("it names no host"));
    }
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    let odd = |host: &Host| matches!(host, Host::Tcp(name) if name.is_empty() || !name.bytes().all(named));
    if config.get_hosts().iter().any(odd) {
        return Err(bad(
            "its host has invalid characters; in a user or a password write @ as %40, / as %2F, : as %3A, # \
             as %23, ? as %3F, % as %25",
        ));
    }
    Ok(())
}

fn tls_of(mode: Option<&str>, roots: Option<String>) -> Result<(SslMode, Option<PathBuf>), ExportError> {
    let system = roots.as_deref() == Some("system");
    let default = if system { "verify-full" } else { "prefer" };
    let mode = mode.unwrap_or(default);
    let found = MODES.iter().find(|(word, _)| *word == mode).map(|(_, mode)| *mode);
    let mode = found
        .ok_or_else(|| bad("sslmode must be disable, allow, prefer, require, verify-ca or verify-full"))?;
    if system && mode != SslMode::VerifyFull {
        return Err(bad(
            "sslrootcert=system needs sslmode=verify-full: anybody can get a certificate from these authorities",
        ));
    }
    let roots = roots.filter(|_| !system).map(PathBuf::from);
    if mode == SslMode::VerifyCa && roots.is_none() {
        return Err(bad(
            "sslmode=verify-ca needs sslrootcert, a file with the authority's certificate (PEM)",
        ));
    }
    Ok((mode, roots))
}

type Pairs = Vec<(String, String)>;

/// `USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?option=value&…`, without the scheme.
fn pairs_of_url(rest: &str) -> Result<Pairs, ExportError> {
    let mut pairs = Pairs::new();
    let mut push = |name: &str, value: &str| -> Result<(), ExportError> {
        pairs.push((name.to_owned(), decode(value)?));
        Ok(())
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // With two of them it is unclear which part is the host and which the password.
    if rest.matches('@').count() > 1 {
        return Err(bad("it has more than one @: in a user or a password write it as %40"));
    }
    let place = match rest.split_once('@') {
        Some((who, place)) => {
            let (user, password) = who.split_once(':').map_or((who, None), |(user, word)| (user, Some(word)));
            if !user.is_empty() {
                push("user", user)?;
            }
            if let Some(password) = password {
                push("password", password)?;
            }
            place
        }
        None => rest,
    };
    let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',').filter(|host| !host.is_empty()) {
        let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, port)) => (name, port.strip_prefix(':')),
            None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
        };
        names.push(name);
        ports.push(port.filter(|port| !port.is_empty()).unwrap_or("5432"));
    }
    if !names.is_empty() {
        push("host", &names.join(","))?;
        push("port", &ports.join(","))?;
    }
    if !database.is_empty() {
        push("dbname", database)?;
    }
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').ok_or_else(|| unknown(""))?;
        push(&decode(name)?, value)?;
    }
    Ok(pairs)
}

/// Decodes percent-encoded bytes.
fn decode(text: &str) -> Result<String, ExportError> {
    let wrong = || bad("it has a % that is not followed by two hexadecimal digits; write % as %25");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(wrong)?;
        let byte =
            digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(digits).ok_or_else(wrong)?;
        bytes.push(u8::from_str_radix(byte, 16).map_err(|_| wrong())?);
        rest = &rest[2..];
    }
    let text = String::from_utf8(bytes).map_err(|_| bad("it is not UTF-8 once its % are decoded"))?;
    if text.contains('\0') { Err(bad("it holds a NUL")) } else { Ok(text) }
}

/// `host=db user='a b' password=x\ y`.
fn pairs_of_words(text: &str) -> Result<Pairs, ExportError> {
    let mut pairs = Pairs::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| unknown(""))?;
        let (value, left) = value_of(after.trim_start())?;
        pairs.push((name.trim_end().to_owned(), value));
        rest = left.trim_start();
    }
    Ok(pairs)
}

/// The value at the beginning, and the rest after it.
fn value_of(text: &str) -> Result<(String, &str), ExportError> {
    let (quoted, text) = text.strip_prefix('\'').map_or((false, text), |rest| (true, rest));
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.extend(chars.next().map(|(_, char)| char)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            blank if !quoted && blank.is_whitespace() => return Ok((value, &text[at..])),
            other => value.push(other),
        }
    }
    if quoted { Err(bad("a quote in it is not closed")) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, String> {
        Target::parse(text, |_| None).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        match parse(text) {
            Ok(target) => panic!("{text} was taken for {}", target.shown()),
            Err(said) => said,
        }
    }

    #[test]
    fn a_url_and_pairs_mean_the_same() {
        for text in [
            "postgres://shop:p%40ss%2Fw%3A%25@db.example:6432/orders?sslmode=require&connect_timeout=3",
            "postgresql://db.example:6432/orders?user=shop&password=p%40ss/w:%25&sslmode=require",
            r"host=db.example port=6432 dbname=orders user=shop password='p@ss/w:%' sslmode=require",
            r"host = db.example port = 6432 dbname=orders user=shop password=p@ss/w:% sslmode=require",
        ] {
            let target = parse(text).expect(text);
            assert_eq!(target.shown(), "db.example:6432/orders");
            assert_eq!(target.config.get_user(), Some("shop"));
            assert_eq!(target.config.get_password(), Some(&b"p@ss/w:%"[..]), "{text}");
            assert_eq!(target.mode, SslMode::Require);
        }
        let odd = parse(r"host=h user=u password='it\'s a \\ blank'").expect("quoted");
        assert_eq!(odd.config.get_password(), Some(&br"it's a \ blank"[..]));
        let hosts = parse("postgres://u@a,b:7,[::1]:8/d?target_session_attrs=primary").expect("three");
        assert_eq!(hosts.config.get_ports(), [5432, 7, 8]);
        assert_eq!(hosts.config.get_hosts().len(), 3);
        assert!(parse("host=/run/postgresql user=u").expect("a socket").is_unix());
    }

    #[test]
    fn the_modes_and_options_of_libpq_are_known() {
        for (word, mode) in MODES {
            let roots = if mode == SslMode::VerifyCa { "&sslrootcert=/ca.pem" } else { "" };
            let target = parse(&format!("postgres://u@h/d?sslmode={word}{roots}")).expect(word);
            assert_eq!(target.mode, mode);
        }
        assert_eq!(parse("postgres://u@h/d").expect("no word").mode, SslMode::Prefer);
        assert_eq!(parse("postgres://u@h/d?ssl=true").expect("ssl").mode, SslMode::Require);
        assert_eq!(parse("postgres://u@h/d?sslrootcert=system").expect("system").mode, SslMode::VerifyFull);
        assert!(refused("postgres://u@h/d?sslmode=require&sslrootcert=system").contains("verify-full"));
        assert!(refused("postgres://u@h/d?sslmode=verify-ca").contains("sslrootcert"));
        assert!(refused("postgres://u@h/d?sslmode=geheim").contains("disable, allow, prefer"));
        for harmless in ["gssencmode=disable", "client_encoding=utf8", "fallback_application_name=x"] {
            parse(&format!("postgres://u@h/d?{harmless}")).expect(harmless);
        }
        for name in UNSUPPORTED {
            assert!(
                refused(&format!("postgres://u@h/d?{name}=x")).contains(&format!("{name} is not supported"))
            );
        }
    }

    #[test]
    fn the_environment_fills_in_what_is_missing() {
        let environment: Environment = |name| {
            let value = match name {
                "PGPASSWORD" => "word",
                "PGUSER" => "shop",
                "PGSSLMODE" => "verify-full",
                "PGSSLROOTCERT" => "/ca.pem",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let target = Target::parse("postgres://h/d", environment).expect("enough");
        assert_eq!(
            (target.config.get_user(), target.config.get_password()),
            (Some("shop"), Some(&b"word"[..]))
        );
        assert_eq!((target.mode, target.roots), (SslMode::VerifyFull, Some(PathBuf::from("/ca.pem"))));
        let said = "postgres://u:own@h/d?sslmode=disable&sslrootcert=/own.pem";
        let target = Target::parse(said, environment).expect("all said");
        assert_eq!((target.config.get_user(), target.config.get_password()), (Some("u"), Some(&b"own"[..])));
        assert_eq!((target.mode, target.roots), (SslMode::Disable, Some(PathBuf::from("/own.pem"))));
        let empty = Target::parse("postgres://u@h/d", |_| Some(String::new())).expect("an empty one is none");
        assert_eq!((empty.config.get_password(), empty.mode), (None, SslMode::Prefer));
    }

    /// Passwords without their escapes, in every form: whether the string is refused or accepted, no
    /// part of the password is shown.
    #[test]
    fn no_part_of_a_password_is_in_any_message() {
        let parts = ["Geheim", "Wort", "42xyz"];
        for first in [
            "@", "/", ":", "?", "#", "%", "&", "=", " ", "'", "\\", "[", "]", ",", "\"", "%zz", "@/", "/@",
            ":@", "?@",
        ] {
            for second in ["", "@", "/", ":", "?", "%", "&", "=", " ", "'", ","] {
                let password = format!("{}{first}{}{second}{}", parts[0], parts[1], parts[2]);
                for text in [
                    format!("postgres://u:{password}@h/d"),
                    format!("postgres://u:{password}@h:5432/d?sslmode=require"),
                    // What follows an @ is a host, whatever it looks like.
                    format!("postgres://u:{}/d", password.replace('@', "-")),
                    format!("postgres://{password}@h/d"),
                    format!("postgres://h/d?user=u&password={password}"),
                    format!("postgres://h/d?password={password}&user=u"),
                    format!("host=h user=u password={password} dbname=d"),
                    format!("host=h user=u password='{password}' dbname=d"),
                    format!("password={password} host=h user=u"),
                    format!("mysql://u:{password}@h/d"),
                    password.clone(),
                ] {
                    let said = match parse(&text) {
                        Ok(target) => target.shown(),
                        Err(said) => said,
                    };
                    for part in parts {
                        assert!(!said.contains(part), "{text}: {said}");
                    }
                }
            }
        }
    }

    #[test]
    fn errors_name_what_is_missing() {
        assert!(refused("postgres://u@/d").contains("no host"));
        assert!(refused("postgres://h/d").contains("no user"));
        assert!(refused("http://u@h/d").contains("postgresql://"));
        assert!(refused("postgres://u@h/d?nonsense=1").contains("does not exist"));
        assert!(refused("postgres://u@h:0x/d").contains("port has an invalid value"));
        for (host, local) in
            [("127.0.0.1", true), ("[::1]", true), ("localhost", true), ("db", false), ("10.0.0.1", false)]
        {
            assert_eq!(parse(&format!("postgres://u@{host}/d")).expect(host).is_local(), local, "{host}");
        }
        assert!(!parse("postgres://u@localhost,db/d").expect("two").is_local());
    }
}

//! The flags that say what is requested, of whom and how hard; `run` and `capacity` share them.
//!
//! Next: `cli/run.rs`, [`crate::engine::RunConfig`].

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use clap::{Args, ValueEnum};

use super::MerchantArgs;
use super::shape::Shape;
use crate::engine::{Mode, RunConfig, ShopSide};
use crate::program::UsageError;
use crate::request::Shop;
use crate::units;
use crate::workload::{Auth, Fates, Flow, Items, Target, Workload};

/// Duration of a run that is told neither that nor a number of requests.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

// Headings of `--help`.
const WHAT: &str = "Workload";
const RATE: &str = "Load";
const WHO: &str = "Buyers";
const AFTER: &str = "Winners";
pub(super) const VERIFICATION: &str = "Verification";

/// How buyers prove who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum AuthKind {
    /// `X-Buyer: …`
    Header,
    /// `Authorization: Bearer …`, signed on the fly (HS256)
    Jwt,
}

/// How far a buyer goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum FlowKind {
    /// The purchase alone
    Purchase,
    /// Page, challenge, ticket, purchase, wait
    Whole,
}

/// What is requested, of whom and how hard.
#[derive(Args, Debug)]
pub struct LoadArgs {
    /// The public listener, http://host:port
    pub url: String,
    /// The item to buy; with --items the first of several
    #[arg(long, value_name = "N", required_unless_present = "get", value_parser = clap::value_parser!(u32).range(1..), help_heading = WHAT)]
    pub item: Option<u32>,
    /// Buy from this many items with consecutive numbers
    #[arg(long, value_name = "N", value_parser = units::count, default_value = "1", conflicts_with = "get", help_heading = WHAT)]
    pub items: u64,
    /// With --items: the k-th is requested in proportion to 1 / k^S; 0 = all alike
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = zipf, help_heading = WHAT)]
    pub zipf: f64,
    /// Request this path instead of buying, to measure any server
    #[arg(long, value_name = "PATH", visible_alias = "path", conflicts_with = "item", help_heading = WHAT)]
    pub get: Option<String>,
    /// With --get: this method instead of GET
    #[arg(long, value_name = "METHOD", default_value = "GET", requires = "get", help_heading = WHAT)]
    pub method: String,
    /// Requests per second, open loop [default: 1k]
    #[arg(short = 'R', long, value_name = "RATE", value_parser = units::count, conflicts_with = "closed", help_heading = RATE)]
    pub rate: Option<u64>,
    /// How the rate runs: constant, ramp, ramp:A->B, spike:A->B@T, spike:A->B@T+LENGTH, or stages:FILE with
    /// lines of `TIME RATE`, each a straight line to that rate
    #[arg(long, value_name = "SHAPE", default_value = "constant", conflicts_with = "closed", help_heading = RATE)]
    pub shape: String,
    /// Closed loop: a connection sends its next request when the last response is in
    #[arg(long, help_heading = RATE)]
    pub closed: bool,
    /// Connections
    #[arg(short, long, value_name = "N", value_parser = units::count, default_value = "64", help_heading = RATE)]
    pub connections: u64,
    /// Threads
    #[arg(short, long, value_name = "N", value_parser = units::count, default_value = "1", help_heading = RATE)]
    pub threads: u64,
    /// How long new requests are started [default: 10s, unless -n is given]
    #[arg(short, long, value_name = "TIME", value_parser = units::time, help_heading = RATE)]
    pub duration: Option<Duration>,
    /// How many requests (purchases, retries apart) to make
    #[arg(short = 'n', long, value_name = "N", value_parser = units::count, help_heading = RATE)]
    pub requests: Option<u64>,
    /// One more header line; may be given more than once
    #[arg(short = 'H', long = "header", value_name = "LINE", help_heading = WHAT)]
    pub headers: Vec<String>,
    /// How long one attempt may take
    #[arg(short = 'T', long, value_name = "TIME", value_parser = units::time, default_value = "5s", help_heading = RATE)]
    pub timeout: Duration,
    /// How long an unknown outcome is retried, and how long the server may be down
    #[arg(long, value_name = "TIME", value_parser = units::time, default_value = "30s", help_heading = RATE)]
    pub ride_out: Duration,
    /// Distinct buyers [default: a new one for each purchase]
    #[arg(long, value_name = "N", value_parser = units::count, help_heading = WHO)]
    pub users: Option<u64>,
    /// Share of requests that repeat an earlier purchase with its key, as 0.1 or 10%
    #[arg(long, value_name = "SHARE", value_parser = units::share, default_value = "0", help_heading = WHO)]
    pub repeat: f64,
    /// Share of purchases that are sent twice at once, with one key, on two connections
    #[arg(long, value_name = "SHARE", value_parser = units::share, default_value = "0", help_heading = WHO)]
    pub double_click: f64,
    /// Pages of items that onlookers read per purchase; counted apart
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = pages, help_heading = WHAT)]
    pub browse: f64,
    /// How far a buyer goes: `purchase` is one request; `whole` reads the item's page, waits for the opening,
    /// solves the challenge and fetches the ticket where the item requires them, buys, and waits for the order and for the draw
    #[arg(long, value_enum, default_value = "purchase", help_heading = WHAT)]
    pub flow: FlowKind,
    /// Share of winners who pay at once, reported to the merchant API; for items with hold or on_payment
    #[arg(long, value_name = "SHARE", value_parser = units::share, default_value = "0", requires = "admin", help_heading = AFTER)]
    pub pay: f64,
    /// Share of winners who pay a second after their hold expired
    #[arg(long, value_name = "SHARE", value_parser = units::share, default_value = "0", requires = "admin", help_heading = AFTER)]
    pub pay_late: f64,
    /// Share of winners who cancel their order
    #[arg(long, value_name = "SHARE", value_parser = units::share, default_value = "0", help_heading = AFTER)]
    pub cancel: f64,
    /// Send a level for each account, 0 to N-1 (X-Buyer-Level, or `lvl` in the token)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=10), help_heading = WHO)]
    pub levels: Option<u8>,
    /// Units per purchase
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = WHAT)]
    pub quantity: u32,
    /// Requests in flight per connection
    #[arg(long, value_name = "N", value_parser = units::count, default_value = "1", help_heading = RATE)]
    pub pipeline: u64,
    /// One connection per request, as clients without keep-alive do
    #[arg(long, help_heading = RATE)]
    pub no_keepalive: bool,
    /// The seed of buyers, keys and repeats [default: random, shown in the report]
    #[arg(long, value_name = "N", help_heading = WHO)]
    pub seed: Option<u64>,
    /// How buyers prove who they are
    #[arg(long, value_enum, default_value = "header", help_heading = WHO)]
    pub auth: AuthKind,
    /// With --auth jwt: a file with the shared secret in base64
    #[arg(long, value_name = "FILE", required_if_eq("auth", "jwt"), help_heading = WHO)]
    pub jwt_key_file: Option<PathBuf>,
    /// With --auth jwt: the key's name
    #[arg(long, value_name = "NAME", requires = "jwt_key_file", help_heading = WHO)]
    pub kid: Option<String>,
    /// Do not verify at the end
    #[arg(long, help_heading = VERIFICATION)]
    pub no_verify: bool,
    /// The merchant API, for payments and for verifying.
    #[command(flatten)]
    pub merchant: MerchantArgs,
    /// The database to compare when verifying, as postgres://…
    #[arg(long, value_name = "URL", requires = "admin", help_heading = VERIFICATION)]
    pub postgres: Option<String>,
    /// How long the export may take to catch up
    #[arg(long, value_name = "TIME", value_parser = units::time, default_value = "60s", help_heading = VERIFICATION)]
    pub export_wait: Duration,
}

impl LoadArgs {
    /// The checked settings of the run.
    ///
    /// # Errors
    /// [`UsageError`] for what cannot be, in words.
    pub fn config(&self) -> Result<RunConfig, UsageError> {
        let (addr, host) = resolve(&self.url)?;
        let narrow = |value: u64, flag: &str| {
            u32::try_from(value).map_err(|_| UsageError(format!("{flag} {value} is too large")))
        };
        let shape = Shape::parse(&self.shape)?;
        let duration = self.duration.or_else(|| shape.natural_length());
        let unbounded = duration.is_none() && self.requests.is_none();
        let duration = if unbounded { Some(DURATION_DEFAULT) } else { duration };
        Ok(RunConfig {
            addr,
            host,
            workload: self.workload()?,
            mode: if self.closed { Mode::Closed } else { Mode::Open(shape.schedule(self.rate, duration)?) },
            connections: narrow(self.connections, "-c")?,
            threads: narrow(self.threads, "-t")?,
            pipeline: narrow(self.pipeline, "--pipeline")?,
            keep_alive: !self.no_keepalive,
            shop: self.shop()?,
            duration,
            requests: self.requests,
            timeout: self.timeout,
            ride_out: self.ride_out,
            keep_history: self.verifies(),
            progress: true,
            stop: std::sync::Arc::default(),
        })
    }

    /// Whether the run ends with a verdict: the merchant's with --admin, else what clients can tell.
    pub const fn verifies(&self) -> bool {
        !self.no_verify && self.get.is_none()
    }

    fn workload(&self) -> Result<Workload, UsageError> {
        let seed = match self.seed {
            Some(seed) => seed,
            // Up to 2^53, so that whatever reads the report's JSON reads the same number.
            None => getrandom::u64()
                .map(|seed| seed >> 11)
                .map_err(|error| UsageError(format!("no random seed: {error}; give --seed")))?,
        };
        let users = self.users.map(u32::try_from).transpose();
        let target = match (&self.get, self.item) {
            (Some(path), _) => Target::Raw { method: self.method.clone(), path: path.clone() },
            (None, Some(first)) => {
                let count = u32::try_from(self.items).unwrap_or(u32::MAX);
                Target::Purchase { items: Items { first, count, zipf: self.zipf } }
            }
            (None, None) => return Err(UsageError("give --item N or --get PATH".to_owned())),
        };
        Ok(Workload {
            target,
            auth: self.auth()?,
            ticket: None,
            quantity: self.quantity,
            users: users.map_err(|_| UsageError("--users is too large".to_owned()))?,
            repeat: self.repeat,
            double_click: self.double_click,
            browse: self.browse,
            flow: match self.flow {
                FlowKind::Purchase => Flow::Purchase,
                FlowKind::Whole => Flow::Whole,
            },
            fates: Fates { pay: self.pay, pay_late: self.pay_late, cancel: self.cancel },
            levels: self.levels,
            seed,
            headers: self.headers.clone(),
        })
    }

    /// The merchant API, if winners pay.
    fn shop(&self) -> Result<Option<ShopSide>, UsageError> {
        let (Some(url), Some(file)) = (&self.merchant.admin, &self.merchant.admin_token_file) else {
            return Ok(None);
        };
        if self.pay + self.pay_late == 0.0 {
            return Ok(None);
        }
        let (addr, host) = resolve(url)?;
        let token = std::fs::read_to_string(file).map_err(|error| {
            UsageError(format!("cannot read --admin-token-file {}: {error}", file.display()))
        })?;
        Ok(Some(ShopSide { addr, shop: Shop { host, token: token.trim().to_owned() } }))
    }

    fn auth(&self) -> Result<Auth, UsageError> {
        let Some(file) = self.jwt_key_file.as_ref().filter(|_| self.auth == AuthKind::Jwt) else {
            return Ok(Auth::Header);
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| UsageError(format!("cannot read --jwt-key-file {}: {error}", file.display())))?;
        let key = decode_secret(text.trim())
            .ok_or_else(|| UsageError(format!("--jwt-key-file {} is not base64", file.display())))?;
        Ok(Auth::Jwt { key, kid: self.kid.clone() })
    }
}

fn zipf(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=10.0).contains(value));
    value.ok_or_else(|| format!("`{text}` is not an exponent from 0 to 10"))
}

fn pages(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1_000.0).contains(value));
    value.ok_or_else(|| format!("`{text}` is not a number of pages from 0 to 1000"))
}

/// Base64 in either alphabet, padded or not.
fn decode_secret(text: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let with = |alphabet| GeneralPurpose::new(alphabet, lenient).decode(text);
    let key = with(&base64::alphabet::STANDARD).or_else(|_| with(&base64::alphabet::URL_SAFE)).ok()?;
    (!key.is_empty()).then_some(key)
}

/// `http://host:port` to an address and what `Host` says.
fn resolve(url: &str) -> Result<(SocketAddr, String), UsageError> {
    let wrong = |why: &str| UsageError(format!("`{url}` {why}; write for example http://127.0.0.1:7070"));
    if url.starts_with("https://") {
        return Err(wrong("wants TLS, which this generator does not speak"));
    }
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.is_empty() || host.contains(['/', '?', '#', '@']) || !host.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong("is not a plain server address"));
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let target = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut addrs =
        target.to_socket_addrs().map_err(|error| wrong(&format!("cannot be resolved ({error})")))?;
    let addr = addrs.next().ok_or_else(|| wrong("has no address"))?;
    Ok((addr, host.to_owned()))
}

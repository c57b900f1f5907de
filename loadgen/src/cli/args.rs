//! The flags, as clap reads them, and their way into checked settings.
//!
//! Next: [`super::commands`].

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::UsageError;
use crate::bare::ANSWER_BYTES;
use crate::engine::{Mode, RunConfig};
use crate::units;
use crate::workload::{Auth, Target, Workload};

/// Duration of a run that is told neither that nor a number of requests.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// Load generator and checker for flash sales.
#[derive(Parser, Debug)]
#[command(name = "stampede-loadgen", version, after_help = EXAMPLES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  stampede-loadgen item --admin http://127.0.0.1:7071 --admin-token-file T --item 1 --stock 10k
  stampede-loadgen run http://127.0.0.1:7070 --item 1 -R 50k -d 30s --admin http://127.0.0.1:7071 --admin-token-file T
  stampede-loadgen run http://127.0.0.1:7070 --item 1 --closed -n 100k -c 200
  stampede-loadgen run http://127.0.0.1:8080 --get / --closed -d 5s
  stampede-loadgen verify --admin http://127.0.0.1:7071 --admin-token-file T --item 1 --history H

Exit codes: 0 fine, 1 could not run, 2 bad flags, 3 a promise was broken.";

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Sends a workload, reports, and verifies what came of it
    Run(Box<RunArgs>),
    /// Verifies an item at rest: no oversell, no lost ack, no buyer above the cap, Postgres equal
    Verify(VerifyArgs),
    /// Creates an item that is open now, for one hour
    Item(ItemArgs),
    /// Serves a constant answer from one thread: the limit to compare with
    Bare {
        /// Where to listen
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7079")]
        listen: SocketAddr,
        /// Bytes of an answer, head included
        #[arg(long, value_name = "N", default_value_t = ANSWER_BYTES)]
        bytes: usize,
    },
}

/// How buyers prove who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum AuthKind {
    /// `X-Buyer: …`
    Header,
    /// `Authorization: Bearer …`, signed on the fly (HS256)
    Jwt,
}

/// Flags of `run`.
#[derive(ClapArgs, Debug)]
pub struct RunArgs {
    /// The public listener, http://host:port
    pub url: String,
    /// The item to buy
    #[arg(long, value_name = "N", required_unless_present = "get", value_parser = clap::value_parser!(u32).range(1..))]
    pub item: Option<u32>,
    /// Ask for this path instead of buying, to measure any server
    #[arg(long, value_name = "PATH", visible_alias = "path", conflicts_with = "item")]
    pub get: Option<String>,
    /// With --get: this method instead of GET
    #[arg(long, value_name = "METHOD", default_value = "GET", requires = "get")]
    pub method: String,
    /// Requests per second, open loop [default: 1k]
    #[arg(short = 'R', long, value_name = "RATE", value_parser = units::count, conflicts_with = "closed")]
    pub rate: Option<u64>,
    /// Closed loop: the next request leaves when an answer is in
    #[arg(long)]
    pub closed: bool,
    /// Connections
    #[arg(short, long, value_name = "N", value_parser = units::count, default_value = "64")]
    pub connections: u64,
    /// Threads
    #[arg(short, long, value_name = "N", value_parser = units::count, default_value = "1")]
    pub threads: u64,
    /// How long new requests begin [default: 10s, unless -n is given]
    #[arg(short, long, value_name = "TIME", value_parser = units::time)]
    pub duration: Option<Duration>,
    /// How many requests (purchases, retries apart) to make
    #[arg(short = 'n', long, value_name = "N", value_parser = units::count)]
    pub requests: Option<u64>,
    /// One more header line; may be given more than once
    #[arg(short = 'H', long = "header", value_name = "LINE")]
    pub headers: Vec<String>,
    /// How long one attempt may take
    #[arg(short = 'T', long, value_name = "TIME", value_parser = units::time, default_value = "5s")]
    pub timeout: Duration,
    /// How long an unknown outcome is tried again, and the server may be away
    #[arg(long, value_name = "TIME", value_parser = units::time, default_value = "30s")]
    pub ride_out: Duration,
    /// Distinct buyers [default: a new one for each purchase]
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub users: Option<u64>,
    /// Share of requests that repeat an earlier purchase with its key, as 0.1 or 10%
    #[arg(long, value_name = "SHARE", value_parser = units::share, default_value = "0")]
    pub repeat: f64,
    /// Units per purchase
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub quantity: u32,
    /// Requests under way per connection
    #[arg(long, value_name = "N", value_parser = units::count, default_value = "1")]
    pub pipeline: u64,
    /// What buyers, keys and repeats follow from [default: random, shown in the report]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How buyers prove who they are
    #[arg(long, value_enum, default_value = "header")]
    pub auth: AuthKind,
    /// With --auth jwt: a file with the shared secret in base64
    #[arg(long, value_name = "FILE", required_if_eq("auth", "jwt"))]
    pub jwt_key_file: Option<PathBuf>,
    /// With --auth jwt: the key's name
    #[arg(long, value_name = "NAME", requires = "jwt_key_file")]
    pub kid: Option<String>,
    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Keep every outcome in this file, for `verify`
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Do not verify at the end
    #[arg(long)]
    pub no_verify: bool,
    /// Whom to ask when verifying.
    #[command(flatten)]
    pub merchant: MerchantArgs,
    /// The database to compare when verifying, as postgres://…
    #[arg(long, value_name = "URL", requires = "admin")]
    pub postgres: Option<String>,
    /// How long the export may take to catch up
    #[arg(long, value_name = "TIME", value_parser = units::time, default_value = "60s")]
    pub export_wait: Duration,
}

/// The merchant listener.
#[derive(ClapArgs, Debug)]
pub struct MerchantArgs {
    /// The merchant listener, http://host:port
    #[arg(long, value_name = "URL", requires = "admin_token_file")]
    pub admin: Option<String>,
    /// A file with its token
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub admin_token_file: Option<PathBuf>,
}

/// Flags of `verify`.
#[derive(ClapArgs, Debug)]
pub struct VerifyArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub merchant: MerchantArgs,
    /// The item
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub item: u32,
    /// The database to compare, as postgres://…
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// What clients were told: a file that `run --history` wrote
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// How long the export may take to catch up
    #[arg(long, value_name = "TIME", value_parser = units::time, default_value = "60s")]
    pub export_wait: Duration,
}

/// Flags of `item`.
#[derive(ClapArgs, Debug)]
pub struct ItemArgs {
    /// Where to create it.
    #[command(flatten)]
    pub merchant: MerchantArgs,
    /// The item's number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub item: u32,
    /// Units to sell
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub stock: u64,
    /// Most units per buyer
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub cap: u32,
    /// When stock is deducted: on_order, hold or on_payment
    #[arg(long, default_value = "on_order", value_parser = ["on_order", "hold", "on_payment"])]
    pub payment: String,
    /// How long a hold lasts (needed with --payment hold)
    #[arg(long, value_name = "TIME", value_parser = units::time, default_value = "15m")]
    pub hold: Duration,
    /// How long it stays open
    #[arg(long, value_name = "TIME", value_parser = units::time, default_value = "1h")]
    pub open_for: Duration,
    /// What buyers see
    #[arg(long, default_value = "load test")]
    pub name: String,
    /// Price of a unit in minor units
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub price_minor: u64,
    /// Currency, ISO 4217
    #[arg(long, default_value = "CNY")]
    pub currency: String,
    /// Purchases admitted per second; 0 = no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub admit_per_s: u32,
}

impl RunArgs {
    /// The checked settings of the run.
    ///
    /// # Errors
    /// [`UsageError`] for what cannot be, in words.
    pub fn config(&self) -> Result<RunConfig, UsageError> {
        let (addr, host) = resolve(&self.url)?;
        let narrow = |value: u64, flag: &str| {
            u32::try_from(value).map_err(|_| UsageError(format!("{flag} {value} is too large")))
        };
        let default_rate = if self.closed { None } else { Some(self.rate.unwrap_or(1_000)) };
        let unbounded = self.duration.is_none() && self.requests.is_none();
        Ok(RunConfig {
            addr,
            host,
            workload: self.workload()?,
            mode: default_rate.map_or(Mode::Closed, |rate| Mode::Open { per_s: rate as f64 }),
            connections: narrow(self.connections, "-c")?,
            threads: narrow(self.threads, "-t")?,
            pipeline: narrow(self.pipeline, "--pipeline")?,
            duration: if unbounded { Some(DURATION_DEFAULT) } else { self.duration },
            requests: self.requests,
            timeout: self.timeout,
            ride_out: self.ride_out,
            keep_history: self.history.is_some() || self.verifies(),
            progress: true,
            stop: std::sync::Arc::default(),
        })
    }

    /// Whether the run ends with a verdict.
    pub const fn verifies(&self) -> bool {
        self.merchant.admin.is_some() && !self.no_verify && self.get.is_none()
    }

    fn workload(&self) -> Result<Workload, UsageError> {
        let seed = match self.seed {
            Some(seed) => seed,
            None => getrandom::u64()
                .map_err(|error| UsageError(format!("no random seed: {error}; give --seed")))?,
        };
        let users = self.users.map(u32::try_from).transpose();
        let target = match (&self.get, self.item) {
            (Some(path), _) => Target::Raw { method: self.method.clone(), path: path.clone() },
            (None, Some(item)) => Target::Purchase { item },
            (None, None) => return Err(UsageError("give --item N or --get PATH".to_owned())),
        };
        Ok(Workload {
            target,
            auth: self.auth()?,
            quantity: self.quantity,
            users: users.map_err(|_| UsageError("--users is too large".to_owned()))?,
            repeat: self.repeat,
            seed,
            headers: self.headers.clone(),
        })
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

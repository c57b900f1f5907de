//! `stampede reconcile`: memory = log = Postgres, while the sale runs.
//!
//! It reads the log's files beside the engine, asks the engine over the merchant API, and the
//! database in one snapshot; [`crate::reconcile`] compares. Here: flags, output, exit codes.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use stampede_core::types::ItemId;
use stampede_persist::export::{ConnectOptions, Database};

use super::args::SettingsArgs;
use super::failure::{EXIT_FAILED, EXIT_NOT_COMPARED, Failure};
use crate::output;
use crate::reconcile::engine::Engine;
use crate::reconcile::follow::Follower;
use crate::reconcile::report::{Mismatch, Place, Report};
use crate::reconcile::{Options, Sources, Trouble, round};
use crate::settings::{Settings, secrets};

/// How often it starts again if the log is trimmed meanwhile.
const TRIES_MAX: usize = 5;
/// Its lower CPU priority than the engine's, as a nice value.
const NICE: i32 = 5;
/// Least time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

const AFTER_HELP: &str = "\
Give it the settings that the engine was started with (--config, --data-dir, --postgres …), on
the same machine. It takes no lock and stops nothing. Each item is compared at one LSN: its numbers,
and every order with buyer, quantity, state, idempotency key and payment reference; memory and log
also by times and LSNs. An item that differs is paused, by `reconcile` in the audit trail; the others
go on selling. Resume it with POST /admin/items/N/resume when you know why.

Not a mismatch: rows that Postgres refused (they are in stampede_set_aside), locked rows,
edits of stock.count that the engine takes over within --patience.

Memory: about 120 bytes and the buyer's name per order.

Exit codes: 0 equal, 1 something differs, 2 something could not be compared, 78 invalid
settings.";

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ReconcileArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Address of the merchant API, if not admin_listen on this machine
    #[arg(long, value_name = "http://HOST:PORT")]
    url: Option<String>,
    /// Compare only this item
    #[arg(long, value_parser = parse_item, value_name = "N")]
    item: Option<ItemId>,
    /// Only report differences; pause nothing
    #[arg(long)]
    no_pause: bool,
    /// Repeat the comparison at this interval until interrupted
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
    /// How long to wait for changes that are under way
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    patience: u64,
    /// Print one JSON object per comparison
    #[arg(long)]
    json: bool,
    /// Print a line for every item
    #[arg(long, short)]
    verbose: bool,
}

fn parse_item(text: &str) -> Result<ItemId, String> {
    let number = text.parse().ok().and_then(ItemId::new);
    number.ok_or_else(|| "an item is a number from 1 to 2147483647".to_owned())
}

/// Compares once, or until interrupted.
pub(super) fn run(args: &ReconcileArgs, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let settings = args.settings.load(false)?.settings;
    // The sale comes first; where this is not permitted, the priority stays as it is.
    let _as_it_is = rustix::process::nice(NICE);
    let not_compared = |error: &dyn std::fmt::Display| Failure::NotCompared(error.to_string());
    if !settings.data_dir.is_dir() {
        let place = settings.data_dir.display();
        return Err(Failure::NotCompared(format!(
            "{place} is not a directory. Name the engine's data directory with --data-dir or --config"
        )));
    }
    let token = secrets::existing_admin_token(&settings).map_err(|error| not_compared(&error))?;
    let patience = Duration::from_secs(args.patience);
    let url = args.url.clone().unwrap_or_else(|| format!("http://{}", reachable(settings.admin_listen)));
    if !url.starts_with("http://") {
        return Err(Failure::Usage(format!("{url}: only http:// is supported")));
    }
    let mut comparing = Comparing {
        args,
        options: Options { item: args.item, patience, pause: !args.no_pause },
        engine: Engine::new(&url, token.reveal(), patience),
        settings,
        log: None,
        progress: Progress::new(!args.json),
    };
    let Some(seconds) = args.watch else { return comparing.once(out) };
    // It watches a sale whether anybody reads the output or not.
    output::start().map_err(|error| not_compared(&error))?;
    let out = &mut output::StdoutLines::default();
    loop {
        let next = Instant::now() + Duration::from_secs(seconds);
        match comparing.once(out) {
            Ok(_) => {}
            Err(Failure::NotCompared(text)) => output::say(&format!("stampede: {text}")),
            Err(other) => return Err(other),
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// The address to connect to: loopback if the engine listens on all addresses.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        _ => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
    }
}

struct Comparing<'a> {
    args: &'a ReconcileArgs,
    options: Options,
    engine: Engine,
    settings: Settings,
    /// Kept from one comparison to the next: it only goes forward.
    log: Option<Follower>,
    progress: Progress,
}

impl Comparing<'_> {
    fn once(&mut self, out: &mut dyn Write) -> Result<ExitCode, Failure> {
        let compared = self.compare();
        self.progress.clear();
        match compared {
            Ok(report) => self.print(&report, out),
            Err(Trouble::LogWrong(wrong)) => {
                if self.args.json {
                    let line = serde_json::json!({ "equal": false, "log_wrong": wrong });
                    writeln!(out, "{line}")?;
                } else {
                    writeln!(out, "WRONG: {wrong}")?;
                }
                Ok(ExitCode::from(EXIT_FAILED))
            }
            Err(trouble) => Err(Failure::NotCompared(trouble.to_string())),
        }
    }

    fn compare(&mut self) -> Result<Report, Trouble> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.compare_from_here() {
                Err(Trouble::Trimmed) if tries < TRIES_MAX => {}
                done => return done,
            }
        }
    }

    fn compare_from_here(&mut self) -> Result<Report, Trouble> {
        let mut log = match self.log.take() {
            Some(log) => log,
            None => Follower::open(&self.settings.data_dir)?,
        };
        let mut lost = None;
        let mut database = None;
        if let Some(postgres) = self.settings.postgres() {
            match Database::connect(&ConnectOptions::new(postgres.url.reveal())) {
                Ok(connected) => database = Some(connected),
                Err(error) => lost = Some(error.to_string()),
            }
        }
        let mut sources = Sources { log: &mut log, engine: &self.engine, database: database.as_mut() };
        let progress = &mut self.progress;
        let mut report = round(&mut sources, &self.options, &mut |text| progress.show(text))?;
        report.unable.extend(lost.map(|reason| format!("Postgres: {reason}")));
        if self.settings.postgres().is_none()
            && let Some(kept_for) = log.control().keeps_facts_for()
        {
            report
                .unable
                .push(format!("Postgres: the log belongs to {kept_for}, and no postgres.url is set"));
        }
        // After an error the log is opened again.
        self.log = Some(log);
        Ok(report)
    }

    fn print(&self, report: &Report, out: &mut dyn Write) -> Result<ExitCode, Failure> {
        if self.args.json {
            writeln!(out, "{}", report.json())?;
        } else {
            if self.args.verbose {
                print_items(report, out)?;
            }
            for mismatch in &report.mismatches {
                print_mismatch(mismatch, out)?;
            }
            for text in &report.known {
                writeln!(out, "known: {text}")?;
            }
            for text in &report.unable {
                writeln!(out, "could not compare {text}")?;
            }
            writeln!(out, "{}", closing(report, self.settings.postgres().is_some()))?;
        }
        out.flush()?;
        Ok(match (report.mismatches.is_empty(), report.unable.is_empty()) {
            (false, _) => ExitCode::from(EXIT_FAILED),
            (true, false) => ExitCode::from(EXIT_NOT_COMPARED),
            (true, true) => ExitCode::SUCCESS,
        })
    }
}

fn print_items(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{:>10} {:>10} {:>12} {:>12} {:>10} {:>12}  verdict",
        "item", "orders", "granted", "available", "held", "sold"
    )?;
    for line in &report.items {
        let [granted, available, held, sold] = line.piles;
        let verdict = if report.has(line.item) { "DIFFERS" } else { "equal" };
        let (item, orders) = (line.item.get(), line.orders);
        writeln!(
            out,
            "{item:>10} {orders:>10} {granted:>12} {available:>12} {held:>10} {sold:>12}  {verdict}"
        )?;
    }
    Ok(())
}

fn print_mismatch(mismatch: &Mismatch, out: &mut dyn Write) -> io::Result<()> {
    let item = mismatch.item;
    writeln!(out, "item {item} DIFFERS at LSN {}: {}", mismatch.lsn, mismatch.reason())?;
    let differing = mismatch.differing();
    for place in Place::ALL {
        let Some(told) = mismatch.told(place) else { continue };
        let text =
            told.order.as_ref().map_or_else(|| "no such order".to_owned(), |order| order.text(&differing));
        writeln!(out, "  {:<9} at LSN {}: {text}", place.name(), told.at)?;
    }
    match &mismatch.pause {
        Some(Ok(())) => writeln!(out, "  item {item} is paused"),
        Some(Err(reason)) => writeln!(out, "  item {item} could not be paused: {reason}"),
        None => writeln!(out, "  item {item} was not paused"),
    }
}

fn closing(report: &Report, configured: bool) -> String {
    let Report { orders, lsn, took, .. } = report;
    let items = report.items.len();
    let differ = report.mismatches.len();
    let compared = match (report.cursor, configured) {
        (Some(_), _) => "memory, log and Postgres",
        (None, true) => "memory and log; Postgres could not be compared,",
        (None, false) => "memory and log; no Postgres is configured,",
    };
    let verdict = if differ == 0 { "equal".to_owned() } else { format!("{differ} items DIFFER") };
    let cursor = report.cursor.map_or_else(String::new, |cursor| format!(" (Postgres {cursor})"));
    format!(
        "{compared} {verdict}: {items} items, {orders} orders, LSN {lsn}{cursor}, {:.1} s",
        took.as_secs_f64()
    )
}

/// A progress line that overwrites itself, only on a terminal.
struct Progress {
    shown: bool,
    wanted: bool,
    last: Option<Instant>,
}

impl Progress {
    fn new(wanted: bool) -> Self {
        Self { shown: false, wanted: wanted && io::stderr().is_terminal(), last: None }
    }

    fn show(&mut self, text: &str) {
        if !self.wanted || self.last.is_some_and(|last| last.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        self.shown = true;
        output::offer(&format!("\r\x1b[K{text}"));
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            output::offer("\r\x1b[K");
        }
    }
}

//! What each command does, from its flags to its exit code.
//!
//! Next: [`crate::engine`], [`crate::verify`], [`crate::bare`].

use std::fs::File;
use std::io::{BufReader, BufWriter, IsTerminal, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::{
    Args, Command, EXIT_FAILED, EXIT_VIOLATION, ItemArgs, MerchantArgs, RunArgs, UsageError, VerifyArgs,
};
use crate::bare::Bare;
use crate::check::Verdict;
use crate::engine::{self, RunError, unix_ms};
use crate::history::History;
use crate::report::Report;
use crate::verify::{Merchant, VerifyConfig, verify};

/// Exit code of a second Ctrl-C, as shells count it.
const EXIT_INTERRUPTED: i32 = 130;

/// Does what the flags say; the exit code.
pub(super) fn run(args: Args) -> Result<u8> {
    match args.command {
        Command::Run(args) => run_load(&args),
        Command::Verify(args) => run_verify(&args),
        Command::Item(args) => create_item(&args),
        Command::Bare { listen, bytes } => {
            let bare = Bare::bind(listen, bytes).with_context(|| format!("cannot listen on {listen}"))?;
            println!("listening on {}", bare.addr()?);
            let stop = stop_flag()?;
            bare.serve(&stop)?;
            Ok(0)
        }
    }
}

/// Set by the first Ctrl-C or SIGTERM; the second ends the process at once.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn run_load(args: &RunArgs) -> Result<u8> {
    let mut config = args.config()?;
    let merchant = if args.verifies() { Some(merchant(&args.merchant)?) } else { None };
    let item = args.item.unwrap_or(0);
    let baseline = match &merchant {
        Some(merchant) => {
            let page = merchant.item(item).with_context(|| format!("item {item} cannot be verified"))?;
            (merchant.last_order_id(item)?, page.totals.granted)
        }
        None => (0, 0),
    };
    config.stop = stop_flag()?;
    let mut outcome = engine::run(&config).map_err(|error| match error {
        RunError::Setting(_) | RunError::Request(_) => UsageError(error.to_string()).into(),
        other => anyhow::Error::from(other),
    })?;
    if let Some(history) = &mut outcome.history {
        (history.baseline_order_id, history.baseline_granted) = baseline;
    }
    // What was measured is shown even if the verdict cannot be had.
    let judged = merchant.map(|merchant| {
        verify(&VerifyConfig {
            merchant: &merchant,
            postgres: args.postgres.as_deref(),
            item,
            history: outcome.history.as_ref(),
            export_wait: args.export_wait,
        })
    });
    let verdict = judged.as_ref().and_then(|judged| judged.as_ref().ok());
    let report = Report::new(&config, &outcome, verdict);
    print!("{}", report.text(stdout().is_terminal()));
    if let Some(file) = &args.json {
        write_file(file, |out| Ok(serde_json::to_writer_pretty(out, &report.json())?))?;
    }
    if let (Some(file), Some(history)) = (&args.history, &outcome.history) {
        write_file(file, |out| Ok(history.write(out)?))?;
    }
    let violated = verdict.is_some_and(|verdict| !verdict.is_fine());
    judged.transpose().context("the run was not verified")?;
    Ok(if violated {
        EXIT_VIOLATION
    } else if outcome.gave_up.is_some() {
        EXIT_FAILED
    } else {
        0
    })
}

fn write_file(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let words = || format!("cannot write {}", path.display());
    let mut out = BufWriter::new(File::create(path).with_context(words)?);
    write(&mut out).with_context(words)?;
    out.into_inner().with_context(words)?;
    Ok(())
}

fn run_verify(args: &VerifyArgs) -> Result<u8> {
    let merchant = merchant(&args.merchant)?;
    let history = args.history.as_deref().map(read_history).transpose()?;
    if let Some(history) = history.as_ref().filter(|history| history.item != args.item) {
        let words = format!("the history is of item {}, not of item {}", history.item, args.item);
        return Err(UsageError(words).into());
    }
    let verdict = verify(&VerifyConfig {
        merchant: &merchant,
        postgres: args.postgres.as_deref(),
        item: args.item,
        history: history.as_ref(),
        export_wait: args.export_wait,
    })?;
    Ok(tell(&verdict))
}

fn tell(verdict: &Verdict) -> u8 {
    println!("{verdict}");
    verdict.violations.iter().skip(1).for_each(|violation| println!("  {violation}"));
    if verdict.is_fine() { 0 } else { EXIT_VIOLATION }
}

fn read_history(path: &Path) -> Result<History> {
    let words = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(words)?;
    History::read(&mut BufReader::new(file)).with_context(words)
}

fn merchant(args: &MerchantArgs) -> Result<Merchant> {
    let (Some(url), Some(file)) = (&args.admin, &args.admin_token_file) else {
        return Err(UsageError("give --admin URL and --admin-token-file FILE".to_owned()).into());
    };
    let token = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Merchant::new(url, &token))
}

fn create_item(args: &ItemArgs) -> Result<u8> {
    let now_ms = unix_ms();
    let hold_ms = if args.payment == "hold" { args.hold.as_millis() as u64 } else { 0 };
    let body = json!({
        "name": args.name,
        "price_minor": args.price_minor,
        "currency": args.currency,
        "stock": args.stock,
        "opens_at_ms": now_ms.saturating_sub(1_000),
        "closes_at_ms": now_ms + args.open_for.as_millis() as u64,
        "cap": args.cap,
        "payment": args.payment,
        "hold_ms": hold_ms,
        "ticket": "never",
        "challenge": "never",
        "min_level": 0,
        "min_account_age_s": 0,
        "admit_per_s": args.admit_per_s,
    });
    merchant(&args.merchant)?.put(&format!("/admin/items/{}", args.item), &body)?;
    println!("item {} is open with {} units, at most {} per buyer", args.item, args.stock, args.cap);
    Ok(0)
}

//! `stampede draw verify`: recomputes the winners of a draw from what was published.
//!
//! The source is a server's public address, a data directory, or the pages of `GET /v1/items/{id}/draw` on the
//! standard input. It shares no code with the engine's draw: this is a second implementation of docs/DRAW.md. Next:
//! [`check`] for the protocol, [`source`] for where the claim comes from.

mod check;
mod source;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use stampede_core::types::ItemId;

use super::failure::{EXIT_FAILED, Failure};
use crate::http::draw::hex;
use check::{Claim, Counted};

#[derive(Subcommand)]
pub(super) enum DrawCommand {
    /// Recompute commitment, ranks and winners of a draw; exit code 1 if anything differs
    Verify(VerifyArgs),
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// A server (http://HOST:PORT), a data directory, or - for its pages on the standard input
    source: String,
    /// The item that was drawn
    #[arg(long, value_parser = parse_item, value_name = "N")]
    item: ItemId,
    /// The commitment as noted before the opening
    #[arg(long, value_parser = parse_digest, value_name = "COMMITMENT")]
    before: Option<[u8; 32]>,
}

fn parse_item(text: &str) -> Result<ItemId, String> {
    let number = text.parse().ok().and_then(ItemId::new);
    number.ok_or_else(|| "an item is a number from 1 to 2147483647".to_owned())
}

fn parse_digest(text: &str) -> Result<[u8; 32], String> {
    source::unhex(text).ok_or_else(|| "a commitment has 64 hexadecimal digits".to_owned())
}

/// Recomputes the draw and compares.
pub(super) fn run(command: &DrawCommand, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let DrawCommand::Verify(args) = command;
    let claim = source::read(&args.source, args.item).map_err(Failure::Failed)?;
    let verdict = check::check(&claim, args.before.as_ref());
    print_claim(&claim, out)?;
    match verdict {
        Ok(Counted { winners, units_won }) => {
            writeln!(out, "winners     {winners} with {units_won} units")?;
            writeln!(out, "the draw is right")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(difference) => {
            writeln!(out, "WRONG: {difference}")?;
            Ok(ExitCode::from(EXIT_FAILED))
        }
    }
}

fn print_claim(claim: &Claim, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "item        {}", claim.item)?;
    writeln!(out, "entries     {}", claim.entries_total)?;
    writeln!(out, "units       {}", claim.units)?;
    writeln!(out, "seed        {}", hex(&claim.seed))?;
    writeln!(out, "commitment  {}", hex(&claim.commitment))
}

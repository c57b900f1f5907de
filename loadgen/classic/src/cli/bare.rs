//! `bare`: a server that does nothing, to compare with.
//!
//! Next: [`crate::bare`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::bare::{Bare, Manner, RESPONSE_BYTES, Stall};
use stampede_loadgen::program::{UsageError, stop_flag};
use stampede_loadgen::{printer, units};

/// Flags of `bare`.
#[derive(Args, Debug)]
pub struct BareArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7079")]
    pub listen: SocketAddr,
    /// Bytes of a response, head included
    #[arg(long, value_name = "N", default_value_t = RESPONSE_BYTES)]
    pub bytes: usize,
    /// Answer with the bytes of this file, head included, instead
    #[arg(long, value_name = "FILE", conflicts_with = "bytes")]
    pub answer: Option<PathBuf>,
    /// Each response leaves this long after its request
    #[arg(long, value_name = "TIME", value_parser = units::time, default_value = "0s")]
    pub delay: Duration,
    /// Answers nothing for this long, again and again (with --every)
    #[arg(long, value_name = "TIME", value_parser = units::time, requires = "every")]
    pub stall: Option<Duration>,
    /// From the beginning of one stall to the beginning of the next; the first comes after one such time
    #[arg(long, value_name = "TIME", value_parser = units::time, requires = "stall")]
    pub every: Option<Duration>,
}

impl BareArgs {
    fn manner(&self) -> Result<Manner, UsageError> {
        let stall = self.stall.zip(self.every).map(|(length, every)| Stall { length, every });
        match stall {
            Some(Stall { length, every }) if length >= every => Err(UsageError(
                "--stall has to be shorter than --every, or nothing is ever answered".to_owned(),
            )),
            stall => Ok(Manner { delay: self.delay, stall }),
        }
    }
}

/// Serves until Ctrl-C; the exit code.
pub(super) fn run(args: &BareArgs) -> Result<u8> {
    let manner = args.manner()?;
    let bare =
        Bare::bind(args.listen, args.bytes).with_context(|| format!("cannot listen on {}", args.listen))?;
    let bare = bare.with_manner(manner);
    let bare = match &args.answer {
        None => bare,
        Some(file) => {
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            bare.with_response(bytes)
        }
    };
    printer::print_line(&format!("listening on {}", bare.addr()?));
    let stop = stop_flag()?;
    bare.serve(&stop)?;
    Ok(0)
}

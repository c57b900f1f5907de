//! The flags for the merchant API, and the client that they make.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::program::UsageError;
use crate::verify::Merchant;

/// The merchant API.
#[derive(Args, Debug)]
pub struct MerchantArgs {
    /// The merchant API, http://host:port
    #[arg(long, value_name = "URL", requires = "admin_token_file")]
    pub admin: Option<String>,
    /// File with the admin token
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub admin_token_file: Option<PathBuf>,
}

/// The merchant API that the flags name.
pub(super) fn merchant(args: &MerchantArgs) -> Result<Merchant> {
    let (Some(url), Some(file)) = (&args.admin, &args.admin_token_file) else {
        return Err(UsageError("give --admin URL and --admin-token-file FILE".to_owned()).into());
    };
    let token = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Merchant::new(url, &token))
}

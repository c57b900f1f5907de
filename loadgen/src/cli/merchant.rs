//! The flags that name the merchant listener, and what follows from them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::program::UsageError;
use crate::verify::Merchant;

/// The merchant listener.
#[derive(Args, Debug)]
pub struct MerchantArgs {
    /// The merchant listener, http://host:port
    #[arg(long, value_name = "URL", requires = "admin_token_file")]
    pub admin: Option<String>,
    /// A file with its token
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub admin_token_file: Option<PathBuf>,
}

/// The merchant listener that the flags name.
pub(super) fn merchant(args: &MerchantArgs) -> Result<Merchant> {
    let (Some(url), Some(file)) = (&args.admin, &args.admin_token_file) else {
        return Err(UsageError("give --admin URL and --admin-token-file FILE".to_owned()).into());
    };
    let token = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Merchant::new(url, &token))
}

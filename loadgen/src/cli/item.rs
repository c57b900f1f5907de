//! `item`: creates an item to buy.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::MerchantArgs;
use super::merchant::merchant;
use crate::clock::unix_ms;
use crate::printer;
use crate::units;

/// Flags of `item`.
#[derive(Args, Debug)]
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

/// Creates it; the exit code.
pub(super) fn run(args: &ItemArgs) -> Result<u8> {
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
    let (item, stock, cap) = (args.item, args.stock, args.cap);
    printer::print_line(&format!("item {item} is open with {stock} units, at most {cap} per buyer"));
    Ok(0)
}

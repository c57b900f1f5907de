//! What is printed when the server is ready: where it listens, what was weakened, and in
//! the demo the first commands to try.

use std::net::{IpAddr, SocketAddr};

use crate::engine::shared::Shared;
use crate::settings::{IdentityMode, Settings, secrets};

/// Prints it, to the standard output.
pub(super) fn print(settings: &Settings, shared: &Shared) {
    let public = url(settings.listen);
    let merchant = url(settings.admin_listen);
    println!(
        "Stampede {} is ready, {} core(s), log in {}",
        env!("CARGO_PKG_VERSION"),
        settings.cores.len(),
        settings.data_dir.display()
    );
    println!("  buyers:    {public}");
    println!("  merchant:  {merchant}");
    if let Ok(token) = secrets::admin_token(settings)
        && let Some(path) = token.path
    {
        println!("  token:     in {}", path.display());
    }
    for what in &shared.weakened {
        println!("  WEAKENED:  {what}");
    }
    if settings.demo {
        first_purchase(settings, &public, &merchant);
    }
}

fn first_purchase(settings: &Settings, public: &str, merchant: &str) {
    let program = std::env::args().next().unwrap_or_else(|| "stampede".to_owned());
    let identity = match settings.identity.mode {
        IdentityMode::Header => "-H 'X-Buyer: alice'".to_owned(),
        IdentityMode::Jwt => format!("-H \"Authorization: Bearer $({program} token --demo --sub alice)\""),
    };
    println!("\nTry it, in another terminal:\n  curl {public}/v1/items");
    println!(
        "  curl -i {public}/v1/items/1/orders {identity} \\\n       -H 'Idempotency-Key: first' -d '{{\"quantity\":1}}'"
    );
    let token = settings.data_dir.join(secrets::ADMIN_TOKEN_FILE);
    println!("  curl -H \"Authorization: Bearer $(cat {})\" {merchant}/admin/items/1", token.display());
    println!("Ctrl-C stops it; the next start goes on where this one ended.");
}

/// An address as a client on this machine would write it.
fn url(address: SocketAddr) -> String {
    let host = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => "127.0.0.1".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) if ip.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    format!("http://{host}:{}", address.port())
}

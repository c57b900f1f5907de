//! What is printed when the server is ready: where it listens, what was weakened, and in
//! the demo the first commands to try.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use crate::engine::shared::Shared;
use crate::output;
use crate::settings::{IdentityMode, Settings, secrets};

/// Shows it on the standard output. Nobody has to be there to read it.
pub(super) fn print(settings: &Settings, shared: &Shared) {
    let mut text = String::new();
    write(&mut text, settings, shared).expect("a text grows");
    text.lines().for_each(output::show);
}

fn write(out: &mut impl Write, settings: &Settings, shared: &Shared) -> fmt::Result {
    let public = url(settings.listen);
    let merchant = url(settings.admin_listen);
    let (version, cores, dir) =
        (env!("CARGO_PKG_VERSION"), settings.cores.len(), settings.data_dir.display());
    writeln!(out, "Stampede {version} is ready, {cores} core(s), log in {dir}")?;
    writeln!(out, "  open {public}/ in a browser")?;
    writeln!(out, "  buyers:    {public}")?;
    writeln!(out, "  merchant:  {merchant}")?;
    if let Ok(token) = secrets::admin_token(settings)
        && let Some(path) = token.path
    {
        writeln!(out, "  token:     in {}", path.display())?;
    }
    for what in &shared.weakened {
        writeln!(out, "  WEAKENED:  {what}")?;
    }
    if settings.demo {
        write_first_purchase(out, settings, &public, &merchant)?;
    }
    Ok(())
}

fn write_first_purchase(
    out: &mut impl Write,
    settings: &Settings,
    public: &str,
    merchant: &str,
) -> fmt::Result {
    let program = std::env::args().next().unwrap_or_else(|| "stampede".to_owned());
    let identity = match settings.identity.mode {
        IdentityMode::Header => "-H 'X-Buyer: alice'".to_owned(),
        IdentityMode::Jwt => format!("-H \"Authorization: Bearer $({program} token --demo --sub alice)\""),
    };
    let token = settings.data_dir.join(secrets::ADMIN_TOKEN_FILE);
    writeln!(out, "\nTry it, in another terminal:\n  curl {public}/v1/items")?;
    writeln!(out, "  curl -i {public}/v1/items/1/orders {identity} \\")?;
    writeln!(out, "       -H 'Idempotency-Key: first' -d '{{\"quantity\":1}}'")?;
    writeln!(out, "  curl -H \"Authorization: Bearer $(cat {})\" {merchant}/admin/items/1", token.display())?;
    writeln!(out, "Ctrl-C stops it; the next start goes on where this one ended.")
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

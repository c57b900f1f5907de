//! The banner when the server is ready: its addresses, weakened promises, and in the demo the first
//! commands to try.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::engine::shared::Shared;
use crate::output;
use crate::settings::{IdentityMode, Settings, secrets};

/// Prints it on the standard output; nobody has to read it.
pub(super) fn print(settings: &Settings, shared: &Shared) {
    let mut text = String::new();
    write(&mut text, settings, shared).expect("a text grows");
    text.lines().for_each(output::show);
}

fn write(out: &mut impl Write, settings: &Settings, shared: &Shared) -> fmt::Result {
    let public = url(settings.listen);
    let merchant = url(settings.admin_listen);
    let (version, cores, dir) =
        (env!("CARGO_PKG_VERSION"), settings.cores.len(), absolute(&settings.data_dir));
    writeln!(out, "Stampede {version} is ready, {cores} core(s), log in {}", dir.display())?;
    writeln!(out, "  open {public}/ in a browser")?;
    writeln!(out, "  buyers:    {public}")?;
    writeln!(out, "  merchant:  {merchant}")?;
    if let Ok(token) = secrets::admin_token(settings)
        && let Some(path) = token.path
    {
        writeln!(out, "  token:     in {}", absolute(&path).display())?;
    }
    for what in shared.weakened() {
        writeln!(out, "  WEAKENED:  {what}")?;
    }
    if settings.demo {
        write_first_purchase(out, settings, &public, &merchant)?;
    }
    Ok(())
}

/// The first commands: they work from any directory, in any shell.
fn write_first_purchase(
    out: &mut impl Write,
    settings: &Settings,
    public: &str,
    merchant: &str,
) -> fmt::Result {
    let program = std::env::current_exe().unwrap_or_else(|_| "stampede".into());
    let (program, dir) = (quoted(&program), quoted(&settings.data_dir));
    let identity = match settings.identity.mode {
        IdentityMode::Header => "-H 'X-Buyer: alice'".to_owned(),
        IdentityMode::Jwt => format!(
            "-H \"Authorization: Bearer $({program} token --demo --data-dir {dir} --kid {} --sub alice)\"",
            secrets::DEMO_KID
        ),
    };
    writeln!(out, "\nTry it, in another terminal:\n  curl {public}/v1/items")?;
    writeln!(out, "  curl -i {public}/v1/items/1/orders {identity} \\")?;
    writeln!(out, "       -H 'Idempotency-Key: first' -d '{{\"quantity\":1}}'")?;
    if settings.admin.token.is_some() {
        writeln!(out, "  ADMIN_TOKEN=...    # the admin.token of your settings")?;
        writeln!(out, "  curl -H \"Authorization: Bearer $ADMIN_TOKEN\" {merchant}/admin/items/1")?;
    } else {
        let token = quoted(&settings.data_dir.join(secrets::ADMIN_TOKEN_FILE));
        writeln!(out, "  curl -H \"Authorization: Bearer $(cat {token})\" {merchant}/admin/items/1")?;
    }
    writeln!(out, "Ctrl-C stops it; the next start continues where this one ended.")
}

/// An absolute path.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// An absolute path, as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = absolute(path).display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word_of_a_shell() {
        for (path, word) in [
            ("/srv/shop-1/data", "/srv/shop-1/data"),
            ("/srv/my shop", "'/srv/my shop'"),
            ("/srv/$(reboot)", "'/srv/$(reboot)'"),
            ("/srv/o'brien", r"'/srv/o'\''brien'"),
        ] {
            assert_eq!(quoted(Path::new(path)), word);
        }
        assert!(quoted(Path::new("./here")).starts_with('/'));
    }
}

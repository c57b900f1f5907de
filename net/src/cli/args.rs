//! The flags that several commands share, and how they become settings.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use crate::doctor::probe::usable_cpus;
use crate::settings::keys::ENV_CONFIG;
use crate::settings::{Inputs, Loaded, load};

/// Where settings come from.
#[derive(Args)]
pub(super) struct SettingsArgs {
    /// The settings file (TOML) [default: the one that STAMPEDE_CONFIG names, if any]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Try it out: loopback only, a generated key for buyers' tokens, data in ./stampede-demo
    #[arg(long)]
    demo: bool,
    /// Address of the buyers' API [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Address of the merchant API [default: 127.0.0.1:7071]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// How many cores to use (4), or which ones (0,2-5) [default: all]
    #[arg(long, value_name = "N|LIST")]
    cores: Option<String>,
    /// Directory of the log [default: ./stampede-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The database that orders are exported to; to keep a password out of the process list, use
    /// STAMPEDE_POSTGRES_URL or the file that STAMPEDE_POSTGRES_URL_FILE names
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// The database is known to be empty: sell before it is reached for the first time
    #[arg(long)]
    new_shop: bool,
    /// Acknowledge a purchase when it is durable (wal) or as soon as it is decided (memory) [default: wal]
    #[arg(long, value_name = "wal|memory")]
    ack: Option<String>,
    /// Serve connections with a private io_uring (ring) or with epoll [default: auto]
    #[arg(long, value_name = "auto|ring|epoll")]
    transport: Option<String>,
    /// Where the sale clock begins if the log is ahead of this machine's clock: at the log's last
    /// fact, or at this machine's clock because the log's times are known to be wrong [default: log]
    #[arg(long, value_name = "log|wall")]
    clock: Option<String>,
}

impl SettingsArgs {
    /// Reads and checks the settings; with `serving` keys are required, too.
    pub(super) fn load(&self, serving: bool) -> Result<Loaded, Failure> {
        let inputs = Inputs {
            flags: self.flags(),
            env: environment(),
            file: self.file()?,
            demo: self.demo,
            serving,
            cpus: usable_cpus(),
            read: &|path| std::fs::read_to_string(path),
        };
        load(&inputs).map_err(|error| Failure::settings(&error))
    }

    fn file(&self) -> Result<Option<(PathBuf, String)>, Failure> {
        let named = self.config.clone().or_else(|| std::env::var_os(ENV_CONFIG).map(PathBuf::from));
        let Some(path) = named.filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(cause) => Err(Failure::Settings(format!(
                "cannot read the settings file {} ({cause}). Give another with --config, or make it readable",
                path.display()
            ))),
        }
    }

    fn flags(&self) -> Vec<(&'static str, String)> {
        let given = [
            ("listen", &self.listen),
            ("admin_listen", &self.admin_listen),
            ("cores", &self.cores),
            ("data_dir", &self.data_dir),
            ("postgres.url", &self.postgres),
            ("ack", &self.ack),
            ("transport", &self.transport),
            ("clock", &self.clock),
        ];
        let texts = given.into_iter().filter_map(|(key, text)| Some((key, text.clone()?)));
        texts.chain(self.new_shop.then(|| ("postgres.new_shop", "true".to_owned()))).collect()
    }
}

/// The defaults, from no flag, no environment and no file.
pub(super) fn defaults() -> Result<Loaded, Failure> {
    let inputs = Inputs {
        flags: Vec::new(),
        env: Vec::new(),
        file: None,
        demo: false,
        serving: false,
        cpus: usable_cpus(),
        read: &|path| std::fs::read_to_string(path),
    };
    load(&inputs).map_err(|error| Failure::settings(&error))
}

/// The variables whose names and values are UTF-8; ours always are.
fn environment() -> Vec<(String, String)> {
    let texts = std::env::vars_os().map(|(name, value)| (name.into_string(), value.into_string()));
    texts.filter_map(|(name, value)| Some((name.ok()?, value.ok()?))).collect()
}

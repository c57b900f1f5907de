//! Flags in, settings or one line of words out.

use std::time::Duration;

use clap::Parser;

use super::{Args, Command, one_line};
use crate::engine::{Mode, RunConfig};
use crate::workload::Target;

fn config(flags: &str) -> Result<RunConfig, String> {
    let words = ["stampede-loadgen", "run"].into_iter().chain(flags.split_whitespace());
    match Args::try_parse_from(words).map_err(|error| one_line(&error.to_string()))?.command {
        Command::Run(args) => args.config().map_err(|error| error.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults() {
    let config = config("http://127.0.0.1:7070 --item 1").unwrap();
    assert_eq!((config.connections, config.threads, config.pipeline), (64, 1, 1));
    assert_eq!((config.mode, config.duration), (Mode::Open { per_s: 1000.0 }, Some(Duration::from_secs(10))));
    assert_eq!(
        (config.addr.to_string().as_str(), config.host.as_str()),
        ("127.0.0.1:7070", "127.0.0.1:7070")
    );
    assert!(!config.keep_history && config.workload.users.is_none());
    assert_eq!(config.workload.target, Target::Purchase { item: 1 });
}

#[test]
fn flags_that_people_type_blind() {
    let config =
        config("127.0.0.1:80 --item 9 -c 1k -d 1m -t 2 -R 50k -n 1m -H X-A:b -T 250ms --users 10k").unwrap();
    assert_eq!((config.connections, config.threads), (1_000, 2));
    assert_eq!((config.mode, config.requests), (Mode::Open { per_s: 50_000.0 }, Some(1_000_000)));
    assert_eq!(
        (config.duration, config.timeout),
        (Some(Duration::from_secs(60)), Duration::from_millis(250))
    );
    assert_eq!((config.workload.users, config.workload.headers.len()), (Some(10_000), 1));
}

#[test]
fn closed_and_raw() {
    let config = config("http://127.0.0.1:80/ --get /x --closed -n 5 --timeout 1s --method DELETE").unwrap();
    assert_eq!((config.mode, config.duration, config.requests), (Mode::Closed, None, Some(5)));
    assert_eq!(config.workload.target, Target::Raw { method: "DELETE".into(), path: "/x".into() });
}

#[test]
fn bad_flags_get_one_line() {
    for (flags, words) in [
        ("", "not provided"),
        ("127.0.0.1:1", "--item"),
        ("127.0.0.1:1 --item 0", "0 is not in 1.."),
        ("127.0.0.1:1 --item 1 -R abc", "is not a count"),
        ("127.0.0.1:1 --item 1 -d 5x", "is not a length of time"),
        ("127.0.0.1:1 --item 1 -R 5 --closed", "cannot be used with"),
        ("127.0.0.1:1 --item 1 --repeat 2", "is not a share"),
        ("127.0.0.1:1 --item 1 --auth jwt", "--jwt-key-file"),
        ("127.0.0.1:1 --item 1 --auth jwt --jwt-key-file /nowhere/key", "cannot read --jwt-key-file"),
        ("127.0.0.1:1 --item 1 --admin http://127.0.0.1:2", "--admin-token-file"),
        ("127.0.0.1:1 --item 1 --conections 5", "a similar argument exists"),
        ("127.0.0.1:1 --item 1 --users 5000m", "--users is too large"),
        ("https://127.0.0.1:1 --item 1", "wants TLS"),
        ("http://127.0.0.1:1/x --item 1", "is not a plain server address"),
        ("http:// --item 1", "is not a plain server address"),
    ] {
        let error = config(flags).err().unwrap_or_else(|| panic!("`{flags}` was taken"));
        assert!(error.contains(words), "`{flags}` said: {error}");
        assert!(!error.contains('\n'), "`{flags}` said: {error}");
    }
}

#[test]
fn the_command_line_is_sound() {
    <Args as clap::CommandFactory>::command().debug_assert();
}

//! Flags in, settings or one line of words out.

use std::time::Duration;

use clap::Parser;

use super::{Args, Command};
use crate::engine::{Mode, RunConfig};
use crate::program::one_line;
use crate::workload::{Flow, Items, Target};

fn config(flags: &str) -> Result<RunConfig, String> {
    let words = ["stampede-loadgen", "run"].into_iter().chain(flags.split_whitespace());
    match Args::try_parse_from(words).map_err(|error| one_line(&error.to_string()))?.command {
        Command::Run(args) => args.load.config().map_err(|error| error.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults() {
    let config = config("http://127.0.0.1:7070 --item 1").unwrap();
    assert_eq!((config.connections, config.threads, config.pipeline), (64, 1, 1));
    assert_eq!((config.mode, config.duration), (Mode::open(1000.0), Some(Duration::from_secs(10))));
    assert_eq!(
        (config.addr.to_string().as_str(), config.host.as_str()),
        ("127.0.0.1:7070", "127.0.0.1:7070")
    );
    assert!(config.keep_history && config.workload.users.is_none());
    assert_eq!(config.workload.target, Target::Purchase { items: Items::one(1) });
}

#[test]
fn flags_that_people_type_blind() {
    let config =
        config("127.0.0.1:80 --item 9 -c 1k -d 1m -t 2 -R 50k -n 1m -H X-A:b -T 250ms --users 10k").unwrap();
    assert_eq!((config.connections, config.threads), (1_000, 2));
    assert_eq!((config.mode, config.requests), (Mode::open(50_000.0), Some(1_000_000)));
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
fn who_buys_what_and_how() {
    let flags = "127.0.0.1:80 --item 5 --items 3 --zipf 1.1 --flow whole --double-click 5% --browse 2.5 --cancel 0.1 \
                 --levels 4 --no-keepalive --shape spike:1k->2k@3s";
    let config = config(flags).unwrap();
    assert_eq!(config.workload.target, Target::Purchase { items: Items { first: 5, count: 3, zipf: 1.1 } });
    let workload = &config.workload;
    assert_eq!((workload.flow, workload.levels, workload.fates.cancel), (Flow::Whole, Some(4), 0.1));
    assert_eq!((workload.double_click, workload.browse, config.keep_alive), (0.05, 2.5, false));
    let Mode::Open(schedule) = &config.mode else { panic!("{:?}", config.mode) };
    assert_eq!((schedule.peak_per_s(), config.duration), (2_000.0, Some(Duration::from_secs(13))));
    assert!(config.shop.is_none(), "nobody pays");
}

#[test]
fn who_pays_needs_the_merchant_api() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    let flags = format!(
        "127.0.0.1:80 --item 5 --pay 50% --pay-late 0.1 --admin http://127.0.0.1:81 --admin-token-file {}",
        token.display()
    );
    let shop = config(&flags).unwrap().shop.unwrap();
    assert_eq!((shop.addr.port(), shop.shop.token.as_str()), (81, "secret"));
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
        ("127.0.0.1:1 --item 1 --shape sine", "is unknown; write constant, ramp"),
        ("127.0.0.1:1 --item 1 --shape ramp --closed", "cannot be used with"),
        ("127.0.0.1:1 --item 1 --shape spike:0->5@1s -R 5", "leave out -R"),
        ("127.0.0.1:1 --item 1 --zipf x", "is not an exponent"),
        ("127.0.0.1:1 --item 1 --pay 10%", "--admin"),
        ("127.0.0.1:1 --item 1 --flow some", "possible values: purchase, whole"),
        ("127.0.0.1:1 --item 1 --levels 11", "is not in 1..=10"),
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

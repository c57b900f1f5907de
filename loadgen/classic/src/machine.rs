//! What a record says of the machine, the programs and the commit that it came from.
//!
//! Next: [`crate::table`] and [`crate::kill`], whose records hold it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::redis_lua::nginx;

/// The machine, as far as it matters for figures; `load1` is its load now, so that a record tells
/// whether others were at work.
pub(crate) fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (kernel, load, cpu) =
        (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"), read("/proc/cpuinfo"));
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "kernel": kernel.trim(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": model.map(|(_, model)| model),
        "load1": load.split(' ').next().and_then(|load| load.parse::<f64>().ok()),
    })
}

/// The versions of the programs that take part; null = not there.
pub(crate) fn versions(postgres: &str, engine: Option<&PathBuf>) -> Value {
    let version = |program: &Path, arg: &str| {
        let output = Command::new(program).arg(arg).output().ok().filter(|output| output.status.success())?;
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        words.lines().next().and_then(|line| line.split(' ').nth(1)).map(str::to_owned)
    };
    let redis = ["redis-server", "redis-cli"].into_iter().find_map(|name| {
        let output = Command::new(name).arg("--version").output().ok()?;
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        words.split([' ', '=']).find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
    });
    let postgres = postgres::Client::connect(postgres, postgres::NoTls).ok().and_then(|mut client| {
        client.query_one("SHOW server_version", &[]).ok().map(|row| row.get::<_, String>(0))
    });
    json!({
        "stampede": engine.and_then(|program| version(program, "--version")),
        "postgres": postgres,
        "redis": redis.map(|version| version.trim().to_owned()),
        "nginx": nginx::version().ok(),
    })
}

/// The commit of the checkout that this runs in, with `+` if it is not what was committed; null outside one.
pub(crate) fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    let is_changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|lines| !lines.is_empty());
    Some(if is_changed { hash + "+" } else { hash })
}

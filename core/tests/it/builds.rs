//! What the Makefile builds for users is what `cargo build --release` builds: nobody compiles twice.
//!
//! Asks cargo for the graph of both builds, which compiles nothing.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::tidy::root;

/// Everything that these arguments build: package, target, features and profile.
fn graph(arguments: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(arguments).args(["--unit-graph", "-Z", "unstable-options"]);
    // A graph is shown on the stable channel only when told so.
    let output = cargo.env("RUSTC_BOOTSTRAP", "1").output().expect("cargo runs");
    let text = String::from_utf8(output.stdout).expect("JSON");
    let units = text.split("{\"pkg_id\":").skip(1);
    // What a unit depends on is told by numbers, which differ between graphs.
    units.map(|unit| unit.split("\"dependencies\":").next().unwrap_or(unit).to_owned()).collect()
}

#[test]
fn what_make_builds_for_users_is_the_release_build() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("the Makefile");
    let whole = graph(&["build", "--release"]);
    assert!(whole.len() > 100, "the graph has {} units", whole.len());
    let mut seen = 0;
    for line in makefile.lines().filter_map(|line| line.trim().strip_prefix("$(CARGO) ")) {
        let words: Vec<&str> = line.split_whitespace().take_while(|&word| word != "--").collect();
        if !words.contains(&"--release") || !matches!(words[0], "run" | "build") {
            continue;
        }
        let built = graph(&[&["build"], &words[1..]].concat());
        let more: Vec<_> = built.difference(&whole).collect();
        assert!(!built.is_empty() && more.is_empty(), "`{line}` builds besides: {more:#?}");
        seen += 1;
    }
    assert!(seen >= 2, "the Makefile builds the release {seen} times");
}

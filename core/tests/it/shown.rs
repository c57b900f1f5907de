//! What the docs claim is shown by a test: the tests that they name exist.
//!
//! `T name` in docs/GATE.md and `T crate name` in docs/FEATURES.md and docs/TESTING.md are short for a run of
//! `cargo test` with that filter; one that finds no test would pass and show nothing.

use std::fs;
use std::path::Path;

use crate::tidy::{CRATES, root};

/// `crate path::of::file::function` of every test of a crate; the path as it is on disk.
fn tests(krate: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in ["src", "tests"] {
        collect(&root().join(krate).join(part), krate, &mut found);
    }
    found
}

fn collect(place: &Path, name: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for path in entries.map(|entry| entry.expect("readable").path()) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{name}::{stem}");
        if path.is_dir() {
            collect(&path, &name, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let is_test =
                |at: usize| lines[at.saturating_sub(3)..at].iter().any(|line| line.starts_with("#[test]"));
            let functions = lines
                .iter()
                .enumerate()
                .filter(|(at, line)| line.starts_with("fn ") && (is_test(*at) || text.contains("proptest!")));
            found.extend(
                functions
                    .map(|(_, line)| format!("{name}::{}", line[3..].split('(').next().unwrap_or_default())),
            );
        }
    }
}

/// The filters of a page: what stands behind `T` in backticks.
fn filters(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("docs").join(page)).expect("the page");
    let spans = text.split('`').skip(1).step_by(2);
    spans
        .filter_map(|span| span.strip_prefix("T "))
        .map(|rest| rest.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

fn check(page: &str, krate: Option<&str>, least: usize) {
    let all: Vec<(&str, Vec<String>)> = CRATES.iter().map(|&krate| (krate, tests(krate))).collect();
    let filters = filters(page);
    assert!(filters.len() >= least, "{page} names only {} tests", filters.len());
    for filter in filters.iter().filter(|filter| !matches!(filter.as_str(), "name" | "crate name")) {
        let (krate, name) = match krate {
            Some(krate) => (krate, filter.as_str()),
            None => filter.split_once(' ').unwrap_or_else(|| panic!("{page}: `T {filter}` names no crate")),
        };
        let tests =
            all.iter().find(|(known, _)| known.rsplit('/').next() == Some(krate)).map(|(_, tests)| tests);
        let tests = tests.unwrap_or_else(|| panic!("{page}: `T {filter}`: no crate {krate}"));
        let hits = tests.iter().filter(|path| path.contains(name)).count();
        assert!(hits > 0, "{page}: `T {filter}` finds no test");
    }
}

#[test]
fn the_tests_that_the_gate_page_names_exist() {
    check("GATE.md", Some("net"), 20);
}

#[test]
fn the_tests_that_the_page_on_testing_names_exist() {
    check("TESTING.md", None, 8);
}

#[test]
fn the_tests_that_the_feature_table_names_exist() {
    check("FEATURES.md", None, 30);
}

/// Whether there is a file of that path; a `*` in its name stands for anything.
fn exists(path: &str) -> bool {
    let Some((before, after)) = path.split_once('*') else { return root().join(path).exists() };
    let (dir, begin) = before.rsplit_once('/').unwrap_or((".", before));
    let entries = fs::read_dir(root().join(dir)).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.any(|name| name.starts_with(begin) && name.ends_with(after))
}

/// A contributor is sent to files by their path from the root.
#[test]
fn the_files_that_contributing_names_exist() {
    let text = fs::read_to_string(root().join("docs/CONTRIBUTING.md")).expect("the page");
    let spans = text.split('`').skip(1).step_by(2);
    let paths: Vec<&str> =
        spans.filter(|span| span.contains('/') && !span.contains(' ') && !span.contains("SECONDS")).collect();
    assert!(paths.len() >= 12, "the page names only {paths:?}");
    let gone: Vec<&&str> = paths.iter().filter(|path| !exists(path)).collect();
    assert!(gone.is_empty(), "docs/CONTRIBUTING.md names what is not there: {gone:?}");
}

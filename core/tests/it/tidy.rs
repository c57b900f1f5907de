//! The style rules that matter, as tests over the source text.
//!
//! The core names no clock, file, socket or thread; atomics and `unsafe` have one home
//! each; glommio and the Postgres client stay behind their seams.

use std::fs;
use std::path::{Path, PathBuf};

const FUNCTION_LINES_MAX: usize = 70;
/// How many functions of a crate may be longer, for a reason that a reader sees.
const LONG_FUNCTIONS_MAX: usize = 3;

/// A source file of the workspace.
struct Source {
    /// From the root of the workspace, with `/` between the parts.
    path: String,
    text: String,
}

impl Source {
    /// The text in front of the unit tests, without comments.
    fn code(&self) -> impl Iterator<Item = &str> {
        let code = ["#[cfg(all(test", "#[cfg(test"].iter().filter_map(|mark| self.text.find(mark)).min();
        self.text[..code.unwrap_or(self.text.len())]
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
    }

    /// Whether a line of code has the word, with no letter, digit or `_` on either side.
    fn names(&self, word: &str) -> bool {
        self.code().any(|line| has_word(line, word))
    }
}

fn has_word(line: &str, word: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(in_word);
        let after = line[at + word.len()..].chars().next().is_some_and(in_word);
        !before && !after
    })
}

pub(crate) fn root() -> PathBuf {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    core.parent().expect("core lies in the workspace").to_path_buf()
}

fn collect(dir: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.map(|entry| entry.expect("readable").path()) {
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            let path = path.strip_prefix(root()).expect("below the root");
            sources.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
        }
    }
}

/// Sources of the workspace in `<crate>/<part>` for each of the parts.
fn sources(crates: &[&str], parts: &[&str]) -> Vec<Source> {
    let mut sources = Vec::new();
    for (krate, part) in crates.iter().flat_map(|krate| parts.iter().map(move |part| (krate, part))) {
        collect(&root().join(krate).join(part), &mut sources);
    }
    sources
}

pub(crate) const CRATES: [&str; 9] = [
    "core",
    "net",
    "net/fuzz",
    "net/tests/mutants",
    "persist",
    "loadgen",
    "loadgen/classic",
    "loadgen/records",
    "loadgen/testkit",
];
const PARTS: [&str; 5] = ["src", "tests", "benches", "examples", "targets"];

fn core_sources() -> Vec<Source> {
    let sources = sources(&["core"], &["src"]);
    assert!(sources.len() > 10, "the walk found only {} files", sources.len());
    sources
}

/// Fails with one line for each file that breaks a rule.
fn assert_none<'a>(rule: &str, offenders: impl Iterator<Item = &'a Source>) {
    let paths: Vec<&str> = offenders.map(|source| source.path.as_str()).collect();
    assert!(paths.is_empty(), "{rule}:\n  {}", paths.join("\n  "));
}

#[test]
fn every_file_says_what_it_is_for() {
    let all = sources(&CRATES, &PARTS);
    let bare = all.iter().filter(|source| !source.text.starts_with("//! "));
    assert_none("a file opens with `//!`: what it is for, what it must never do", bare);
}

#[test]
fn the_core_cannot_name_the_world() {
    let all = core_sources();
    let lib = all.iter().find(|source| source.path == "core/src/lib.rs").expect("core has a lib.rs");
    assert!(lib.text.lines().any(|line| line == "#![no_std]"));
    for word in ["Instant", "SystemTime", "File", "TcpStream", "TcpListener", "thread", "println", "rand"] {
        assert_none(&format!("core names `{word}`"), all.iter().filter(|source| source.names(word)));
    }
    let std = |source: &&Source| source.code().any(|line| has_word(line, "std") && line.contains("std::"));
    assert_none("core uses std outside its unit tests", all.iter().filter(std));
}

#[test]
fn unsafe_and_atomics_have_one_home_each() {
    let all = core_sources();
    let elsewhere = |home: &'static str| move |source: &&Source| source.path != home;
    let of_unsafe = all.iter().filter(elsewhere("core/src/published.rs"));
    assert_none("`unsafe` outside published.rs", of_unsafe.filter(|source| source.names("unsafe")));
    let of_atomics = all.iter().filter(elsewhere("core/src/sync.rs"));
    let imports = |source: &&Source| source.code().any(|line| line.contains("sync::atomic"));
    assert_none("atomics imported outside sync.rs", of_atomics.filter(imports));
    let named = all.iter().filter(|source| source.names("AtomicU64")).count();
    assert!(named >= 3, "the search for atomics has gone blind");
}

/// Files of the other crates that may hold `unsafe`, each with little else.
const UNSAFE_HOMES: [&str; 7] = [
    "persist/src/log/slots.rs",
    "net/src/runtime/ring.rs",
    "net/src/runtime/epoll.rs",
    "net/src/runtime/listen.rs",
    "net/src/doctor/wall.rs",
    "net/src/main.rs",
    "net/src/server/signals.rs",
];

/// Files that may write to the standard output or error, and those that end the process.
const OUTPUT_HOMES: [&str; 4] =
    ["net/src/output.rs", "net/src/cli/printer.rs", "loadgen/src/printer.rs", "loadgen/testkit/src/need.rs"];

/// The macros of the standard library panic where nobody reads, and wait where somebody does not.
#[test]
fn nobody_prints_but_those_who_can_do_without_a_reader() {
    let mut all =
        sources(&["core", "persist", "net", "loadgen", "loadgen/classic", "loadgen/testkit"], &["src"]);
    all.retain(|source| !source.path.ends_with("tests.rs"));
    for word in ["print!(", "println!(", "eprint!(", "eprintln!(", "dbg!("] {
        let named = |source: &&Source| source.code().any(|line| line.contains(word));
        assert_none(&format!("`{word})` in a program"), all.iter().filter(named));
    }
    let elsewhere = |source: &&Source| !OUTPUT_HOMES.contains(&source.path.as_str());
    let writes = |source: &&Source| {
        let streams = ["stdout()", "stderr()", "io::stdout", "io::stderr"];
        source.code().any(|line| {
            streams.iter().any(|stream| line.contains(stream))
                && !line.contains("is_terminal")
                && !line.starts_with("use ")
        })
    };
    assert_none("writes to a stream by itself", all.iter().filter(elsewhere).filter(writes));
    let ends = |source: &&Source| {
        source.code().any(|line| line.contains("process::abort") || line.contains("process::exit"))
    };
    assert_none("ends the process without its last words", all.iter().filter(elsewhere).filter(ends));
    let at_home = all.iter().filter(|source| !elsewhere(source)).filter(writes).count();
    assert_eq!(at_home, OUTPUT_HOMES.len(), "a home that writes nothing any more");
}

#[test]
fn unsafe_stays_where_the_architecture_says() {
    let all = sources(&["persist", "net", "loadgen", "loadgen/classic", "loadgen/testkit"], &["src"]);
    let (at_home, elsewhere): (Vec<_>, Vec<_>) = all
        .iter()
        .filter(|source| source.names("unsafe"))
        .partition(|source| UNSAFE_HOMES.contains(&source.path.as_str()));
    assert_none("`unsafe` outside its homes", elsewhere.into_iter());
    assert_eq!(at_home.len(), UNSAFE_HOMES.len(), "a home that holds none any more");
}

#[test]
fn persist_touches_files_through_its_disk_alone() {
    let all = sources(&["persist"], &["src"]);
    let (at_home, elsewhere): (Vec<_>, Vec<_>) = all
        .iter()
        .filter(|source| source.code().any(|line| line.contains("std::fs")))
        // The export reads the kernel's table of its own connections, which is no file on a disk.
        .filter(|source| source.path != "persist/src/export/between.rs")
        .partition(|source| source.path.starts_with("persist/src/disk/"));
    assert_none("`std::fs` outside persist/src/disk", elsewhere.into_iter());
    assert!(!at_home.is_empty(), "the search for files has gone blind");
}

/// The lines of a table of a manifest, trimmed, without blanks and comments.
fn table<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    let header = format!("[{name}]");
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != header).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn the_core_has_next_to_no_dependencies() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a manifest");
    let (core, workspace) = (read("core/Cargo.toml"), read("Cargo.toml"));
    // sha2 is there for the draw: everybody has to be able to recompute it.
    let names = ["hashbrown", "sha2", "siphasher"];
    assert_eq!(table(&core, "dependencies"), names.map(|name| format!("{name}.workspace = true")));
    for name in names {
        let shared = table(&workspace, "workspace.dependencies");
        let line = shared.iter().find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not a dependency of the workspace"));
        assert!(line.contains("default-features = false"), "{line}");
    }
}

#[test]
fn strangers_stay_behind_their_seams() {
    let all = sources(&CRATES, &["src"]);
    let glommio = all.iter().filter(|source| source.names("glommio"));
    let runtime = |source: &&Source| source.path.starts_with("net/src/runtime");
    assert_none("glommio outside net/src/runtime*", glommio.filter(|source| !runtime(source)));
    let clients = all.iter().filter(|s| ["postgres", "tokio_postgres"].iter().any(|client| uses(s, client)));
    let seam = |source: &&Source| {
        source.path.starts_with("persist/src/export") || source.path.starts_with("loadgen/")
    };
    assert_none("a Postgres client outside the exporter", clients.filter(|source| !seam(source)));
    let http2 = all.iter().filter(|source| uses(source, "h2"));
    let etcd = |source: &&Source| source.path.starts_with("persist/src/cluster/etcd/");
    assert_none("the way to etcd outside persist/src/cluster/etcd/", http2.filter(|source| !etcd(source)));
}

/// Whether the code has a path into that crate, as against a name that only ends like it.
fn uses(source: &Source, krate: &str) -> bool {
    let path = format!("{krate}::");
    source.code().any(|line| {
        let starts = |at: usize| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
        };
        line.match_indices(&path).any(|(at, _)| starts(at))
    })
}

#[test]
fn facts_are_forged_by_tests_alone() {
    let mut enabled = 0;
    for krate in CRATES {
        let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("a manifest");
        let mut table = "";
        for line in manifest.lines().map(str::trim) {
            table = if line.starts_with('[') { line } else { table };
            if line.contains("\"forged\"") {
                assert_eq!(table, "[dev-dependencies]", "{krate}: a program that sells could forge facts");
                enabled += 1;
            }
        }
    }
    assert!(enabled >= 2, "the search for the feature has gone blind");
}

#[test]
fn no_file_knows_this_machine() {
    let all = sources(&CRATES, &PARTS);
    // In two parts, so that this file does not name them itself.
    let marks =
        [["/wo", "rk/"], ["/ho", "me/"], ["/ro", "ot/"], ["/tmp/tar", "get-"]].map(|mark| mark.concat());
    let knows = |source: &&Source| marks.iter().any(|mark| source.text.contains(mark.as_str()));
    assert_none("a path of somebody's machine", all.iter().filter(knows));
}

#[test]
fn functions_fit_a_screen() {
    for krate in CRATES {
        let all = sources(&[krate], &["src"]);
        let long: Vec<String> = all.iter().flat_map(long_functions).collect();
        let few = long.len() <= LONG_FUNCTIONS_MAX;
        assert!(few, "{krate}: functions above {FUNCTION_LINES_MAX} lines:\n  {}", long.join("\n  "));
    }
}

/// Functions that end more than [`FUNCTION_LINES_MAX`] lines after they begin, by their
/// indentation: rustfmt puts both ends at the same depth.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut long = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_function(line)) {
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[at..].iter().position(|line| *line == end).unwrap_or(0) + 1;
        if length > FUNCTION_LINES_MAX {
            long.push(format!("{}:{}: {length} lines", source.path, at + 1));
        }
    }
    long
}

fn is_function(line: &str) -> bool {
    let line = line.trim_start();
    let opens = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "async fn ", "pub async fn "];
    // One that ends on its first line is not long.
    opens.iter().any(|open| line.starts_with(open)) && !line.ends_with('}') && !line.ends_with(';')
}

#[test]
fn long_functions_are_seen() {
    let body = "        step();\n".repeat(FUNCTION_LINES_MAX - 1);
    let text = format!("impl X {{\n    pub fn long(&self) {{\n{body}    }}\n    fn short() {{\n    }}\n}}\n");
    let source = Source { path: "x.rs".into(), text };
    assert_eq!(long_functions(&source), ["x.rs:2: 71 lines"]);
}

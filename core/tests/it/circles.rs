//! No circle of files, and no import from a lower to a higher floor.
//!
//! Whoever reads a file reads what it imports, and never comes back to it. A file imports another if it
//! names something of it by a path (`use`, or in the code). A name that a module passes on (`pub use`)
//! leads to the file that has it: so a parent that only passes on is in no circle, but one that has code
//! which its children import, and names them, is. Methods are not seen: an `impl` may stand in any file
//! above its type. Unit tests may look anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::tidy::{CRATES, root};

/// A file as a module path from the root of its crate; the root itself is empty.
type Module = Vec<String>;

/// The code of a crate, file by file, without comments and unit tests.
struct Crate {
    files: BTreeMap<Module, String>,
    /// What `pub use` passes on: from the path under which it is named to the path that has it.
    passed_on: BTreeMap<Module, Module>,
}

impl Crate {
    fn read(dir: &Path) -> Self {
        let mut files = BTreeMap::new();
        collect(dir, &mut Vec::new(), &mut files);
        Self::of(files)
    }

    fn of(sources: BTreeMap<Module, String>) -> Self {
        let files: BTreeMap<_, _> = sources.into_iter().map(|(module, text)| (module, code(&text))).collect();
        let mut all = Self { files, passed_on: BTreeMap::new() };
        for (module, text) in &all.files {
            for path in uses(text).into_iter().filter(|path| path.is_public) {
                let Some(place) = all.absolute(module, &path.words) else { continue };
                all.passed_on.insert([module.clone(), vec![path.name]].concat(), place);
            }
        }
        all
    }

    /// A path as seen from a module, from the root of the crate; `None` if it leads out of it.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let ups = path.iter().take_while(|word| *word == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "super" => Some([&module[..module.len().checked_sub(ups)?], &path[ups..]].concat()),
            "self" => Some([module, &path[1..]].concat()),
            child => {
                let is_child = self.files.contains_key(&[module.clone(), vec![child.to_owned()]].concat());
                is_child.then(|| [module, path].concat())
            }
        }
    }

    /// The file that has what this path names.
    fn file_of(&self, path: &Module) -> Option<Module> {
        for length in (0..=path.len()).rev() {
            let head = path[..length].to_vec();
            if self.files.contains_key(&head) {
                return Some(head);
            }
            if let Some(place) = self.passed_on.get(&head).filter(|place| **place != head) {
                return self.file_of(&[place.as_slice(), &path[length..]].concat());
            }
        }
        None
    }

    /// What each file imports. The root only says which files there are.
    fn imports(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let of = |module: &Module, text: &str| {
            let paths = uses(text).into_iter().map(|path| path.words).chain(named(text));
            let files = paths.filter_map(|path| self.file_of(&self.absolute(module, &path)?));
            files.filter(|file| file != module && !file.is_empty()).collect()
        };
        self.files.iter().map(|(module, text)| (module.clone(), of(module, text))).collect()
    }

    /// Files that lead to themselves, each with those that it shares a circle with.
    fn circles(&self) -> Vec<String> {
        let imports = self.imports();
        let reach = |from: &Module| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
            while let Some(file) = next.pop() {
                next.extend(imports[file].iter().filter(|&file| seen.insert(file.clone())));
            }
            seen
        };
        let reached: BTreeMap<_, _> = self.files.keys().map(|file| (file, reach(file))).collect();
        let in_circle = |file: &&Module| reached[*file].contains(*file);
        let back = |file: &Module| {
            let there = imports[file].iter().filter(|&other| reached[other].contains(file));
            there.map(|other| other.join("::")).collect::<Vec<_>>().join(", ")
        };
        let files = self.files.keys().filter(in_circle);
        files
            .map(|file| format!("{} imports {} and is imported by it", file.join("::"), back(file)))
            .collect()
    }
}

fn collect(dir: &Path, module: &mut Module, files: &mut BTreeMap<Module, String>) {
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            module.push(stem);
            collect(&path, module, files);
            module.pop();
        } else if path.extension().is_some_and(|ext| ext == "rs")
            && stem != "main"
            && !stem.ends_with("tests")
        {
            let own = if stem == "lib" { Module::new() } else { [module.clone(), vec![stem]].concat() };
            files.insert(own, fs::read_to_string(&path).unwrap());
        }
    }
}

/// The text without comments and without what is only compiled for tests.
fn code(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut kept = String::new();
    while let Some(line) = lines.next() {
        if ["#[cfg(test)]", "#[cfg(all(test"].iter().any(|mark| line.trim_start().starts_with(mark)) {
            skip_item(&mut lines);
        } else {
            kept.push_str(&without_scope(line));
            kept.push('\n');
        }
    }
    kept
}

/// `pub(in a::b)` says who may see something, and imports nothing.
fn without_scope(line: &str) -> String {
    match line.split_once("pub(in ").and_then(|(before, rest)| Some((before, rest.split_once(')')?.1))) {
        Some((before, rest)) => format!("{before}pub{rest}"),
        None => line.to_owned(),
    }
}

/// Leaves out the item that follows: rustfmt puts its two ends at the same depth.
fn skip_item<'a>(lines: &mut impl Iterator<Item = &'a str>) {
    let Some(first) = lines.find(|line| !line.trim_start().starts_with("#[")) else { return };
    let indent = &first[..first.len() - first.trim_start().len()];
    if !first.ends_with(';') && !first.ends_with('}') {
        lines.find(|line| line.strip_prefix(indent).is_some_and(|end| end == "}" || end == "};"));
    }
}

struct Use {
    words: Vec<String>,
    /// Under which it is known here.
    name: String,
    is_public: bool,
}

/// Every path of every `use`, braces spread out.
fn uses(text: &str) -> Vec<Use> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let line = rest[..at].rsplit('\n').next().unwrap_or_default().trim();
        rest = &rest[at + 4..];
        let is_public = line.starts_with("pub");
        if !(line.is_empty() || is_public) {
            continue;
        }
        let tree = rest.split(';').next().unwrap_or_default();
        spread(tree, &[], &mut |words, name| found.push(Use { words, name, is_public }));
    }
    found
}

fn spread(tree: &str, head: &[String], give: &mut impl FnMut(Vec<String>, String)) {
    let words = |text: &str| {
        let words = text.split("::").map(str::trim).filter(|word| !word.is_empty());
        [head, &words.map(str::to_owned).collect::<Vec<_>>()].concat()
    };
    let Some((before, inner)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, name)| (path, Some(name)));
        let words = words(path);
        let name = alias.map(|name| name.trim().to_owned()).or_else(|| words.last().cloned());
        return give(words, name.unwrap_or_default());
    };
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    spread(&inner[start..at], &words(before), give);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Paths in the code itself: `crate::x::Y`, `worker::run`.
fn named(text: &str) -> Vec<Vec<String>> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("use "));
    let paths =
        lines.flat_map(|line| line.split(|letter| !is_word(letter))).filter(|word| word.contains("::"));
    paths.map(|path| path.split("::").map(str::to_owned).collect()).collect()
}

/// The floors of a crate, the lowest first: modules by the beginning of their paths, and what the floor is.
/// A file imports from its own floor and from lower ones; the longest path that fits says where it stands.
type Floors = &'static [(&'static [&'static str], &'static str)];

const CORE: Floors = &[
    (&["limits", "sync"], "bounds; what atomics are"),
    (&["types", "item", "money", "place"], "the words of a sale"),
    (
        &["published", "slab", "index", "seqs", "due", "filter", "stock", "once", "wake"],
        "tables and numbers that know no sale",
    ),
    (&["draw", "fact", "command", "state_row"], "what goes in and comes out"),
    (&["gauge", "catalogue", "admit"], "what other cores may read"),
    (&["items", "orders", "audit"], "what a shard keeps"),
    (&["shard"], "decisions, replay, time"),
    (&["record"], "an order as it is compared"),
    (&["sample"], "items and orders for tests"),
];

const PERSIST: Floors = &[
    (&["disk"], "the only way to files"),
    (&["codec"], "facts and rows as bytes"),
    (&["feed", "log::identity"], "a log as its readers see it"),
    (&["log"], "the log"),
    (&["cluster"], "who leads, and the log's second home"),
    (&["export"], "the way to Postgres"),
];

const NET: Floors = &[
    (&["named"], "values with names"),
    (&["http"], "HTTP without sockets: bytes to requests, answers to bytes"),
    (&["output"], "log lines that wait for nobody"),
    (&["identity"], "who asks"),
    (&["gate"], "tickets, challenges, limits"),
    (&["site"], "what a browser is shown"),
    (&["engine"], "homes and owners"),
    (&["settings"], "what an operator may set"),
    (&["reconcile"], "memory, log and database compared"),
    (&["runtime"], "sockets and time"),
    (&["doctor"], "whether this machine can run it"),
    (&["server"], "start and stop"),
    (&["cli"], "what an operator calls"),
];

#[test]
fn no_file_leads_back_to_itself() {
    for (name, all) in crates() {
        let arrows: usize = all.imports().values().map(BTreeSet::len).sum();
        assert!(arrows * 4 >= all.files.len(), "{name}: the search for imports has gone blind: {arrows}");
        assert!(all.circles().is_empty(), "{name}:\n  {}", all.circles().join("\n  "));
    }
}

fn crates() -> impl Iterator<Item = (&'static str, Crate)> {
    CRATES.iter().map(|&name| {
        let all = Crate::read(&root().join(name).join("src"));
        assert!(all.files.len() >= 3, "{name}: the walk found only {} files", all.files.len());
        (name, all)
    })
}

#[test]
fn no_floor_imports_a_higher_one() {
    for (name, floors) in [("core", CORE), ("persist", PERSIST), ("net", NET)] {
        let all = Crate::read(&root().join(name).join("src"));
        assert!(all.upward(floors).is_empty(), "{name}:\n  {}", all.upward(floors).join("\n  "));
    }
}

impl Crate {
    /// Imports that lead to a higher floor; files without a floor; and floors without a file.
    fn upward(&self, floors: Floors) -> Vec<String> {
        let rooms = || floors.iter().flat_map(|(rooms, _)| rooms.iter());
        let within = |file: &Module, room: &str| {
            let path = file.join("::");
            path == room || path.strip_prefix(room).is_some_and(|rest| rest.starts_with("::"))
        };
        let floor_of = |file: &Module| {
            let room = rooms().filter(|room| within(file, room)).max_by_key(|room| room.len())?;
            floors.iter().position(|(rooms, _)| rooms.contains(room))
        };
        let mut found = Vec::new();
        for (file, imports) in self.imports().iter().filter(|(file, _)| !file.is_empty()) {
            let Some(floor) = floor_of(file) else {
                found.push(format!("{} stands on no floor", file.join("::")));
                continue;
            };
            for import in imports.iter().filter(|import| floor_of(import) > Some(floor)) {
                let (file, import) = (file.join("::"), import.join("::"));
                found.push(format!("{file} ({}) imports {import}, which stands higher", floors[floor].1));
            }
        }
        let empty = rooms().filter(|room| !self.files.keys().any(|file| within(file, room)));
        found.extend(empty.map(|room| format!("{room} is no module")));
        found
    }
}

fn planted(files: &[(&str, &str)]) -> Crate {
    let module = |path: &str| path.split("::").filter(|word| !word.is_empty()).map(str::to_owned).collect();
    Crate::of(files.iter().map(|(path, text)| (module(path), (*text).to_owned())).collect())
}

fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    planted(files).circles()
}

#[test]
fn planted_circles_are_found() {
    let found = circles_of(&[
        ("a", "use crate::b::B;"),
        ("b", "fn f() { crate::a::g() }"),
        ("c", "use crate::a::A;"),
    ]);
    assert_eq!(found, ["a imports b and is imported by it", "b imports a and is imported by it"]);
    // Through a parent that passes a name on, and through braces over several lines.
    let passed = [
        ("p", "mod x;\npub use x::X;"),
        ("p::x", "use crate::{\n    q::{Q, R},\n};"),
        ("q", "use crate::p::X;"),
    ];
    assert_eq!(circles_of(&passed).len(), 2, "{:?}", circles_of(&passed));
    // A parent with code of its own, and a child that uses it.
    let family = [("p", "mod x;\nstruct P;\nfn f() { x::run() }"), ("p::x", "use super::P;")];
    assert_eq!(circles_of(&family).len(), 2);
    // A parent that only passes on is in no circle with those whose names it passes on.
    let passes_on = [("p", "mod x;\nmod y;\npub use x::X;\npub use y::Y as Z;"), ("p::x", "use super::Z;")];
    assert!(circles_of(&[&passes_on[..], &[("p::y", "")]].concat()).is_empty());
    assert_eq!(circles_of(&[&passes_on[..], &[("p::y", "use super::X;")]].concat()).len(), 2);
    // What stands below a part that is only for tests counts.
    let below = "#[cfg(test)]\nfn f() {\n    g()\n}\n#[cfg(test)]\nuse x::X;\nuse crate::a::A;";
    assert_eq!(circles_of(&[("a", "use crate::b::B;"), ("b", below)]).len(), 2);
    let scope = [("p", "mod x;\nfn f() { x::run() }"), ("p::x", "pub(in super::super) fn run() {}")];
    assert!(circles_of(&scope).is_empty());
    let tests = [("a", "use crate::b::B;"), ("b", "#[cfg(test)]\nmod tests { use crate::a::A; }")];
    assert!(circles_of(&tests).is_empty());
}

#[test]
fn planted_climbs_are_found() {
    let floors: Floors = &[(&["low", "high::leaf"], "words"), (&["high"], "verbs")];
    let fits = [("low", "use crate::high::leaf::L;"), ("high", "use crate::low::X;"), ("high::leaf", "")];
    assert!(planted(&fits).upward(floors).is_empty());
    let climbs = [("low", "use crate::high::X;"), ("high", ""), ("high::leaf", ""), ("lower", "")];
    let found = planted(&climbs).upward(floors);
    assert_eq!(found, ["low (words) imports high, which stands higher", "lower stands on no floor"]);
    assert_eq!(planted(&[("low", ""), ("high", "")]).upward(floors), ["high::leaf is no module"]);
}

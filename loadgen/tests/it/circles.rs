//! No circle of files: whoever reads a file reads what it imports, and never comes back to it.
//!
//! A file imports another if it names something of it by a path (`use`, or in the code). A name that a
//! module passes on (`pub use`) leads to the file that has it. Unit tests may look anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

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
                let name = place.last().cloned().unwrap_or_default();
                all.passed_on.insert([module.clone(), vec![name]].concat(), place);
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
        } else if path.extension().is_some_and(|ext| ext == "rs") && stem != "main" && stem != "tests" {
            let own = if stem == "lib" { Module::new() } else { [module.clone(), vec![stem]].concat() };
            files.insert(own, fs::read_to_string(&path).unwrap());
        }
    }
}

/// The text in front of the unit tests, without comments.
fn code(text: &str) -> String {
    let tests = ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|mark| text.find(mark)).min();
    let lines = text[..tests.unwrap_or(text.len())].lines();
    lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

struct Use {
    words: Vec<String>,
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
        spread(tree, &[], &mut |words| found.push(Use { words, is_public }));
    }
    found
}

fn spread(tree: &str, head: &[String], give: &mut impl FnMut(Vec<String>)) {
    let words = |text: &str| {
        let words = text.split("::").map(str::trim).filter(|word| !word.is_empty());
        [head, &words.map(str::to_owned).collect::<Vec<_>>()].concat()
    };
    let Some((before, inner)) = tree.split_once('{') else {
        return give(words(tree.split(" as ").next().unwrap_or_default()));
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

#[test]
fn no_file_leads_back_to_itself() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (src, files_min) in [("src", 40), ("classic/src", 12), ("testkit/src", 3), ("records/src", 8)] {
        let all = Crate::read(&home.join(src));
        assert!(all.files.len() >= files_min, "{src}: the walk found only {} files", all.files.len());
        let arrows: usize = all.imports().values().map(BTreeSet::len).sum();
        assert!(arrows >= all.files.len() - 2, "{src}: the search for imports has gone blind: {arrows}");
        assert!(all.circles().is_empty(), "{src}:\n  {}", all.circles().join("\n  "));
    }
}

fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let module = |path: &str| path.split("::").filter(|word| !word.is_empty()).map(str::to_owned).collect();
    Crate::of(files.iter().map(|(path, text)| (module(path), (*text).to_owned())).collect()).circles()
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
    let tests = [("a", "use crate::b::B;"), ("b", "#[cfg(test)]\nmod tests { use crate::a::A; }")];
    assert!(circles_of(&tests).is_empty());
}

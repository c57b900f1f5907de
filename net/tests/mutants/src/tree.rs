//! The mutated copy of the tree: every file of the workspace with all patches applied, and
//! the switch that selects the active mutation. One build of it contains all mutations.
//!
//! A file is written only if it changes, so that cargo rebuilds only what has changed. A copy that
//! somebody has edited is not overwritten: `make mutants-refresh` moves the edits into the patches.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use crate::merge::{Misfit, merge};
use crate::patch::{self, Hunk, Patch};

/// The directory of the mutations, from the root of the workspace.
pub(crate) const HOME: &str = "net/tests/mutants";
/// The file next to the copy that records its contents when it was made, one line per file.
const NOTE: &str = "tree.made";
/// The extra module of the copy, from its root.
pub(crate) const SWITCH: &str = "core/src/mutated.rs";
/// The patch that adds the switch and makes a program say so. It is not a mutation.
pub(crate) const SWITCH_NAME: &str = "switch";
/// The marks in the copy around a hunk that did not apply.
pub(crate) const UNPLACED: [&str; 2] = ["<<<<<<< ", ">>>>>>> "];

/// The workspace with its patches.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// By name.
    pub(crate) mutations: Vec<Patch>,
    pub(crate) switch: Patch,
}

/// Files by their path from the root.
pub(crate) type Texts = BTreeMap<String, String>;

impl Workspace {
    /// Reads the patches of the workspace at `root`.
    ///
    /// # Errors
    /// One of them cannot be read or parsed.
    pub(crate) fn load(root: &Path) -> Result<Self, String> {
        let mutations = patch::load(&root.join(HOME).join("patches"))?;
        let switch = Patch::parse(SWITCH_NAME, &read(&root.join(HOME).join("switch.patch"))?)?;
        Ok(Self { root: root.to_owned(), mutations, switch })
    }

    /// The file of a mutation, or that of the switch.
    pub(crate) fn file_of(&self, name: &str) -> PathBuf {
        let dir = if name == SWITCH_NAME { HOME.to_owned() } else { format!("{HOME}/patches") };
        self.root.join(dir).join(format!("{name}.patch"))
    }

    /// The patched source files, and the hunks that do not apply.
    ///
    /// # Errors
    /// A file that a patch names cannot be read.
    pub(crate) fn mutated(&self) -> Result<(Texts, Vec<Misfit>), String> {
        let mut by_path: BTreeMap<&str, Vec<(&str, &Hunk)>> = BTreeMap::new();
        for patch in self.mutations.iter().chain([&self.switch]) {
            for hunk in &patch.hunks {
                by_path.entry(&hunk.path).or_default().push((&patch.name, hunk));
            }
        }
        let (mut texts, mut misfits) = (Texts::new(), Vec::new());
        for (path, hunks) in by_path {
            let (text, unplaced) = merge(&read(&self.root.join(path))?, &hunks);
            texts.insert(path.to_owned(), text);
            misfits.extend(unplaced);
        }
        Ok((texts, misfits))
    }

    /// The source of the switch, with the names of all mutations.
    fn switch_text(&self) -> Result<String, String> {
        let mut text = read(&self.root.join(HOME).join("switch.rs"))?;
        text.push_str("const NAMES: &[&str] = &[\n");
        self.mutations.iter().for_each(|mutation| text.push_str(&format!("    \"{}\",\n", mutation.name)));
        text.push_str("];\n");
        Ok(text)
    }

    /// Makes the copy in `dir/tree`, or updates it. Returns its root and the hunks that
    /// did not apply. Those are in the copy as text, between the marks [`UNPLACED`], to be merged
    /// by hand.
    ///
    /// # Errors
    /// The copy was edited, or a file cannot be read or written.
    pub(crate) fn copy_to(&self, dir: &Path) -> Result<(PathBuf, Vec<Misfit>), String> {
        let tree = dir.join("tree");
        if let Some(edited) = edited(dir)? {
            return Err(format!(
                "{edited} was edited in the copy: take it into the patches with `make mutants-refresh`, or delete {}",
                tree.display()
            ));
        }
        forget(dir)?;
        let (mut texts, mut misfits) = self.mutated()?;
        // From the end of the file, so that none is inserted into another.
        misfits.sort_by_key(|misfit| std::cmp::Reverse(misfit.hunk.at));
        misfits.iter().for_each(|misfit| show_unplaced(&mut texts, misfit));
        texts.insert(SWITCH.to_owned(), self.switch_text()?);
        let mut wanted: BTreeSet<String> = files(&self.root)?.into_iter().collect();
        wanted.extend(texts.keys().cloned());
        for path in &wanted {
            let to = tree.join(path);
            write_if_other(&self.root.join(path), texts.get(path).map(String::as_str), &to)
                .map_err(|error| format!("{}: {error}", to.display()))?;
        }
        for path in files(&tree)?.iter().filter(|path| !wanted.contains(*path)) {
            fs::remove_file(tree.join(path)).map_err(|error| format!("{path}: {error}"))?;
        }
        remember(dir)?;
        Ok((tree, misfits))
    }
}

/// Reads a text file.
///
/// # Errors
/// The path and the system's error.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The files below a directory, as relative paths, without those of git and cargo; none if it does not exist.
///
/// # Errors
/// A directory cannot be read.
pub(crate) fn files(root: &Path) -> Result<Vec<String>, String> {
    let (mut found, mut dirs) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        let names = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            names => names.map_err(|error| format!("{}: {error}", dir.display()))?,
        };
        for entry in names {
            let path = entry.map_err(|error| error.to_string())?.path();
            let is_apart = [".git", "target"].iter().any(|name| path.file_name() == Some(OsStr::new(name)));
            // Cargo puts this file into every target directory.
            if is_apart || path.join("CACHEDIR.TAG").exists() {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
            } else if let Some(path) = path.strip_prefix(root).ok().and_then(Path::to_str) {
                found.push(path.to_owned());
            }
        }
    }
    Ok(found)
}

/// Records the contents of the copy, to detect later whether somebody has edited it.
///
/// # Errors
/// A file cannot be read, or the record cannot be written.
pub(crate) fn remember(dir: &Path) -> Result<(), String> {
    let mut text = String::new();
    for path in files(&dir.join("tree"))? {
        text.push_str(&format!("{:016x} {path}\n", hash(&dir.join("tree").join(&path))?));
    }
    fs::write(dir.join(NOTE), text).map_err(|error| format!("{NOTE}: {error}"))
}

/// Deletes the record: a half-made copy has no edits.
fn forget(dir: &Path) -> Result<(), String> {
    match fs::remove_file(dir.join(NOTE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!("{NOTE}: {error}")),
        _ => Ok(()),
    }
}

/// A file of the copy that was edited since; `None` also if there is no record.
fn edited(dir: &Path) -> Result<Option<String>, String> {
    let Ok(note) = fs::read_to_string(dir.join(NOTE)) else { return Ok(None) };
    let known: BTreeSet<&str> = note.lines().collect();
    for path in files(&dir.join("tree"))? {
        if !known.contains(format!("{:016x} {path}", hash(&dir.join("tree").join(&path))?).as_str()) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn hash(path: &Path) -> Result<u64, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Ok(hasher.finish())
}

/// Writes `text`, or the contents of `from`, unless the file is the same already.
fn write_if_other(from: &Path, text: Option<&str>, to: &Path) -> io::Result<()> {
    let bytes = text.map_or_else(|| fs::read(from), |text| Ok(text.as_bytes().to_vec()))?;
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(to, bytes)?;
    match fs::metadata(from) {
        Ok(about) => fs::set_permissions(to, about.permissions()),
        Err(_) => Ok(()),
    }
}

/// Inserts a hunk that did not apply near its line number, as text that does not compile.
fn show_unplaced(texts: &mut Texts, misfit: &Misfit) {
    let text = texts.entry(misfit.hunk.path.clone()).or_default();
    let at = text.lines().take(misfit.hunk.at).map(|line| line.len() + 1).sum();
    let mut shown = format!("{}{}: {}\n", UNPLACED[0], misfit.name, misfit.why);
    for line in &misfit.hunk.lines {
        shown.push_str(&format!("{line}\n"));
    }
    shown.push_str(&format!("{}{}\n", UNPLACED[1], misfit.name));
    text.insert_str(at, &shown);
}

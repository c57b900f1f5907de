//! Prepares the files of the sale page. Each served file is compressed once, and gets a
//! name that changes with its content, so that caches may keep it for ever. The words of
//! each language become constants. What pages are made of gets one number, so that a cache
//! never takes the page of an older build for today's.
//!
//! Writes `assets.rs`, the compressed files, `words.rs` and `page_build.rs` into the build's own
//! directory; `src/http/assets.rs`, `src/site/words.rs` and `src/engine/pages.rs` take them in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// The static files: their name in the code, their file, what they are.
const FILES: [(&str, &str, &str); 4] = [
    ("STYLE", "style.css", "Css"),
    ("SCRIPT", "sale.js", "Script"),
    ("PAGE_SCRIPT", "page.js", "Script"),
    ("ICON", "icon.svg", "Svg"),
];
/// The languages: their name in the code, and their tag, which is also the name of their file.
const LANGUAGES: [(&str, &str); 2] = [("ENGLISH", "en"), ("CHINESE", "zh-CN")];
/// Hexadecimal digits of the content's hash in a name.
const HASH_DIGITS: usize = 12;
const WORDS_DOC: &str = "\
    /// Every text in one language, by the name that it has in the language's file. Also `tag`,\n\
    /// for `<html lang>`, and `for_script`, a JSON object of the texts that the script needs.\n\
    #[derive(Debug)]\n\
    #[allow(missing_docs, reason = \"the texts stand in net/templates/words\")]\n";

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let source = root.join("assets");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let mut code = String::new();
    for (name, file, media) in FILES {
        let path = source.join(file);
        println!("cargo::rerun-if-changed={}", path.display());
        let content = fs::read(&path)?;
        compress(&content, &out.join(format!("{file}.gz")))?;
        let hash = digits(&content);
        let (stem, ending) = file.split_once('.').unwrap_or((file, ""));
        let written = write!(
            code,
            "/// `{file}`\n\
             pub static {name}: Asset = Asset {{\n\
             path: \"/assets/{stem}-{hash}.{ending}\",\n\
             tag: \"\\\"{hash}\\\"\",\n\
             gzip_tag: \"\\\"{hash}-gzip\\\"\",\n\
             media: Media::{media},\n\
             plain: include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/assets/{file}\")),\n\
             gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}.gz\")),\n\
             }};\n"
        );
        written.map_err(io::Error::other)?;
    }
    fs::write(out.join("assets.rs"), code)?;
    fs::write(out.join("words.rs"), words(&root.join("templates/words"))?)?;
    fs::write(out.join("page_build.rs"), page_build(&root)?)
}

/// The first bytes of a hash of all that makes pages: code, templates, words, files.
fn page_build(root: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    for part in ["src", "templates", "assets"] {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
        for path in files(&root.join(part))? {
            hash.update(fs::read(path)?);
        }
    }
    let [a, b, c, d, ..] = hash.finalize()[..] else { unreachable!("a hash of 32 bytes") };
    Ok(format!("{:#x}", u32::from_be_bytes([a, b, c, d])))
}

/// All files below a folder, in an order that stays.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    let below = paths.into_iter().map(|path| if path.is_dir() { files(&path) } else { Ok(vec![path]) });
    Ok(below.collect::<io::Result<Vec<_>>>()?.concat())
}

/// The texts as fields of a struct `Words`, and a value of it for each language. A text that
/// stands in one language only does not compile.
fn words(dir: &Path) -> io::Result<String> {
    let (mut names, mut values) = (String::new(), String::new());
    for (language, tag) in LANGUAGES {
        let path = dir.join(format!("{tag}.json"));
        println!("cargo::rerun-if-changed={}", path.display());
        let file: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_slice(&fs::read(path)?)?;
        let for_script = serde_json::to_string(&file["script"])?;
        let texts = file.values().flatten().map(|(name, text)| (name.as_str(), text.as_str()));
        let texts: Vec<_> = texts.chain([("tag", tag), ("for_script", &for_script)]).collect();
        names = texts.iter().map(|(name, _)| format!("pub {name}: &'static str,\n")).collect();
        let fields: String = texts.iter().map(|(name, text)| format!("{name}: {text:?},\n")).collect();
        values += &format!("static {language}: Words = Words {{\n{fields}}};\n");
    }
    Ok(format!("{WORDS_DOC}pub struct Words {{\n{names}}}\n{values}"))
}

fn compress(content: &[u8], to: &Path) -> io::Result<()> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    fs::write(to, encoder.finish()?)
}

fn digits(content: &[u8]) -> String {
    let mut hash = String::new();
    for byte in Sha256::digest(content) {
        hash.push_str(&format!("{byte:02x}"));
    }
    hash.truncate(HASH_DIGITS);
    hash
}

//! Prepares the files of the sale page: each is compressed once, and gets a name that
//! changes with its content, so that caches may keep it for ever.
//!
//! Writes `assets.rs` and the compressed files into the build's own directory;
//! `src/http/assets.rs` takes them in from there.

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
/// Hexadecimal digits of the content's hash in a name.
const HASH_DIGITS: usize = 12;

fn main() -> io::Result<()> {
    let source = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("assets");
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
    fs::write(out.join("assets.rs"), code)
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

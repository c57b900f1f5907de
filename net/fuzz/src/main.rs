//! Writes the seeds of every target below a directory: what a new corpus grows from.

use std::path::Path;

/// What the inputs of a target begin as.
type Seeds = fn() -> Vec<Vec<u8>>;

fn main() -> std::io::Result<()> {
    let dir = std::env::args_os().nth(1).expect("fuzz-seeds DIR");
    let targets: [(&str, Seeds); 6] = [
        ("batch", stampede_fuzz::batch::seeds),
        ("conn", stampede_fuzz::conn::seeds),
        ("json", stampede_fuzz::json::seeds),
        ("seal", stampede_fuzz::seal::seeds),
        ("log", stampede_fuzz::log::seeds),
        ("snapshot", stampede_fuzz::snapshot::seeds),
    ];
    for (target, seeds) in targets {
        let dir = Path::new(&dir).join(target);
        std::fs::create_dir_all(&dir)?;
        for (number, seed) in seeds().iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}

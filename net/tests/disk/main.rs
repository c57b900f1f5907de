//! Faults below the file system, during a sale: a power cut on ext4 and XFS, failing
//! writes and flushes in a user-space layer, a backing store that runs full.
//!
//! Required each time: fail-stop (exit code 74), nothing acknowledged after the failure, and all
//! acknowledged orders present after the fault is gone and the server restarted. What this
//! machine cannot do is reported in one line and never counted as passed. Next: `case.rs`.

mod case;
mod layer;
mod mount;
#[path = "../torture/sale.rs"]
#[allow(dead_code, reason = "the other program of this crate uses the rest of it")]
mod sale;
#[path = "../it/server.rs"]
#[allow(dead_code, reason = "the other tests of this crate use the rest of it")]
mod server;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

use stampede_testkit::{Missing, Need};

fn main() -> ExitCode {
    let only = std::env::var("DISK_ONLY").unwrap_or_default();
    let (mut passed, mut skipped, mut failed) = (0, 0, 0);
    for case in case::CASES.iter().filter(|case| case.name.contains(&only)) {
        let began = Instant::now();
        match catch_unwind(case.run) {
            Ok(Ok(())) => {
                passed += 1;
                println!("passed  {:52} {:4.1}s", case.name, began.elapsed().as_secs_f64());
            }
            Ok(Err(why)) => {
                let missing = Missing::new(Need::FileSystems, why);
                if missing.may_be_missing() {
                    skipped += 1;
                    println!("SKIPPED {}: {missing}", case.name);
                } else {
                    failed += 1;
                    println!(
                        "FAILED  {}: STAMPEDE_SKIP_OK does not name what is missing: {missing}",
                        case.name
                    );
                }
            }
            Err(_) => {
                failed += 1;
                println!("FAILED  {}", case.name);
            }
        }
    }
    println!("disk: {passed} passed, {skipped} skipped, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

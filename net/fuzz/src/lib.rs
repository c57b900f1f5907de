//! What the fuzz targets check: more than that nothing panics.
//!
//! Each module has one function `check` that takes any bytes and panics on a broken promise. It
//! is called by a target of libFuzzer (`targets/`, by `make fuzz`), and by the test that replays
//! the corpus (`tests/corpus.rs`). A corpus of a target lies in `corpus/TARGET`, one small file
//! per input.

pub mod batch;
pub mod conn;
pub mod json;
pub mod log;
pub mod seal;
pub mod snapshot;

#[path = "../../tests/common/compare.rs"]
mod compare;
#[path = "../../../persist/tests/common/forge.rs"]
#[allow(dead_code, reason = "shared with the tests of the log, which forge otherwise")]
mod forge;
#[path = "../../tests/common/reader.rs"]
mod reader;
#[path = "../../../persist/tests/common/sim_disk.rs"]
#[allow(dead_code, reason = "shared with the tests of the log, which need other parts of it")]
mod sim_disk;

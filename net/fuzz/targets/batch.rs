//! The target `batch` of `make fuzz`; what it checks stands in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stampede_fuzz::batch::check(data));

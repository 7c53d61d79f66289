//! The reader of microdumps on any bytes, and every question that a target answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../shared/target.rs"]
mod target;

fuzz_target!(|bytes: &[u8]| {
    let mut file = b"-----BEGIN BREAKPAD MICRODUMP-----\n".to_vec();
    file.extend_from_slice(bytes);
    target::read(&file);
});

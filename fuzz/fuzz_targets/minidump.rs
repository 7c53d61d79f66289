//! The reader of minidumps on any bytes, and every question that a target answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../shared/target.rs"]
mod target;

fuzz_target!(|bytes: &[u8]| {
    // The magic is given, so that inputs reach what comes behind it; both byte orders are.
    let magic: &[u8] = if bytes.first().is_some_and(|b| b & 1 == 1) { b"PMDM" } else { b"MDMP" };
    let mut file = magic.to_vec();
    file.extend_from_slice(bytes.get(4..).unwrap_or_default());
    target::read(&file);
});

//! Opens bytes as a minidump or microdump, and asks everything that a capture asks.

use evidence::{Addr, Target};
use platform::input::{Input, Options};
use platform::minidump;
use std::path::Path;

/// The most time that a test of a few thousand bytes may take is libFuzzer's to say; this is about what it says.
pub fn read(file: &[u8]) {
    let options = Options::default();
    let Ok(input) = Input::from_stream_with(file, Path::new("fuzz.dmp"), &options) else { return };
    let Ok(dump) = minidump::from_input(input, &options) else { return };
    let target: &dyn Target = &dump;
    assert!(target.gaps().doubts.len() <= evidence::LIMIT_DOUBTS + 1, "doubts are limited");
    let mut raw = [0; 256];
    let mut look = |at: Addr| {
        let (got, stop) = target.memory().read(at, &mut raw);
        assert!(got <= raw.len() && (got == raw.len() || stop.is_some()), "what is missing has a reason");
    };
    for thread in target.threads() {
        thread.registers.sp().into_iter().chain(thread.registers.pc()).for_each(&mut look);
        if let Some(stack) = &thread.stack {
            assert!(stack.start <= stack.end, "a stack ends behind its start");
            look(stack.start);
        }
    }
    for mapping in target.mappings() {
        look(mapping.range.start);
        look(mapping.range.end);
    }
    let written = target.identity().pid.is_some() || target.event().is_some() || !target.notes().is_empty();
    std::hint::black_box((written, target.attributes().len(), target.open_files().len(), target.images().len()));
}

//! ELF vmcores: any program headers and anything behind them, after an honest file header.
#![no_main]

mod linux;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&count, rest)) = bytes.split_first() else { return };
    if count == 0xff {
        return linux::exercise(rest.to_vec());
    }
    let count = u64::from(count % 8) + 1;
    let note = linux::note(b"VMCOREINFO", 0, linux::VMCOREINFO);
    let note_size = u64::try_from(note.len()).expect("short");
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    // Entry point, program headers at 64, section headers inside of what was given.
    for word in [0, 64, 64 + 56] {
        file.extend(u64::to_le_bytes(word));
    }
    file.extend([0; 4]);
    let headers = if rest.first() == Some(&0xff) { 0xffff } else { u16::try_from(count).expect("at most 9") + 1 };
    for half in [64, 56, headers, 64, 1, 0] {
        file.extend(u16::to_le_bytes(half));
    }
    // The note's program header; its bytes are the end of the file.
    let end = 64 + 56 + u64::try_from(rest.len()).expect("short");
    file.extend(4_u32.to_le_bytes());
    file.extend([0; 4]);
    for word in [end, 0, 0, note_size, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(rest);
    file.extend(note);
    linux::exercise(file);
});

//! Compressed kdumps: any sub header, bitmaps, descriptors and pages, after an honest beginning.
#![no_main]

mod linux;

use libfuzzer_sys::fuzz_target;

/// Small blocks, so that inputs reach what lies behind the bitmaps.
const BLOCK: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let Some((&form, rest)) = bytes.split_first() else { return };
    if form == 0xff {
        return linux::exercise([b"KDUMP   ", rest].concat());
    }
    let version = u32::from(form % 8);
    let mut file = b"KDUMP   ".to_vec();
    file.extend(version.to_le_bytes());
    file.resize(428, 0);
    // Block size, blocks of the sub header, blocks of the bitmaps, pages, and what follows.
    for word in [512_u32, 1, 2, 4096, 0, 0, 0, 0, 1] {
        file.extend(word.to_le_bytes());
    }
    file.resize(BLOCK, 0);
    if form & 0x40 == 0 {
        // VMCOREINFO behind everything, and the rest of the sub header as given.
        let behind = u64::try_from(BLOCK * 2 + rest.len()).expect("short");
        let size = u64::try_from(linux::VMCOREINFO.len()).expect("short");
        file.extend([0; 32]);
        file.extend(behind.to_le_bytes());
        file.extend(size.to_le_bytes());
        file.resize(BLOCK + 96, 0);
        file.extend(4096_u64.to_le_bytes());
        file.resize(BLOCK * 2, 0);
    }
    file.extend(rest);
    file.extend(linux::VMCOREINFO);
    linux::exercise(file);
});

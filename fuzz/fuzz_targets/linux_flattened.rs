//! makedumpfile's flattened form: pieces in any order over an honest inner header, and pieces that are damaged.
#![no_main]

mod linux;

use libfuzzer_sys::fuzz_target;

fn piece(file: &mut Vec<u8>, offset: u64, data: &[u8]) {
    file.extend(offset.to_be_bytes());
    file.extend(u64::try_from(data.len()).expect("short").to_be_bytes());
    file.extend(data);
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&form, mut rest)) = bytes.split_first() else { return };
    let mut file = b"makedumpfile\0\0\0\0".to_vec();
    file.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    file.resize(4096, 0);
    if form == 0xff {
        file.extend(rest);
        return linux::exercise(file);
    }
    if form & 1 == 0 {
        let mut head = b"KDUMP   \x06\0\0\0".to_vec();
        head.resize(428, 0);
        for word in [512_u32, 1, 2, 4096, 0, 0, 0, 0, 1] {
            head.extend(word.to_le_bytes());
        }
        head.resize(512, 0);
        piece(&mut file, 0, &head);
    } else {
        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(16, 0);
        head.extend([4, 0, 62, 0, 1, 0, 0, 0]);
        for word in [0, 64, 0] {
            head.extend(u64::to_le_bytes(word));
        }
        head.extend([0; 4]);
        for half in [64_u16, 56, 3, 64, 0, 0] {
            head.extend(half.to_le_bytes());
        }
        piece(&mut file, 0, &head);
    }
    // Each piece: two bytes of offset, its scale, a length, and its bytes.
    while let [low, high, scale, length, after @ ..] = rest {
        let (data, behind) = after.split_at(usize::from(*length).min(after.len()));
        let offset = u64::from(u16::from_le_bytes([*low, *high])) << (scale % 48);
        piece(&mut file, offset, data);
        rest = behind;
    }
    if form & 2 == 0 {
        file.extend([0xff; 16]);
    }
    linux::exercise(file);
});

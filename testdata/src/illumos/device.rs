//! The end of a dump device: summary, reports, messages, the terminal header; and the encryption of it all.

use super::dump::{Compression, Dump, Key};
use super::header::{PAGE, Sections, data_header, header, put};
use chacha20::ChaCha20Legacy;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};

const STEP: usize = 65_536;
const LOG: usize = 2 << 20;
const REPORTS: usize = 3_932_160;
/// `DF_ENCRYPTED`.
const ENCRYPTED: u32 = 0x10;

/// `checksum32` of the kernel.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0_u32, |sum, b| sum.rotate_right(1).wrapping_add(u32::from(*b)))
}

pub(super) fn finish(dump: &Dump, mut device: Vec<u8>, at: &Sections, csize: u64, key: Option<&Key>) -> Vec<u8> {
    let used = device.len();
    device.resize((used + STEP + REPORTS + LOG + STEP).next_multiple_of(STEP) + STEP, 0);
    let end = device.len() - STEP;
    let mut log = end - LOG;
    for text in &dump.messages {
        let mut control = vec![0; 24];
        put(&mut control, 16, &7_u32.to_le_bytes());
        let words = [0xf00d_4109, text.len() as u32, checksum(&control), checksum(text.as_bytes())];
        let entry: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        for part in [&entry[..], &control, text.as_bytes()] {
            put(&mut device, log, part);
            log += part.len();
        }
    }
    let mut report = end - LOG - REPORTS;
    for body in &dump.reports {
        let mut head = vec![0; 48];
        put(&mut head, 0, &0xf00d_4edd_u32.to_le_bytes());
        put(&mut head, 4, &checksum(body).to_le_bytes());
        put(&mut head, 8, &(body.len() as u32).to_le_bytes());
        put(&mut device, report, &head);
        put(&mut device, report + 48, body);
        report += 48 + body.len();
    }
    let summary = end - LOG - REPORTS - STEP;
    put(&mut device, summary, &0xdead_0d8a_u32.to_le_bytes());
    put(&mut device, summary + 8, b"fffffe0000000000 unix:panicsys+1 ()");
    let flags = dump.flags | if key.is_some() { ENCRYPTED } else { 0 };
    let mut head = header(dump, flags, at);
    if let Some(key) = key {
        let mut check = head[56..120].to_vec();
        ChaCha20Legacy::new(&key.key.into(), &key.nonce.into()).apply_keystream(&mut check);
        head.push(1);
        head.extend(check);
        head.extend(key.nonce);
        encrypt(&mut device[..end], usize::try_from(at.start).expect("small") + PAGE, key);
    }
    put(&mut device, usize::try_from(at.start).expect("small"), &head);
    if dump.compression != Compression::Old {
        head.extend(data_header(dump, csize));
    }
    put(&mut device, end, &head);
    device
}

/// Every word is laid over with its own device offset, encrypted.
fn encrypt(device: &mut [u8], from: usize, key: &Key) {
    let mut pad: Vec<u8> = (0..device.len() as u64).step_by(8).flat_map(u64::to_le_bytes).collect();
    ChaCha20Legacy::new(&key.key.into(), &key.nonce.into()).apply_keystream(&mut pad);
    for (byte, pad) in device.iter_mut().zip(pad).skip(from) {
        *byte ^= pad;
    }
}

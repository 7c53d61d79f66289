//! Made dumps of FreeBSD kernels, and how tests open them.

use crate::support::Bytes;
use kernel_dumps::freebsd::{FreeBsdDump, Options, Unpacked};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use testdata::freebsd::Memory;
use testdata::freebsd::minidump::{Machine, Minidump};

pub fn unpack(stream: Box<dyn Read + Send>) -> Result<Unpacked, String> {
    let input = platform::input::Input::from_stream(stream, Path::new("dump")).map_err(|e| e.to_string())?;
    let doubts = input.doubts().to_vec();
    Ok(Unpacked { source: Box::new(Bytes(input)), doubts })
}

pub fn open_with(bytes: Vec<u8>, key: Option<PathBuf>) -> Result<FreeBsdDump, String> {
    let options = Options { key, unpack: Some(&unpack) };
    FreeBsdDump::from_source(Path::new("dump"), Box::new(bytes), &options).map_err(|e| e.to_string())
}

pub fn open(bytes: Vec<u8>) -> Result<FreeBsdDump, String> {
    open_with(bytes, None)
}

/// Text at three places that lie in different tables.
pub fn memory(base: u64) -> (Memory, Vec<(u64, Vec<u8>)>) {
    let mut memory = Memory::new(0x100);
    let mut truth = Vec::new();
    for (n, at) in [0x20_0000, 0x20_5ff0, 0x60_0100, 0x7f_fff0].into_iter().enumerate() {
        let bytes: Vec<u8> = (0..40_u8).map(|b| b ^ (n as u8 * 7)).collect();
        // The last two end where nothing is mapped.
        let bytes = if n == 3 { bytes[..16].to_vec() } else { bytes };
        memory.write(base + at, &bytes);
        truth.push((base + at, bytes));
    }
    memory.write(base + 0x20_0000, b"\x7fELF");
    truth[0].1[..4].copy_from_slice(b"\x7fELF");
    (memory, truth)
}

/// What lies at which address.
pub type Placed = Vec<(u64, Vec<u8>)>;

pub fn minidump(machine: Machine, version: u32) -> (Vec<u8>, Memory, Placed) {
    let (base, direct) = match machine {
        Machine::Amd64 => (0xffff_ffff_8000_0000, (0xffff_f800_0000_0000, 0xffff_fc00_0000_0000, 0)),
        Machine::Arm64 => (0xffff_0000_0000_0000, (0xffff_a000_0000_0000, 0xffff_b000_0000_0000, 0x10_0000)),
        _ => (0xc000_0000, (0, 0, 0)),
    };
    let (memory, truth) = memory(base);
    let dump = Minidump { machine, version, kernel_base: base, direct, messages: b"hello\n".to_vec() };
    (dump.write(&memory), memory, truth)
}

pub const ALL: [(Machine, u32); 10] = [
    (Machine::Amd64, 1),
    (Machine::Amd64, 2),
    (Machine::Amd64, 3),
    (Machine::Arm64, 1),
    (Machine::Arm64, 2),
    (Machine::Arm64, 3),
    (Machine::I386, 1),
    (Machine::I386, 2),
    (Machine::I386Pae, 1),
    (Machine::I386Pae, 2),
];

pub fn packed(bytes: &[u8], zstandard: bool) -> Vec<u8> {
    if zstandard {
        return zstd::encode_all(bytes, 3).unwrap();
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("openssl");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

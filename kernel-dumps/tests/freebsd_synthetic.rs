//! Made dumps of FreeBSD kernels: every container reads back what was written into it.

#[path = "support/made.rs"]
mod made;
mod support;

use evidence::{Absent, Addr, Machine as _, PhysAddr, Target as _};
use kernel_dumps::freebsd::{FreeBsdDump, Options};
use made::{ALL, hex, memory, minidump, open, open_with, openssl, packed, unpack};
use testdata::freebsd::device::{Record, key_record};
use testdata::freebsd::minidump::Machine;
use testdata::freebsd::{Memory, full};

fn check(dump: &FreeBsdDump, memory: &Memory, truth: &[(u64, Vec<u8>)]) {
    for (at, bytes) in truth {
        let mut read = vec![0; bytes.len()];
        assert_eq!(dump.memory().read(Addr(*at), &mut read), (bytes.len(), None), "{at:#x}");
        assert_eq!(read, *bytes, "{at:#x}");
    }
    let (last, bytes) = truth.last().unwrap();
    let mut more = vec![0; bytes.len() + 8];
    assert_eq!(dump.memory().read(Addr(*last), &mut more), (bytes.len(), Some(Absent::Unmapped)));
    for (number, page) in &memory.pages {
        let mut read = vec![0; 4096];
        assert_eq!(dump.read_physical(PhysAddr(number * 4096), &mut read), (4096, None));
        assert_eq!(&read, page);
    }
}

#[test]
fn minidumps_of_every_machine_and_version() {
    for (machine, version) in ALL {
        let (bytes, memory, truth) = minidump(machine, version);
        let dump = open(bytes).unwrap_or_else(|e| panic!("{machine:?} {version}: {e}"));
        check(&dump, &memory, &truth);
        assert!(dump.gaps().doubts.is_empty(), "{machine:?} {version}: {:?}", dump.gaps().doubts);
        let note = dump.notes().iter().find(|n| &*n.owner == kernel_dumps::freebsd::notes::MESSAGES).unwrap();
        assert_eq!(&*note.body, b"hello\n");
        // The direct map.
        let (number, page) = memory.pages.iter().next().unwrap();
        let direct = match machine {
            Machine::Amd64 => 0xffff_f800_0000_0000 + number * 4096,
            Machine::Arm64 => 0xffff_a000_0000_0000 + number * 4096 - 0x10_0000,
            _ => continue,
        };
        let mut read = vec![0; 4096];
        assert_eq!(dump.memory().read(Addr(direct), &mut read), (4096, None), "{machine:?} {version}");
        assert_eq!(&read, page);
    }
    let (bytes, ..) = minidump(Machine::Amd64, 4);
    assert!(open(bytes).err().unwrap().contains("at offset 0x18"));
}

#[test]
fn full_dumps_of_four_and_five_levels() {
    for levels in [4, 5] {
        let (mut memory, truth) = memory(0xffff_ffff_8000_0000);
        let root = full::page_tables(&mut memory, levels);
        let dump = open(full::write(&memory)).unwrap();
        assert_eq!(dump.root(), Some(PhysAddr(root * 4096)));
        check(&dump, &memory, &truth);
    }
}

#[test]
fn full_dumps_of_other_machines() {
    for (tables, base, load) in [
        (full::Tables::Arm64, 0xffff_0000_0000_0000_u64, 0),
        (full::Tables::Arm64Large, 0xffff_0000_0000_0000, 0),
        (full::Tables::I386, 0xc000_0000, 0x40_0000),
        (full::Tables::I386Pae, 0xc000_0000, 0xa0_0000),
        // Since 12 i386's kernel has the address space for itself.
        (full::Tables::I386, 0, 0xa0_0000),
    ] {
        let (mut memory, truth) = memory(base);
        memory.write(base + load, b"\x7fELF");
        if tables == full::Tables::Arm64Large {
            memory = memory.grouped();
        }
        let root = full::add(&mut memory, tables);
        let dump = open(full::write_for(&memory, tables)).unwrap();
        if tables == full::Tables::I386Pae {
            // Of PAE's four directories the first one is named; the pointer table leads to all of them.
            assert!(dump.root().is_some_and(|r| r.0 != root * 4096), "{tables:?}");
            let space = dump.space(PhysAddr(root * 4096)).unwrap();
            let mut magic = [0; 4];
            assert_eq!((space.read(Addr(base + load), &mut magic), &magic), ((4, None), b"\x7fELF"));
        } else {
            assert_eq!(dump.root(), Some(PhysAddr(root * 4096)), "{tables:?}");
        }
        check(&dump, &memory, &truth);
        let at = Addr(base + load + 3);
        let there = memory.maps[&(at.0 / 4096)] * 4096 + 3;
        assert_eq!(dump.physical(at), Ok(PhysAddr(there)), "{tables:?}");
        assert_eq!(dump.physical(Addr(base + 0x3f00_0000)), Err(evidence::Absent::Unmapped), "{tables:?}");
        // Tables that prove nothing are not used.
        let mut other = memory.clone();
        other.write(base + load, b"\x7fELG");
        other.write(base + 0x20_0000, b"\x7fELG");
        let dump = open(full::write_for(&other, tables)).unwrap();
        assert_eq!(dump.root(), None, "{tables:?}");
        assert_eq!(dump.memory().read(at, &mut [0]), (0, Some(evidence::Absent::Filtered)));
        assert!(dump.gaps().doubts.iter().any(|d| d.why.contains("page tables were not found")), "{tables:?}");
    }
}

#[test]
fn on_devices_with_records_of_every_version() {
    let (bytes, memory, truth) = minidump(Machine::Amd64, 3);
    for version in 1..=4 {
        for block_size in [512, 4096] {
            let record = Record { version, block_size, ..Record::new(bytes.len()) };
            let dump = open(record.device(20_000, &[], &bytes)).unwrap();
            check(&dump, &memory, &truth);
            assert!(dump.gaps().doubts.is_empty(), "{version}: {:?}", dump.gaps().doubts);
            assert_eq!(dump.event().unwrap().message.as_deref(), Some("page fault"));
            assert_eq!(dump.identity().host.as_deref(), Some("db1.example.org"));
            assert_eq!(dump.identity().release.as_deref(), Some("14.1-RELEASE"));
            assert_eq!(dump.identity().taken_at_ns, Some(1_700_000_000_000_000_000));
        }
    }
    for (compression, zstandard) in [(1, false), (2, true)] {
        let stream = packed(&bytes, zstandard);
        for version in [3, 4] {
            let extent = stream.len() as u64 + 100_000;
            let record = Record { version, compression, extent, ..Record::new(stream.len()) };
            check(&open(record.device(512, &[], &stream)).unwrap(), &memory, &truth);
        }
    }
}

#[test]
fn records_that_were_cleared_or_differ() {
    let (bytes, memory, truth) = minidump(Machine::Amd64, 2);
    let doubts = |device: Vec<u8>| {
        let dump = open(device).unwrap();
        check(&dump, &memory, &truth);
        format!("{:?}", dump.gaps().doubts)
    };
    let record = Record { magic: "Cleared Kernel Dump", ..Record::new(bytes.len()) };
    assert!(doubts(record.device(0, &[], &bytes)).contains("taken off this device"));
    let mut device = Record::new(bytes.len()).device(0, &[], &bytes);
    device[65_536 + 330] ^= 1;
    assert!(doubts(device.clone()).contains("differ"));
    device[65_536] = 0;
    assert!(doubts(device).contains("no record at 0x10000"));
    // An image that begins with the record and has no end.
    let device = Record::new(bytes.len()).device(0, &[], &bytes);
    assert!(doubts(device[65_536..device.len() - 512].to_vec()).contains("end of the device is missing"));
    let mut device = Record::new(bytes.len()).device(0, &[], &bytes);
    let last = device.len();
    device[last - 100] ^= 1;
    assert!(doubts(device).contains("parity"));
}

/// OpenSSL encrypts, as the kernel and savecore's decryptcore would.
#[test]
fn encrypted_dumps_with_the_key_and_without() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let private = file("private.pem", &openssl(&["genrsa", "2048"], b""));
    let other = file("other.pem", &openssl(&["genrsa", "2048"], b""));
    let name = private.to_str().unwrap();
    let old_form = file("pkcs1.pem", &openssl(&["rsa", "-in", name, "-traditional"], b""));
    let der = file("private.der", &openssl(&["rsa", "-in", name, "-outform", "DER"], b""));
    let key: Vec<u8> = (0..64_u8).map(|n| n.wrapping_mul(37)).collect();
    let vector: [u8; 32] = std::array::from_fn(|n| n as u8 ^ 0x5c);
    let (bytes, memory, truth) = minidump(Machine::Amd64, 3);
    let aes = |bytes: &[u8]| {
        openssl(&["enc", "-aes-256-cbc", "-nopad", "-K", &hex(&key[..32]), "-iv", &hex(&vector[..16])], bytes)
    };
    // OpenSSL's vector is the counter and the nonce.
    let counter = format!("0000000000000000{}", hex(&vector[..8]));
    let chacha = |bytes: &[u8]| openssl(&["enc", "-chacha20", "-K", &hex(&key[..32]), "-iv", &counter], bytes);
    for padding in ["oaep", "pkcs1"] {
        let option = format!("rsa_padding_mode:{padding}");
        let wrapped = openssl(&["pkeyutl", "-encrypt", "-inkey", name, "-pkeyopt", &option], &key);
        for (cipher, stream, compression) in
            [(1_u8, aes(&bytes), 0_u8), (2, chacha(&bytes), 0), (2, chacha(&packed(&bytes, true)), 2)]
        {
            let block = key_record(cipher, &vector, &wrapped, 512);
            let mut record = Record { compression, key_size: block.len() as u32, ..Record::new(stream.len()) };
            record.extent = record.extent.next_multiple_of(512);
            let device = record.device(0, &block, &stream);
            for private in [&private, &old_form, &der] {
                let dump = open_with(device.clone(), Some(private.clone())).unwrap();
                check(&dump, &memory, &truth);
            }
            let refused = open(device.clone()).err().unwrap();
            assert!(refused.contains("is encrypted") && refused.contains("--key"), "{refused}");
            let refused = open_with(device, Some(other.clone())).err().unwrap();
            assert!(refused.contains("is not the private key"), "{refused}");
            // As savecore leaves it: vmcore_encrypted.N and key.N.
            let core = file("vmcore_encrypted.7", &stream);
            file("key.7", &block);
            let options = |key| Options { key, unpack: Some(&unpack) };
            let dump = FreeBsdDump::open(&core, &options(Some(private.clone()))).unwrap();
            check(&dump, &memory, &truth);
            let refused = FreeBsdDump::open(&core, &options(None)).err().unwrap().to_string();
            assert!(refused.contains("--key"), "{refused}");
        }
    }
    let no_key = file("no.pem", b"-----BEGIN NOTHING-----\n");
    let block = key_record(2, &vector, &[7; 256], 512);
    let record = Record { key_size: block.len() as u32, ..Record::new(bytes.len()) };
    let refused = open_with(record.device(0, &block, &bytes), Some(no_key)).err().unwrap();
    assert!(refused.contains("no RSA private key"), "{refused}");
}

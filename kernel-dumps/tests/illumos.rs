//! illumos dumps that another writer made, page by page.

use evidence::{Absent, Addr, Machine, PhysAddr, Target};
use kernel_dumps::Options;
use kernel_dumps::illumos::{IllumosDump, Mode};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use testdata::fixtures::fixture;

const DUMPS: [(&str, Mode); 3] = [("old", Mode::Serial), ("plzjb1", Mode::ParallelLzjb), ("pbz2", Mode::ParallelBzip2)];

/// The dump, unpacked into a temporary folder.
fn unpacked(name: &str, folder: &tempfile::TempDir) -> Option<PathBuf> {
    let packed = fixture(&format!("illumos/vmdump/{name}.vmdump.0.zst"))?;
    let out = folder.path().join(name);
    let bytes = zstd::stream::decode_all(std::fs::File::open(packed).unwrap()).unwrap();
    std::fs::write(&out, bytes).unwrap();
    Some(out)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn page(read: impl Fn(&mut [u8]) -> (usize, Option<Absent>)) -> String {
    let mut bytes = vec![0; 4096];
    let (got, why) = read(&mut bytes);
    assert_eq!((got, why), (4096, None));
    hex(&Sha256::digest(&bytes))
}

#[test]
fn every_page_of_every_mode() {
    let Some(expected) = fixture("illumos/vmdump/expected-pages.tsv") else { return };
    let expected = std::fs::read_to_string(expected).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, mode) in DUMPS {
        let Some(path) = unpacked(name, &folder) else { return };
        let dump = IllumosDump::open(&path, &Options::default()).unwrap();
        assert_eq!(dump.mode(), Some(mode));
        assert_eq!(dump.gaps().doubts, [], "{name}");
        assert!(dump.event().unwrap().message.as_deref().unwrap().starts_with("BAD TRAP"));
        let mut kernel = None;
        let mut pages = 0;
        for line in expected.lines().skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            let number = |n: usize| u64::from_str_radix(fields[n].trim_start_matches("0x"), 16).unwrap();
            let (space, at, pfn) = (number(0), number(1), number(2));
            let memory = dump.space(PhysAddr(space)).unwrap();
            assert_eq!(page(|b| memory.read(Addr(at), b)), fields[3], "{name}: {at:#x}");
            assert_eq!(page(|b| dump.read_physical(PhysAddr(pfn << 12), b)), fields[3], "{name}: frame {pfn:#x}");
            if at >= 0xffff_fc80_0000_0000 && *kernel.get_or_insert(space) == space {
                assert_eq!(page(|b| dump.memory().read(Addr(at), b)), fields[3], "{name}: {at:#x}");
            }
            pages += 1;
        }
        assert!(pages > 3000);
        let mut byte = [0];
        assert_eq!(dump.memory().read(Addr(0x10), &mut byte), (0, Some(Absent::Unmapped)));
        assert_eq!(dump.memory().read(Addr(0xffff_ffff_0000_0000), &mut byte), (0, Some(Absent::Filtered)));
        assert!(dump.space(PhysAddr(0x1234)).is_err());
    }
}

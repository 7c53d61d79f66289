//! Every compression, streams, and what is told from content.

use super::*;
use evidence::ToU64;
use std::io::Write;
use testdata::elfcore::linux::small;

fn packed(layer: Compression, bytes: &[u8]) -> Vec<u8> {
    match layer {
        Compression::Gzip => {
            let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            w.write_all(bytes).unwrap();
            w.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
        Compression::Xz => {
            let mut w = liblzma::write::XzEncoder::new(Vec::new(), 1);
            w.write_all(bytes).unwrap();
            w.finish().unwrap()
        }
        Compression::Bzip2 => {
            let mut w = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            w.write_all(bytes).unwrap();
            w.finish().unwrap()
        }
        Compression::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut w = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            w.write_all(bytes).unwrap();
            w.finish().unwrap()
        }
    }
}

const ALL: [Compression; 5] =
    [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Bzip2, Compression::Lz4];

fn open(path: &Path, options: &Options) -> Result<Input, Error> {
    Input::open_with(path, options)
}

fn open_stream(stream: impl Read, options: &Options) -> Result<Input, Error> {
    Input::from_stream_with(stream, Path::new("-"), options)
}

fn contents(input: &Input) -> Vec<u8> {
    input.source.bytes(0, usize::MAX)
}

#[test]
fn packed_files_and_streams_give_their_bytes() {
    let core = small().build();
    let folder = tempfile::tempdir().unwrap();
    for layer in ALL {
        // Twice in one file: both parts are read, as the programs of these formats do.
        let (half, rest) = core.split_at(core.len() / 2);
        let bytes = [packed(layer, half), packed(layer, rest)].concat();
        let path = folder.path().join(layer.word());
        std::fs::write(&path, &bytes).unwrap();
        for input in [open(&path, &Options::default()).unwrap(), open_stream(&*bytes, &Options::default()).unwrap()] {
            assert!(contents(&input) == core, "{layer:?}");
            assert_eq!((input.kind, input.packed.as_slice()), (Kind::UserCore, &[layer][..]));
            assert_eq!(input.doubts, []);
        }
    }
    let twice = packed(Compression::Zstd, &packed(Compression::Gzip, &core));
    let input = open_stream(&*twice, &Options::default()).unwrap();
    assert_eq!(input.packed, [Compression::Zstd, Compression::Gzip]);
    assert!(contents(&input) == core);
}

#[test]
fn a_packed_file_that_breaks_off_gives_what_came_before() {
    let mut noise = 1_u64;
    let core: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.to_le_bytes()[7]
    })
    .take(1 << 20)
    .collect();
    for layer in ALL {
        let bytes = packed(layer, &core);
        let cut = &bytes[..bytes.len() * 2 / 3];
        let input = open_stream(cut, &Options::default()).unwrap();
        let got = contents(&input);
        assert!(!got.is_empty() && core.starts_with(&got), "{layer:?}: {}", got.len());
        assert_eq!(input.doubts.len(), 1, "{layer:?}");
        assert!(input.doubts[0].why.contains("breaks off"), "{}", input.doubts[0].why);
    }
}

#[test]
fn zeros_become_holes_and_limits_hold() {
    use std::os::unix::fs::MetadataExt;
    let input = open_stream(std::io::repeat(0).take(64 << 20), &Options::default()).unwrap();
    assert_eq!(input.source.len(), 64 << 20);
    assert!(input.source.file().metadata().unwrap().blocks() < 64);
    let options = Options { spool_limit: Some(1 << 20), ..Options::default() };
    let input = open_stream(std::io::repeat(1).take(64 << 20), &options).unwrap();
    assert!(input.source.len() <= 4 << 20);
    assert!(input.doubts[0].why.contains("limit"));
}

#[test]
fn a_full_disk_says_what_to_do() {
    // A file system of one page stands for a full disk; mounting one needs root.
    let folder = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "none"])
        .arg(folder.path())
        .status()
        .is_ok_and(|s| s.success());
    if !mounted {
        eprintln!("skipped: a small file system cannot be mounted here");
        return;
    }
    let options = Options { spool_folder: Some(folder.path().into()), ..Options::default() };
    let result = open_stream(std::io::repeat(1).take(8 << 20), &options);
    let unmounted = std::process::Command::new("umount").arg(folder.path()).status();
    assert!(unmounted.unwrap().success());
    let said = result.unwrap_err().to_string();
    assert!(said.contains("TMPDIR") && said.contains("disk is full"), "{said}");
}

#[test]
fn content_decides_not_names() {
    let kind = |bytes: &[u8]| open_stream(bytes, &Options::default()).unwrap().kind;
    let core = || testdata::elfcore::CoreBuilder::new(true, false, 62);
    assert_eq!(kind(b""), Kind::Empty);
    assert_eq!(kind(b"hello"), Kind::Unknown);
    assert_eq!(kind(b"MDMP\x93\xa7\0\0"), Kind::Minidump);
    assert_eq!(kind(b"KDUMP   \x06\0\0\0"), Kind::Kdump);
    assert_eq!(kind(b"makedumpfile\0\0\0\0"), Kind::FlattenedDump);
    assert_eq!(kind(b"minidump FreeBSD/amd64\0"), Kind::FreeBsdMinidump);
    assert_eq!(kind(&0xdefe_c8ed_u32.to_le_bytes()), Kind::IllumosDump);
    let mut device = vec![0; 4096];
    device[3584..3603].copy_from_slice(b"FreeBSD Kernel Dump");
    assert_eq!(kind(&device), Kind::FreeBsdDumpDevice);
    assert_eq!(kind(&small().build()), Kind::UserCore);
    assert_eq!(
        kind(&core().note("CORE", 1, &[0; 336]).note("VMCOREINFO", 0, b"OSRELEASE=6").build()),
        Kind::KernelCore
    );
    let mut program = small().build();
    program[16] = 2;
    assert_eq!(kind(&program), Kind::ElfFile);
    let options = Options { magics: vec![Magic { at: 1, bytes: b"snap".to_vec() }], ..Options::default() };
    assert_eq!(open_stream(&b"\x1fsnapshot"[..], &options).unwrap().kind, Kind::Named(0));
}

#[test]
fn kernel_dumps_are_told_from_programs() {
    assert!(Kind::KernelCore.is_kernel_dump() && Kind::IllumosDump.is_kernel_dump());
    assert!(!Kind::UserCore.is_kernel_dump() && !Kind::Minidump.is_kernel_dump());
}

#[test]
fn what_cannot_be_opened_says_why() {
    let said = open(Path::new("/"), &Options::default()).unwrap_err().to_string();
    assert!(said.contains("a directory"), "{said}");
    let said = open(Path::new("/no/such/file"), &Options::default()).unwrap_err().to_string();
    assert!(said.contains("cannot open it"), "{said}");
    let junk = [&[0x1f, 0x8b, 8][..], &[0xff; 100]].concat();
    let said = open_stream(&*junk, &Options::default()).unwrap_err().to_string();
    assert!(said.contains("unpack"), "{said}");
}

#[test]
fn pipes_named_by_a_path_are_spooled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let core = small().build();
    let (for_writer, copy) = (path.clone(), core.clone());
    let writer = std::thread::spawn(move || std::fs::write(for_writer, copy));
    let input = open(&path, &Options::default()).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(input.source.len(), core.len().to_u64());
    assert!(contents(&input) == core);
}

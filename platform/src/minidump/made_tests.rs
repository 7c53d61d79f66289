//! Made minidumps of forms that no shared one has: the other byte order, lists that repeat and overlap each other, files
//! that end anywhere.

use super::*;
use evidence::{Addr, Arch};

const STACK: u64 = 0x7fff_0000;
const CODE: u64 = 0x40_0000;

/// Writes numbers in one byte order.
struct Made {
    big: bool,
    bytes: Vec<u8>,
    directory: Vec<[u32; 3]>,
}

impl Made {
    fn new(big: bool) -> Self {
        Self { big, bytes: vec![0; 32 + 12 * 16], directory: Vec::new() }
    }
    fn order<const N: usize>(&self, mut le: [u8; N]) -> [u8; N] {
        if self.big {
            le.reverse();
        }
        le
    }
    fn words(&self, list: &[u32]) -> Vec<u8> {
        list.iter().flat_map(|w| self.order(w.to_le_bytes())).collect()
    }
    fn wide(&self, value: u64) -> [u8; 8] {
        self.order(value.to_le_bytes())
    }
    fn blob(&mut self, bytes: &[u8]) -> [u32; 2] {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        [u32::try_from(bytes.len()).unwrap(), u32::try_from(at).unwrap()]
    }
    fn stream(&mut self, kind: u32, bytes: &[u8]) {
        let [size, at] = self.blob(bytes);
        self.directory.push([kind, size, at]);
    }
    fn text(&mut self, text: &str) -> u32 {
        let units: Vec<u8> = text.encode_utf16().flat_map(|u| self.order(u.to_le_bytes())).collect();
        let length = u32::try_from(units.len()).unwrap();
        let bytes = [self.words(&[length]), units, vec![0, 0]].concat();
        self.blob(&bytes)[1]
    }
    fn system(&mut self, processor: u16) {
        let mut bytes = vec![0_u8; 56];
        bytes[..2].copy_from_slice(&self.order(processor.to_le_bytes()));
        bytes[20..24].copy_from_slice(&self.words(&[0x8201]));
        self.stream(SYSTEM_INFO, &bytes);
    }
    /// A list of threads of x86-64: (id, its program counter), all with the same stack.
    fn threads(&mut self, list: &[(u32, u64)], stack: [u32; 2]) {
        let mut out = self.words(&[u32::try_from(list.len()).unwrap()]);
        for (id, pc) in list {
            let mut context = vec![0_u8; 1232];
            context[0x30..0x34].copy_from_slice(&self.words(&[0x10_000f]));
            context[0x98..0xa0].copy_from_slice(&self.wide(STACK + 0x10));
            context[0xf8..0x100].copy_from_slice(&self.wide(*pc));
            let place = self.blob(&context);
            out.extend(self.words(&[*id, 0, 0, 0, 0, 0]));
            out.extend(self.wide(STACK));
            out.extend(self.words(&stack));
            out.extend(self.words(&place));
        }
        self.stream(THREAD_LIST, &out);
    }
    fn memory(&mut self, list: &[(u64, &[u8])]) {
        let mut out = self.words(&[u32::try_from(list.len()).unwrap()]);
        for (start, bytes) in list {
            let place = self.blob(bytes);
            out.extend(self.wide(*start));
            out.extend(self.words(&place));
        }
        self.stream(MEMORY_LIST, &out);
    }
    fn memory_64(&mut self, list: &[(u64, &[u8])]) {
        let all: Vec<u8> = list.iter().flat_map(|(_, b)| b.to_vec()).collect();
        let [_, at] = self.blob(&all);
        let mut out = [self.wide(list.len() as u64), self.wide(at.into())].concat();
        for (start, bytes) in list {
            out.extend(self.wide(*start));
            out.extend(self.wide(bytes.len() as u64));
        }
        self.stream(MEMORY_64_LIST, &out);
    }
    fn modules(&mut self, list: &[(u64, u32, &str)]) {
        let mut out = self.words(&[u32::try_from(list.len()).unwrap()]);
        for (base, size, name) in list {
            let name = self.text(name);
            out.extend(self.wide(*base));
            out.extend(self.words(&[*size, 0, 0, name]));
            out.extend([0; 108 - 24]);
        }
        self.stream(MODULE_LIST, &out);
    }
    fn exception(&mut self, thread: u32, code: u32, address: u64) {
        let mut out = self.words(&[thread, 0, code, 1, 0, 0]);
        out.extend(self.wide(address));
        out.extend([0; 168 - 32]);
        self.stream(EXCEPTION, &out);
    }
    fn finish(mut self) -> Vec<u8> {
        let count = u32::try_from(self.directory.len()).unwrap();
        let mut head = self.words(&[0x504d_444d, 0xa793, count, 32, 0, 0, 0, 0]);
        head.extend(self.directory.iter().flat_map(|e| self.words(e)));
        self.bytes[..head.len()].copy_from_slice(&head);
        self.bytes
    }
}

fn read(bytes: &[u8]) -> Result<Minidump, Error> {
    let options = Options::default();
    from_input(Input::from_stream_with(bytes, Path::new("made.dmp"), &options)?, &options)
}

fn ordinary(big: bool) -> Vec<u8> {
    let mut made = Made::new(big);
    made.system(9);
    let stack: Vec<u8> = (0..=255).collect();
    let place = made.blob(&stack);
    made.threads(&[(7, CODE + 0x123), (8, CODE + 0x456)], place);
    made.memory(&[(0x9000, &[1, 2, 3, 4])]);
    made.modules(&[(CODE, 0x1000, "/bin/größe")]);
    made.exception(7, 11, 0x18);
    made.finish()
}

/// What `PMDM` files hold: every number, and the text, in the other order.
#[test]
fn both_byte_orders_say_the_same() {
    let (little, big) = (read(&ordinary(false)).unwrap(), read(&ordinary(true)).unwrap());
    assert!(big.identity.big_endian && !little.identity.big_endian);
    for dump in [&little, &big] {
        assert_eq!((dump.identity.os, dump.identity.arch), (Os::Linux, Arch::X86_64));
        let threads: Vec<_> = dump.threads.iter().map(|t| (t.id.0, t.registers.pc(), t.registers.sp())).collect();
        let sp = Some(Addr(STACK + 0x10));
        assert_eq!(threads, [(7, Some(Addr(CODE + 0x123)), sp), (8, Some(Addr(CODE + 0x456)), sp)]);
        assert_eq!(dump.images[0].path.as_deref(), Some("/bin/größe"));
        assert_eq!(dump.images[0].base, Addr(CODE));
        let event = dump.event.as_ref().unwrap();
        assert_eq!((event.thread, event.signal.as_ref().unwrap().address), (Some(ThreadId(7)), Some(Addr(0x18))));
        let mut bytes = [0; 4];
        assert_eq!(dump.memory.read(Addr(0x9000), &mut bytes), (4, None));
        assert_eq!(bytes, [1, 2, 3, 4]);
        assert_eq!(dump.memory.read(Addr(STACK + 0x80), &mut bytes), (4, None));
        assert_eq!(bytes, [0x80, 0x81, 0x82, 0x83]);
        assert!(dump.gaps.doubts.is_empty(), "{:?}", dump.gaps.doubts);
    }
}

/// Two lists of threads and of memory, which overlap; the same modules twice; both kinds of memory lists.
#[test]
fn lists_that_repeat_and_overlap_are_united() {
    let mut made = Made::new(false);
    made.system(9);
    let place = made.blob(&[0xaa; 0x100]);
    made.threads(&[(7, CODE), (8, CODE + 1)], place);
    made.threads(&[(8, CODE + 0x99), (9, CODE + 2)], place);
    made.memory(&[(0x1000, &[1; 0x100]), (0x1080, &[2; 0x100])]);
    made.memory(&[(0x1000, &[3; 0x40])]);
    made.memory_64(&[(0x1100, &[4; 0x200]), (0x5000, &[5; 0x10])]);
    made.modules(&[(CODE, 0x1000, "/bin/a"), (CODE, 0x1000, "/bin/a"), (CODE + 0x800, 0x1000, "/lib/b")]);
    made.exception(9, 11, 0x18);
    made.exception(7, 6, 0);
    let dump = read(&made.finish()).unwrap();
    let threads: Vec<_> = dump.threads.iter().map(|t| (t.id.0, t.registers.pc().unwrap().0 - CODE)).collect();
    assert_eq!(threads, [(7, 0), (8, 1), (9, 2)], "each number counts once, the first time");
    let extents = dump.memory.extents();
    assert!(extents.windows(2).all(|w| w[0].range.end <= w[1].range.start), "{extents:?}");
    let byte = |at: u64| {
        let mut byte = [0];
        (dump.memory.read(Addr(at), &mut byte).0 == 1).then_some(byte[0])
    };
    assert_eq!(
        [byte(0x1000), byte(0x107f), byte(0x12ff), byte(0x1300), byte(0x500f)].map(|b| b.is_some()),
        [true, true, true, false, true]
    );
    assert_eq!(byte(0x5000), Some(5));
    assert_eq!(byte(0x12ff), Some(4));
    assert_eq!(dump.event.as_ref().and_then(|e| e.thread), Some(ThreadId(9)), "the first exception counts");
}

/// Cut at every byte: header and directory make a minidump, whatever else is missing; nothing is made up.
#[test]
fn a_file_may_end_anywhere() {
    let whole = ordinary(false);
    let full = read(&whole).unwrap();
    for length in 0..whole.len() {
        let Ok(dump) = read(&whole[..length]) else {
            assert!(length < 32, "rejected with {length} bytes");
            continue;
        };
        for thread in &dump.threads {
            let original = full.threads.iter().find(|t| t.id == thread.id).expect("a thread that was there");
            let pc = thread.registers.pc();
            assert!(pc.is_none() || pc == original.registers.pc(), "{length}");
        }
        for image in &dump.images {
            assert_eq!(image.base, Addr(CODE), "{length}");
            assert!(
                image.path.as_deref().is_none_or(|p| "/bin/größe".starts_with(p.trim_end_matches('\u{fffd}'))),
                "{length}: {image:?}"
            );
        }
        let mut bytes = [0; 4];
        let (got, why) = dump.memory.read(Addr(0x9000), &mut bytes);
        assert_eq!(bytes[..got], [1, 2, 3, 4][..got], "{length}");
        assert!(got == 4 || why.is_some());
        assert!(!dump.gaps.doubts.is_empty(), "{length}: that it is cut is said");
    }
}

/// Crashpad's mask: on macOS the bits that are no address, by its description those that are; anything else is none.
#[test]
fn masks_of_addresses() {
    let bits_47 = 0x7fff_ffff_ffff_u64;
    for (stated, expected) in
        [(0, None), (bits_47, Some(bits_47)), (!bits_47, Some(bits_47)), (0x00ff_00ff_ffff, None), (u64::MAX, None)]
    {
        let mut made = Made::new(false);
        made.system(12);
        let mut info = vec![0_u8; 64];
        info[0] = 1;
        info[56..].copy_from_slice(&made.wide(stated));
        made.stream(CRASHPAD_INFO, &info);
        assert_eq!(read(&made.finish()).unwrap().identity.address_mask, expected, "{stated:#x}");
    }
}

/// Many entries that point at one long record, and many streams with the same bytes, are read as far as honest files go.
#[test]
fn what_is_shared_is_not_read_for_ever() {
    let mut made = Made::new(false);
    made.system(9);
    let name = made.text("x");
    let record = made.blob(&[0; 64 << 10]);
    let count = 2000;
    let mut list = made.words(&[count]);
    for n in 0..count {
        list.extend(made.wide(CODE + u64::from(n) * 0x1000));
        list.extend(made.words(&[0x1000, 0, 0, name]));
        list.extend([0; 76 - 24]);
        list.extend(made.words(&record));
        list.extend([0; 108 - 84]);
    }
    made.stream(MODULE_LIST, &list);
    let dump = read(&made.finish()).unwrap();
    let named = dump.images().iter().filter(|i| i.path.is_some()).count();
    let most = usize::try_from(reader::LIMIT_TEXTS).unwrap() / (64 << 10);
    assert_eq!((dump.images().len(), named), (2000, most));
    assert!(dump.gaps.doubts.iter().any(|d| d.why.contains("strings")), "{:?}", dump.gaps.doubts);

    let mut made = Made::new(false);
    made.system(9);
    made.stream(MODULE_LIST, &list);
    let again = *made.directory.last().unwrap();
    made.directory.extend([again; 14]);
    let dump = read(&made.finish()).unwrap();
    assert_eq!(dump.images().len(), 2000);
    assert!(dump.gaps.doubts.iter().any(|d| d.why.contains("11 of them are left out")), "{:?}", dump.gaps.doubts);
}

//! What a Linux kernel carries of itself: symbols and types made by the test, and damaged ones.

use debuginfo::kernel::{Btf, Kallsyms, Places};
use debuginfo::layout::{Layouts, Member, Shape};
use evidence::Addr;
use evidence::bytes::Endian;
use evidence::testing::FakeMemory;
use std::sync::Arc;

const TEXT: u64 = 0xffff_ffff_8100_0000;
const DATA: u64 = 0xffff_ffff_8200_0000;

fn places() -> Places {
    Places {
        count: Addr(DATA),
        names: Addr(DATA + 0x10),
        token_table: Addr(DATA + 0x1000),
        token_index: Addr(DATA + 0x2000),
        offsets: Some(Addr(DATA + 0x3000)),
        relative_base: Some(Addr(DATA + 0x4000)),
        addresses: None,
    }
}

/// A table in which every token is one character, but for one that is a word.
fn kallsyms(symbols: &[(&str, Vec<u8>)], base: u64, width: usize) -> FakeMemory {
    let (mut tokens, mut index) = (Vec::new(), Vec::new());
    for n in 0..=255_u8 {
        index.extend(u16::try_from(tokens.len()).unwrap().to_le_bytes());
        if n == 1 {
            tokens.extend(b"system_");
        } else if n > 0 {
            tokens.push(n & 0x7f);
        }
        tokens.push(0);
    }
    let (mut names, mut numbers) = (Vec::new(), Vec::new());
    for (name, number) in symbols {
        let codes: Vec<u8> = name.replace("system_", "\u{1}").into_bytes();
        if codes.len() < 0x80 {
            names.push(u8::try_from(codes.len()).unwrap());
        } else {
            names.push(u8::try_from(codes.len() & 0x7f).unwrap() | 0x80);
            names.push(u8::try_from(codes.len() >> 7).unwrap());
        }
        names.extend(codes);
        assert_eq!(number.len(), width);
        numbers.extend(number);
    }
    FakeMemory::new()
        .with(Addr(DATA), u32::try_from(symbols.len()).unwrap().to_le_bytes().to_vec())
        .with(Addr(DATA + 0x10), names)
        .with(Addr(DATA + 0x1000), tokens)
        .with(Addr(DATA + 0x2000), index)
        .with(Addr(DATA + 0x3000), numbers)
        .with(Addr(DATA + 0x4000), base.to_le_bytes().to_vec())
}

fn number(n: i64) -> Vec<u8> {
    i32::try_from(n).unwrap().to_le_bytes().to_vec()
}

#[track_caller]
fn check(memory: &FakeMemory, places: &Places) -> Kallsyms {
    let known = [("_stext", TEXT), ("not there", 1)];
    let table = Kallsyms::read(memory, Endian::Little, places, &known).unwrap();
    assert_eq!(table.by_name("_stext"), Some(TEXT));
    assert_eq!(table.by_name("system_state"), Some(TEXT + 0x500));
    assert_eq!(table.by_name("nothing"), None);
    table
}

#[test]
fn every_rule_for_addresses() {
    let long = format!("t{}", "x".repeat(200));
    let with = |numbers: [Vec<u8>; 3], base, width| {
        let [a, b, c] = numbers;
        kallsyms(&[("T_stext", a), (&long, b), ("Dsystem_state", c)], base, width)
    };
    // Variables of CPUs are numbers from 0 on; the rest counts backwards from the base.
    let old = with([number(-1), number(0x40), number(-0x501)], TEXT, 4);
    let table = check(&old, &places());
    assert_eq!(table.by_name(&long[1..]), Some(0x40));
    let newer = with([number(0), number(0x100), number(0x500)], TEXT, 4);
    assert_eq!(check(&newer, &places()).by_name(&long[1..]), Some(TEXT + 0x100));
    let here = i64::try_from(DATA + 0x3000 - TEXT).unwrap();
    let newest = with([number(-here), number(0x100 - here - 4), number(0x500 - here - 8)], 0, 4);
    check(&newest, &Places { relative_base: None, ..places() });
    let words = [TEXT, TEXT + 8, TEXT + 0x500].map(|n: u64| n.to_le_bytes().to_vec());
    let absolute = Places { offsets: None, relative_base: None, addresses: Some(Addr(DATA + 0x3000)), ..places() };
    check(&with(words, 0, 8), &absolute);
}

#[test]
fn a_table_that_contradicts_what_is_known_is_refused() {
    let memory = kallsyms(&[("T_stext", number(0x10)), ("Dsystem_state", number(0x500))], TEXT, 4);
    let read = |known: &[(&str, u64)]| Kallsyms::read(&memory, Endian::Little, &places(), known);
    assert!(read(&[("_stext", TEXT)]).unwrap_err().contains("_stext"));
    assert!(read(&[]).is_err());
    let none = Places { names: Addr(0x1000), ..places() };
    assert!(Kallsyms::read(&memory, Endian::Little, &none, &[("_stext", TEXT)]).is_err());
}

#[test]
fn aliases_and_inner_labels() {
    let symbols = [
        ("T_stext", number(0)),
        ("t__do_sys_pause", number(0x10)),
        ("T__x64_sys_pause", number(0x10)),
        ("Tentry_SYSCALL_64", number(0x100)),
        ("Tentry_SYSCALL_64_after_hwframe", number(0x160)),
        ("T_etext", number(0x200)),
        ("Dsystem_state", number(0x500)),
    ];
    let table = check(&kallsyms(&symbols, TEXT, 4), &places());
    let text = TEXT..TEXT + 0x200;
    let image = debuginfo::images::Image {
        symbols: Some(table.table(&(TEXT..TEXT + 0x1000), &text, 0)),
        ..debuginfo::images::Image::at("vmlinux", Addr(TEXT), 0x1000)
    };
    let modules = debuginfo::Modules::of_images(vec![image], &[], &debuginfo::Locator::default());
    let doubts = evidence::Doubts::new();
    let info = debuginfo::DebugInfo::new(&modules, &doubts);
    let symbols = info.symbols(0).unwrap();
    let name = |at: u64| symbols.at(evidence::Svma(at)).map(|s| s.name.into_owned());
    assert_eq!(name(TEXT + 0x18).as_deref(), Some("__do_sys_pause"));
    assert_eq!(name(TEXT + 0x170).as_deref(), Some("entry_SYSCALL_64"));
    assert_eq!(symbols.by_name("__x64_sys_pause").map(|s| s.start.0), Some(TEXT + 0x10));
    assert_eq!(name(TEXT + 0x500), None);
}

/// Builds BTF: strings and types.
#[derive(Default)]
struct Builder {
    strings: Vec<u8>,
    types: Vec<u8>,
    before: u32,
}

impl Builder {
    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if self.strings.is_empty() && self.before == 0 {
            self.strings.push(0);
        }
        let at = self.before + u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(text.bytes());
        self.strings.push(0);
        at
    }

    fn add(&mut self, name: &str, kind: u32, count: u32, flag: bool, size: u32, rest: &[u32]) {
        let name = self.string(name);
        for word in [name, kind << 24 | count | u32::from(flag) << 31, size].iter().chain(rest) {
            self.types.extend(word.to_le_bytes());
        }
    }

    fn members(&mut self, name: &str, kind: u32, flag: bool, size: u32, members: &[(&str, u32, u32)]) {
        let rest: Vec<u32> = members.iter().flat_map(|(n, ty, at)| [self.string(n), *ty, *at]).collect();
        self.add(name, kind, u32::try_from(members.len()).unwrap(), flag, size, &rest);
    }

    fn finish(&self) -> Vec<u8> {
        let (types, strings) = (u32::try_from(self.types.len()).unwrap(), u32::try_from(self.strings.len()).unwrap());
        let mut data = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, strings] {
            data.extend(word.to_le_bytes());
        }
        data.extend(&self.types);
        data.extend(&self.strings);
        data
    }
}

/// 1 int, 2 unsigned long, 3 pointer to 7, 4 int[3], 5 anonymous union of 3 and 4, 6 typedef of 1, 7 struct task,
/// 8 enum, 9 enum64, 10 const 7.
fn kernel() -> Builder {
    let mut b = Builder::default();
    b.add("int", 1, 0, false, 4, &[1 << 24 | 32]);
    b.add("unsigned long", 1, 0, false, 8, &[64]);
    b.add("", 2, 0, false, 7, &[]);
    b.add("", 3, 0, false, 0, &[1, 2, 3]);
    b.members("", 5, false, 16, &[("parent", 3, 0), ("numbers", 4, 0)]);
    b.add("pid_t", 8, 0, false, 1, &[]);
    b.members("task", 4, true, 40, &[("pid", 6, 0), ("", 5, 64), ("flag", 2, 3 << 24 | 197), ("last", 2, 256)]);
    let (a, c) = (b.string("ONE"), b.string("MINUS"));
    b.add("signs", 6, 2, true, 4, &[a, 1, c, u32::MAX]);
    let big = b.string("BIG");
    b.add("bigs", 19, 1, false, 8, &[big, 5, 1]);
    b.add("", 10, 0, false, 7, &[]);
    b
}

#[test]
fn members_of_structures_by_path() {
    let btf = Btf::parse(kernel().finish(), None).unwrap();
    let integer = |signed| Shape::Integer { signed };
    let member = |offset, size, bits, shape, name: Option<&str>| {
        Some(Member { offset, size, bits, shape, type_name: name.map(Into::into) })
    };
    assert_eq!(btf.member("task", "pid"), member(0, 4, None, integer(true), Some("int")));
    assert_eq!(btf.member("task", "parent"), member(8, 8, None, Shape::Pointer, Some("task")));
    let array = Shape::Array { count: 3, element: 4 };
    assert_eq!(btf.member("task", "numbers"), member(8, 12, None, array, Some("int")));
    assert_eq!(btf.member("task", "numbers[2]"), member(16, 4, None, integer(true), Some("int")));
    assert_eq!(btf.member("task", "numbers[3]"), None);
    assert_eq!(btf.member("task", "flag"), member(24, 1, Some((5, 3)), integer(false), Some("unsigned long")));
    assert_eq!(btf.member("task", "pid.x"), None);
    assert_eq!(btf.member("task", ""), None);
    assert_eq!((btf.size_of("task"), btf.size_of("pid_t"), btf.size_of("none")), (Some(40), Some(4), None));
    let numbers = ["ONE", "MINUS", "BIG", "TWO"].map(|n| btf.enumerator(n));
    assert_eq!(numbers, [Some(1), Some(-1), Some(1 << 32 | 5), None]);
}

/// A module's types go on where its kernel's end.
#[test]
fn split_types() {
    let (base, last) = (kernel(), 10);
    let mut module = Builder { before: u32::try_from(base.strings.len()).unwrap(), ..Builder::default() };
    module.members("mine", 4, false, 48, &[("task", 7, 0), ("next", last + 2, 320)]);
    module.add("", 2, 0, false, last + 1, &[]);
    let base = Arc::new(Btf::parse(base.finish(), None).unwrap());
    let btf = Btf::parse(module.finish(), Some(base)).unwrap();
    assert_eq!(btf.len(), 12);
    assert_eq!(btf.member("mine", "task.parent").map(|m| m.offset), Some(8));
    assert_eq!(btf.member("mine", "next").and_then(|m| m.type_name).as_deref(), Some("mine"));
    assert_eq!(btf.member("task", "last").map(|m| m.offset), Some(32));
    assert_eq!(btf.enumerator("MINUS"), Some(-1));
}

#[test]
fn structures_that_hold_themselves_end() {
    let mut b = Builder::default();
    b.members("", 4, false, 8, &[("", 1, 0), ("", 1, 0), ("", 1, 0)]);
    b.members("outer", 4, false, 8, &[("", 1, 0), ("", 2, 0)]);
    b.add("loop", 8, 0, false, 3, &[]);
    b.add("", 3, 0, false, 0, &[4, 4, 2]);
    b.members("array", 4, false, 8, &[("endless", 4, 0)]);
    let btf = Btf::parse(b.finish(), None).unwrap();
    assert_eq!(btf.member("outer", "x"), None);
    assert_eq!(btf.size_of("loop"), None);
    assert_eq!(btf.member("array", "endless[1]"), None);
}

#[test]
fn damaged_types_are_refused_or_read() {
    let whole = kernel().finish();
    for end in 0..whole.len() {
        assert!(Btf::parse(whole[..end].to_vec(), None).is_err(), "cut off at {end}");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff, whole[at] ^ 0x80] {
            let mut data = whole.clone();
            data[at] = value;
            let Ok(btf) = Btf::parse(data, None) else { continue };
            for path in ["pid", "parent", "numbers[1]", "flag", "last"] {
                let _ = btf.member("task", path);
            }
            let _ = (btf.size_of("task"), btf.enumerator("BIG"));
        }
    }
}

//! Symbol files written here, whole ones and damaged ones.

use super::*;
use evidence::bytes::Endian;
use evidence::testing::FakeMemory;
use evidence::{Addr, Arch, Register, Registers};

fn file(text: &str) -> SymFile {
    SymFile::from_bytes(Path::new("test.sym"), text.as_bytes().to_vec()).expect("a symbol file")
}

fn show(frames: &[SourceFrame]) -> Vec<String> {
    let text = |f: &SourceFrame| {
        let name = f.function.as_deref().unwrap_or("?");
        let place = f.file.as_deref().zip(f.line).map_or(String::new(), |(file, line)| format!(" {file}:{line}"));
        format!("{name}{place}{}", if f.inline { " [inlined]" } else { "" })
    };
    frames.iter().map(text).collect()
}

const NEW: &str = "MODULE Linux x86_64 BBA6FA10B8AAB33D00000000000000000 a name\r\n\
INFO CODE_ID 10FAA6BBAAB83DB3\r\n\
FILE 0 main.cc\nFILE 7 dir with blanks/b.cc\n\
INLINE_ORIGIN 0 bar(int, int)\nINLINE_ORIGIN 3 12 monkeys\n\
FUNC 100 40 0 main\n\
INLINE 0 5 0 0 110 10 130 8\n\
INLINE 1 66 7 3 112 4\n\
100 10 4 0\n110 10 9 7\n120 10 0 0\n130 10 12 0\n\
FUNC m 140 10 8 _ZN2ns1fEi\n\
140 8 1 0\n\
PUBLIC 90 0 early\nPUBLIC 160 4 late\nPUBLIC m 180 0 later\n";

#[test]
fn functions_lines_and_inlined_calls() {
    let sym = file(NEW);
    assert_eq!((sym.os(), sym.arch(), sym.name()), ("Linux", "x86_64", "a name"));
    assert_eq!(sym.id(), "BBA6FA10B8AAB33D00000000000000000");
    assert_eq!(sym.info("CODE_ID"), Some("10FAA6BBAAB83DB3"));
    let check = |at, expected: &[&str]| assert_eq!(show(&sym.resolve(at, 0)), expected, "{at:#x}");
    check(0x8f, &[]);
    check(0x90, &["early"]);
    check(0x100, &["main main.cc:4"]);
    check(0x111, &["bar(int, int) dir with blanks/b.cc:9 [inlined]", "main main.cc:5"]);
    check(
        0x112,
        &[
            "monkeys dir with blanks/b.cc:9 [inlined]",
            "bar(int, int) dir with blanks/b.cc:66 [inlined]",
            "main main.cc:5",
        ],
    );
    check(0x120, &["main"]);
    check(0x137, &["bar(int, int) main.cc:12 [inlined]", "main main.cc:5"]);
    check(0x138, &["main main.cc:12"]);
    check(0x140, &["ns::f(int) main.cc:1"]);
    check(0x148, &["ns::f(int)"]);
    check(0x150, &[]);
    check(0x15f, &[]);
    check(0x160, &["late"]);
    check(0x17f, &["late"]);
    check(0xffff, &["later"]);
    let f = sym.resolve(0x141, 0x1000);
    assert_eq!(f.last().and_then(|f| f.function_start), Some(Svma(0x1140)));
    assert_eq!(f.last().and_then(|f| f.linkage_name.as_deref()), Some("_ZN2ns1fEi"));
    let f = sym.function_at(0x141).expect("a function");
    assert_eq!((f.multiple, f.parameters, f.range), (true, 8, 0x140..0x150));
    assert!(sym.doubts().is_empty());
}

#[test]
fn the_older_form_of_inlined_calls_has_no_file() {
    let sym = file(
        "MODULE Linux x86_64 0 a\nFILE 0 a.cc\nINLINE_ORIGIN 0 0 bar()\nINLINE_ORIGIN 1 -1 foo()\n\
         FUNC 10 20 0 main\nINLINE 0 42 1 18 8\nINLINE 1 39 0 1a 2\n10 20 7 0\n",
    );
    assert_eq!(
        show(&sym.resolve(0x1a, 0)),
        ["bar() a.cc:7 [inlined]", "foo() [inlined]", "main"],
        "the line without its file would be a guess"
    );
    assert_eq!(sym.resolve(0x1a, 0).get(1).and_then(|f| f.line), Some(39));
}

#[test]
fn rules_are_the_first_ones_changed_by_deltas() {
    let sym = file(
        "MODULE Linux x86_64 0 a\nSTACK CFI INIT 100 20 .cfa: $rsp 8 + .ra: .cfa -8 + ^\n\
         STACK CFI 101 .cfa: $rsp 16 +\nSTACK CFI 104 $rbp: .cfa -16 + ^ .cfa: $rbp 16 +\n\
         STACK CFI INIT 120 10 .cfa: $rsp 8 + .ra: .undef\n",
    );
    let cfa = |at| sym.cfi_at(at).and_then(|r| r.rule(".cfa").map(str::to_owned));
    assert_eq!(cfa(0xff), None);
    assert_eq!(cfa(0x100).as_deref(), Some("$rsp 8 +"));
    assert_eq!(cfa(0x103).as_deref(), Some("$rsp 16 +"));
    assert_eq!(cfa(0x11f).as_deref(), Some("$rbp 16 +"));
    assert_eq!(cfa(0x130), None);

    let mut registers = Registers::new(Arch::X86_64);
    registers.set(Register(7), 0x7000);
    registers.set(Register(6), 0x7010);
    let mut stack = vec![0_u8; 0x20];
    stack.extend_from_slice(&[0; 0x20]);
    for (at, value) in [(0x10, 0x7ff0_u64), (0x18, 0x40_1234)] {
        stack[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let memory = FakeMemory::new().with(Addr(0x7000), stack);
    let caller = sym.cfi_at(0x110).expect("rules").evaluate(&registers, &memory, Endian::Little).expect("a caller");
    assert_eq!((caller.cfa, caller.return_address), (Addr(0x7020), Some(Addr(0x40_1234))));
    assert_eq!(caller.registers, [(Register(6), Ok(0x7ff0))]);
    let end = sym.cfi_at(0x128).expect("rules").evaluate(&registers, &memory, Endian::Little).expect("the end");
    assert_eq!(end.return_address, None);
}

#[test]
fn windows_frames() {
    let sym = file(
        "MODULE windows x86 0 a.pdb\n\
         STACK WIN 4 41b0 86 13 0 8 0 e0 0 1 $T0 $ebp = $eip $T0 4 + ^ = $ebp $T0 ^ = $esp $T0 8 + = $nope ^ = \n\
         STACK WIN 0 41b0 86 3 0 0 0 0 0 0 0\nSTACK WIN 0 5000 10 0 0 4 c 8 0 0 1\n",
    );
    let frame = sym.stack_win_at(0x41c0).expect("a record");
    assert_eq!((frame.kind, frame.parameters, frame.locals), (WinKind::FrameData, 8, 0xe0));
    let mut registers = Registers::new(Arch::X86);
    registers.set(Register(5), 0x7000);
    registers.set(Register(4), 0x6f00);
    let mut stack = vec![0_u8; 0x200];
    for (at, value) in [(0x100, 0x7100_u32), (0x104, 0x40_1234), (4, 0x99), (0x14, 0x40_5678)] {
        stack[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let memory = FakeMemory::new().with(Addr(0x6f00), stack);
    let caller = frame.evaluate(&registers, 0, 0, &memory).expect("a caller");
    assert_eq!((caller.cfa, caller.return_address), (Addr(0x7008), Some(Addr(0x40_1234))));
    assert_eq!(caller.registers, [(Register(5), Ok(0x7100))]);

    let frame = sym.stack_win_at(0x5001).expect("a record");
    assert!(frame.allocates_base_pointer && frame.program.is_none());
    let start = frame.return_address_expected_at(0x6f00, 0);
    let caller = frame.evaluate(&registers, 0, start, &memory).expect("a caller");
    assert_eq!((caller.cfa, caller.return_address), (Addr(0x6f18), Some(Addr(0x40_5678))));
    assert_eq!(caller.registers, [(Register(5), Ok(0x99))]);
    assert_eq!(sym.stack_win_at(0x6000), None);
}

#[test]
fn what_is_no_symbol_file_is_refused() {
    for text in ["", "MODULE\n", "MODULE Linux x86_64\n", "\x7fELF", "FUNC 1 2 3 f\n"] {
        let result = SymFile::from_bytes(Path::new("x.sym"), text.as_bytes().to_vec());
        assert!(matches!(result, Err(Error::Format { .. })), "{text:?}");
    }
}

#[test]
fn damage_of_every_kind_is_survived() {
    let whole = NEW.to_owned()
        + "STACK CFI INIT 100 20 .cfa: $rsp 8 + .ra: .cfa -8 + ^\nSTACK CFI 101 .cfa: $rsp 16 +\n\
           STACK WIN 4 41b0 86 13 0 8 0 e0 0 1 $T0 $ebp =\n";
    let ask = |bytes: Vec<u8>| {
        let Ok(sym) = SymFile::from_bytes(Path::new("x.sym"), bytes.clone()) else { return };
        let by_order = Effort { whole: 0, part: 0, samples: u64::MAX, apart: 1, rounds: u64::MAX };
        let other = SymFile::from_bytes(Path::new("x.sym"), bytes).expect("as before").with_effort(by_order);
        for at in [0, 0x90, 0x100, 0x112, 0x140, 0x160, 0x41b1, u64::MAX] {
            let (frames, rules) = (sym.resolve(at, u64::MAX), sym.cfi_at(at));
            assert!(frames.len() <= 8 && rules.as_ref().is_none_or(|r| r.rules.len() <= 8));
            assert!(sym.stack_win_at(at).is_none_or(|w| w.range.contains(&at)));
            assert_eq!((frames, rules), (other.resolve(at, u64::MAX), other.cfi_at(at)));
            assert_eq!(sym.stack_win_at(at), other.stack_win_at(at));
        }
    };
    let bytes = whole.as_bytes();
    for at in 0..bytes.len() {
        ask(bytes[..at].to_vec());
        for with in [b' ', b'\n', b'f', b'-', 0xff, 0] {
            let mut damaged = bytes.to_vec();
            damaged[at] = with;
            ask(damaged);
        }
    }
}

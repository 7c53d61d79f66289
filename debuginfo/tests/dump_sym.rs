//! A symbol file written from a program's own debug information says the same as that debug information.

use debuginfo::cfi::{Cfa, Row, Rule};
use debuginfo::dwarf::SourceFrame;
use debuginfo::sym_file::{self, SymFile};
use debuginfo::{DebugInfo, Locator, Modules, Slice};
use evidence::bytes::Endian;
use evidence::{Absent, Addr, Arch, Doubts, Extent, Memory, Register, Registers, Svma};
use std::path::Path;
use testdata::victims;

/// A memory whose words are functions of their addresses.
struct Scrambled;

impl Scrambled {
    const fn byte(at: u64) -> u8 {
        (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8
    }
}

impl Memory for Scrambled {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        for (n, byte) in into.iter_mut().enumerate() {
            *byte = Self::byte(at.0.wrapping_add(n as u64));
        }
        (into.len(), None)
    }

    fn extents(&self) -> &[Extent] {
        &[]
    }
}

/// A DWARF expression by gimli's own evaluator.
fn evaluate(code: Slice<'_>, row: &Row<'_>, first: Option<u64>, registers: &Registers) -> u64 {
    let mut evaluation = gimli::Expression(code).evaluation(row.encoding);
    if let Some(first) = first {
        evaluation.set_initial_value(first);
    }
    let memory: &dyn Memory = &Scrambled;
    let mut result = evaluation.evaluate().unwrap();
    loop {
        result = match result {
            gimli::EvaluationResult::Complete => break,
            gimli::EvaluationResult::RequiresRegister { register, .. } => {
                let value = registers.get(Register(register.0)).unwrap();
                evaluation.resume_with_register(gimli::Value::Generic(value)).unwrap()
            }
            gimli::EvaluationResult::RequiresMemory { address, .. } => {
                let size = row.encoding.address_size;
                let value = memory.read_pointer(Addr(address), size, Endian::Little).unwrap();
                evaluation.resume_with_memory(gimli::Value::Generic(value)).unwrap()
            }
            other => panic!("{other:?}"),
        };
    }
    match evaluation.result()[0].location {
        gimli::Location::Address { address } => address,
        ref other => panic!("{other:?}"),
    }
}

/// What a row says a register of the caller is; `None`: it cannot be recovered.
fn by_row(row: &Row<'_>, register: Register, cfa: u64, registers: &Registers) -> Option<u64> {
    let memory: &dyn Memory = &Scrambled;
    let word = registers.arch.pointer_size();
    let wrap = |n: u64| if word == 4 { n & 0xffff_ffff } else { n };
    let read = |at: u64| memory.read_pointer(Addr(wrap(at)), word, Endian::Little).unwrap();
    Some(match row.rule(register)? {
        Rule::Undefined => return None,
        Rule::SameValue => registers.get(register)?,
        Rule::Offset(n) => read(cfa.wrapping_add_signed(*n)),
        Rule::ValOffset(n) => wrap(cfa.wrapping_add_signed(*n)),
        Rule::Register(other) => registers.get(*other)?,
        Rule::Expression(code) => read(evaluate(*code, row, Some(cfa), registers)),
        Rule::ValExpression(code) => evaluate(*code, row, Some(cfa), registers),
        Rule::Constant(n) => *n,
    })
}

type Shown = (Option<String>, Option<String>, Option<u32>, bool);

fn shown(frames: &[SourceFrame]) -> Vec<Shown> {
    let text = |t: &Option<std::sync::Arc<str>>| t.as_deref().map(str::to_owned);
    let placed = |f: &SourceFrame| f.line.filter(|_| f.file.is_some());
    frames
        .iter()
        .map(|f| (text(&f.function), text(&f.file).filter(|_| f.line.is_some()), placed(f), f.inline))
        .collect()
}

/// Writes the symbol file of a program, and compares what it says; gives how many addresses, inlined calls and rows
/// were compared.
fn check(program: &Path) -> (usize, usize, usize) {
    let modules = Modules::of_file(program, None, None, &Locator::default()).unwrap();
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let mut text = Vec::new();
    let written = sym_file::write(&info, 0, &mut text).unwrap();
    assert_eq!(written.inexpressible, 0, "{program:?}");
    let sym = SymFile::from_bytes(&program.with_extension("sym"), text).unwrap();
    let module = &modules.list()[0];
    assert_eq!(module.base.0 % 4096, 0, "programs begin at a page");

    let (mut compared, mut inlined) = (0, 0);
    for section in module.main().unwrap().sections().iter().filter(|s| s.flags() & 4 != 0) {
        let step = (section.size() / 400).max(1) | 1;
        for at in (section.address().0..section.address().0 + section.size()).step_by(step as usize) {
            let at = Svma(at);
            let (direct, read) = (info.resolve(0, at), sym.resolve(module.to_relative(at), module.base.0));
            // Padding between functions has lines in the DWARF, and no function; the format has no lines without one.
            if direct.last().is_none_or(|f| f.function.is_none()) {
                assert!(read.iter().all(|f| f.line.is_none()), "{program:?} {at}: {read:?}");
                continue;
            }
            assert_eq!(shown(&read), shown(&direct), "{program:?} {at}");
            compared += 1;
            inlined += direct.len() - 1;
        }
    }

    let arch = module.main().unwrap().arch();
    let mut rows = 0;
    info.cfi(0).unwrap().each_row(&mut |row| {
        let mut registers = Registers::new(arch);
        for n in 0..if arch == Arch::X86 { 9 } else { 17 } {
            registers.set(Register(n), 0x0123_4567 + u64::from(n) * 0x0011_1111);
        }
        registers.set(Registers::pc_register(arch), row.range.start.0);
        let rules = sym.cfi_at(module.to_relative(row.range.start)).unwrap();
        let found = rules.evaluate(&registers, &Scrambled, Endian::Little).unwrap();
        let cfa = match &row.cfa {
            Cfa::Offset(base, n) => registers.get(*base).unwrap().wrapping_add_signed(*n),
            Cfa::Expression(code) => evaluate(*code, &row, None, &registers),
        };
        assert_eq!(found.cfa, Addr(cfa), "{program:?} {row:?} {rules:?}");
        let return_address = by_row(&row, row.return_address, cfa, &registers);
        assert_eq!(found.return_address, return_address.map(Addr), "{program:?} {row:?} {rules:?}");
        for (register, _) in row.rules.iter().filter(|(r, _)| *r != row.return_address) {
            let Some(name) = evidence::register_name(arch, *register) else { continue };
            let value = found.registers.iter().find(|(r, _)| r == register).map(|(_, v)| v.clone().ok());
            assert_eq!(value, Some(by_row(&row, *register, cfa, &registers)), "{program:?} {name} {row:?} {rules:?}");
        }
        // What has a rule here and none in the row has its own value.
        for (register, value) in &found.registers {
            if row.rule(*register).is_none() {
                assert_eq!(value.as_ref().ok(), registers.get(*register).as_ref(), "{program:?} {row:?} {rules:?}");
            }
        }
        rows += 1;
    });
    assert_eq!(sym.doubts(), []);
    (compared, inlined, rows)
}

#[test]
fn every_victim_program_reads_back_as_its_dwarf_says() {
    let mut all = (0, 0, 0);
    for victim in victims::all() {
        // The Rust ones hold the same standard library each: one of them stands for all, unless all are asked for.
        let is_rust = victim.language == victims::Language::Rust;
        if is_rust && victim.name != "rust_panic" && !testdata::fixtures::required("POSTFAULT_ALL_VICTIMS") {
            continue;
        }
        for variant in victim.variants.iter().take(if is_rust { 1 } else { 2 }) {
            match victims::build(victim.name, variant) {
                Ok(program) => {
                    let (compared, inlined, rows) = check(&program);
                    println!("{} {variant}: {compared} addresses, {inlined} inlined calls, {rows} rows", victim.name);
                    assert!(compared > 0 && rows > 0, "{} {variant}", victim.name);
                    all = (all.0 + compared, all.1 + inlined, all.2 + rows);
                }
                Err(victims::VictimError::MissingTool { tool }) => {
                    println!("skipped {} {variant}: no {tool}", victim.name)
                }
                Err(e) => panic!("{} {variant}: {e}", victim.name),
            }
        }
    }
    println!("{} addresses, {} inlined calls, {} rows", all.0, all.1, all.2);
    assert!(all.1 > 1000, "there are inlined calls among them");
}

#[test]
fn many_inlined_calls_and_other_compilers() {
    for (victim, variant) in [
        ("inlines", "gcc-O2"),
        ("inlines", "clang-O2"),
        ("inlines", "split-dwo"),
        ("inlines", "no-pie"),
        ("variables", "m32-O2"),
    ] {
        match victims::build(victim, variant) {
            Ok(program) => assert!(check(&program).1 > 0, "{victim} {variant}"),
            Err(victims::VictimError::MissingTool { tool }) => println!("skipped {victim} {variant}: no {tool}"),
            Err(e) => println!("skipped {victim} {variant}: {e}"),
        }
    }
}

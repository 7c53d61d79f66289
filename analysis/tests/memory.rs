//! Memory faults: each class with its positive cases and its nearest neighbours.

mod common;

use common::*;
use snapshot_format::schema::{Value, VariableKind};

/// `mov [rax+0x28], rcx`
const STORE_28: [u8; 4] = [0x48, 0x89, 0x48, 0x28];
/// `mov rax, [rax]`
const LOAD: [u8; 3] = [0x48, 0x8b, 0x00];
/// `mov rax, [rdi+rcx*8]`
const LOAD_INDEXED: [u8; 4] = [0x48, 0x8b, 0x04, 0xcf];
/// `call rax`
const CALL: [u8; 2] = [0xff, 0xd0];
/// `ret`
const RET: [u8; 1] = [0xc3];
/// `push rbp`
const PUSH: [u8; 1] = [0x55];
/// `movaps [rsp+0x10], xmm0`
const MOVAPS: [u8; 5] = [0x0f, 0x29, 0x44, 0x24, 0x10];
/// `movups [rsp+0x10], xmm0`
const MOVUPS: [u8; 5] = [0x0f, 0x11, 0x44, 0x24, 0x10];
/// `mov eax, fs:[0x0]`-like: `mov rax, fs:[0x28]`
const CANARY: [u8; 9] = [0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0];

#[test]
fn null_and_near_null() {
    check("store through null", Crash::unmapped(0x28).code(&STORE_28).reg("rax", 0), "null-deref");
    check("load through null", Crash::unmapped(0).code(&LOAD).reg("rax", 0), "null-deref");
    check("pointer computed from null", Crash::unmapped(0x18).code(&LOAD).reg("rax", 0x18), "null-deref");
    check("last address of the page", Crash::unmapped(0xfff).code(&LOAD).reg("rax", 0xfff), "null-deref");
    check("first address after it", Crash::unmapped(0x1000).code(&LOAD).reg("rax", 0x1000), "near-null-deref");
    check(
        "far element",
        Crash::unmapped(0x5dc0).code(&LOAD_INDEXED).reg("rdi", 0).reg("rcx", 0xbb8),
        "near-null-deref",
    );
    check("last near address", Crash::unmapped(0xffff).code(&LOAD).reg("rax", 0xffff), "near-null-deref");
    check("first far address", Crash::unmapped(0x1_0000).code(&LOAD).reg("rax", 0x1_0000), "wild-pointer");
    check("index on null", Crash::unmapped(0x50).code(&LOAD_INDEXED).reg("rdi", 0).reg("rcx", 10), "null-deref");
    check(
        "far index on null",
        Crash::unmapped(0x80_0000).code(&LOAD_INDEXED).reg("rdi", 0).reg("rcx", 0x10_0000),
        "null-deref",
    );
    check(
        "index that is an address",
        Crash::unmapped(0x2_0000_0000_0008).code(&LOAD_INDEXED).reg("rdi", 0).reg("rcx", 0x4000_0000_0001),
        "wild-pointer",
    );
    check("no instruction, address 0", Crash::unmapped(0), "null-deref");
    check("no instruction, small address", Crash::unmapped(8), "null-deref");
    check("no instruction, near address", Crash::unmapped(0x2000), "near-null-deref");
    check("no instruction, no code, no address", Crash::unmapped(0).event(|e| (e.code, e.address) = (None, None)), "");
    check(
        "code_name only is not needed",
        Crash::unmapped(0).code(&LOAD).reg("rax", 0).event(|e| e.code = None),
        "null-deref",
    );
    check(
        "page zero is mapped",
        Crash::forbidden(0x28).map(0, 0x1000, "r--p", "/dev/zero").code(&STORE_28).reg("rax", 0),
        "write-readonly",
    );
}

#[test]
fn null_by_operands_alone() {
    // A core without siginfo has neither code nor address.
    let bare = || Crash::unmapped(0).event(|e| (e.code, e.address) = (None, None));
    check("store", bare().code(&STORE_28).reg("rax", 0), "null-deref");
    check("wild", bare().code(&LOAD).reg("rax", 0x1234_5678_9000), "wild-pointer");
    check("nothing refused", bare().code(&LOAD).reg("rax", HEAP), "");
}

#[test]
fn wild_pointers() {
    check("unmapped", Crash::unmapped(0x4141_0000_1000).code(&LOAD).reg("rax", 0x4141_0000_1000), "wild-pointer");
    check("minus one", Crash::unmapped(u64::MAX).code(&LOAD).reg("rax", u64::MAX), "wild-pointer");
    check(
        "reserved memory",
        Crash::forbidden(0x6000_0000_0000)
            .map(0x6000_0000_0000, 0x1000, "---p", "")
            .code(&LOAD)
            .reg("rax", 0x6000_0000_0000),
        "wild-pointer",
    );
    check("no mappings, no code", Crash::unmapped(0x1234_5678).with(|s| s.mappings.clear()), "wild-pointer");
    check("mapped and allowed contradicts", Crash::unmapped(HEAP).code(&LOAD).reg("rax", HEAP), "inconsistent");
    let found = classes(&Crash::unmapped(0x4141_0000_1000).code(&LOAD).reg("rax", HEAP));
    assert_eq!(found, ["wild-pointer", "inconsistent"], "the instruction does not touch the address");
}

#[test]
fn thread_local_accesses_use_the_segment_base() {
    let crash = Crash::unmapped(0x7000_0000_0028).code(&CANARY).reg("fs_base", 0x7000_0000_0000);
    check("canary", crash.clone(), "wild-pointer");
    assert!(!classes(&crash).contains(&"inconsistent".to_owned()));
}

#[test]
fn non_canonical_is_never_null() {
    let wild = 0x4141_4141_4141_4141;
    check("load", Crash::protection().code(&LOAD).reg("rax", wild), "non-canonical");
    check("without bytes", Crash::protection().reg("rax", wild), "non-canonical");
    check("without anything", Crash::protection(), "non-canonical");
    check("operands are good", Crash::protection().code(&LOAD).reg("rax", HEAP), "inconsistent");
    check("stack segment", Crash::new(7, 0x80).at(0).code(&PUSH).reg("rsp", wild), "non-canonical");
    // A handler without room on the stack: the kernel ends the program with a signal of its own.
    check("forced", Crash::protection().code(&LOAD).reg("rax", 0), "null-deref");
    // With five-level paging the address is reported like any other.
    check(
        "57 bits",
        Crash::unmapped(0x00ff_0000_0000_0000).code(&LOAD).reg("rax", 0x00ff_0000_0000_0000),
        "wild-pointer",
    );
}

#[test]
fn other_systems_say_general_protection_differently() {
    let wild = 0x4141_4141_4141_4141;
    let on = |os: &str, signal, code| {
        let os = os.to_owned();
        Crash::new(signal, code).at(CODE).code(&LOAD).reg("rax", wild).with(|s| s.identity.os = os)
    };
    check("freebsd", on("freebsd", 10, 3), "non-canonical");
    check("illumos", on("illumos", 11, 2), "non-canonical");
    check("linux never does", on("linux", 11, 2), "inconsistent");
}

#[test]
fn alignment() {
    check("movaps", Crash::protection().code(&MOVAPS).reg("rsp", SP + 8), "alignment");
    check("movaps, aligned", Crash::protection().code(&MOVAPS), "inconsistent");
    check("movups needs none", Crash::protection().code(&MOVUPS).reg("rsp", SP + 8), "inconsistent");
    check("bus", Crash::new(7, 1).at(HEAP + 1).code(&LOAD).reg("rax", HEAP + 1), "alignment");
    check("bus, alignment check without address", Crash::new(7, 1).at(0).code(&LOAD).reg("rax", HEAP + 1), "alignment");
    check("vmovaps ymm", Crash::protection().code(&[0xc5, 0xfc, 0x29, 0x00]).reg("rax", HEAP + 16), "alignment");
    check("vmovups ymm", Crash::protection().code(&[0xc5, 0xfc, 0x11, 0x00]).reg("rax", HEAP + 16), "inconsistent");
    check(
        "vaddps needs none",
        Crash::protection().code(&[0xc5, 0xfc, 0x58, 0x00]).reg("rax", HEAP + 4),
        "inconsistent",
    );
    check("addps", Crash::protection().code(&[0x0f, 0x58, 0x00]).reg("rax", HEAP + 4), "alignment");
}

#[test]
fn bus_errors() {
    check(
        "past the end of the file",
        Crash::new(7, 2).at(FILE + 0x3000).code(&LOAD).reg("rax", FILE + 0x3000),
        "bus-error",
    );
    check("hardware", Crash::new(7, 4).at(HEAP).code(&LOAD).reg("rax", HEAP), "bus-error");
    check(
        "freebsd",
        Crash::new(10, 3).at(FILE + 8).code(&LOAD).reg("rax", FILE + 8).with(|s| s.identity.os = "freebsd".into()),
        "bus-error",
    );
    check("sent", Crash::new(7, 0).sender(1).code(&LOAD), "requested");
}

#[test]
fn jumps() {
    let call_to = |c: Crash, target: u64| {
        c.reg("rip", target)
            .bytes(SP, &(CODE + 0x105).to_le_bytes())
            .frame_at(target, "")
            .frame("dispatch")
            .frame("main")
    };
    check("null function pointer", call_to(Crash::unmapped(0), 0), "jump-null");
    check("near null", call_to(Crash::unmapped(0x10), 0x10), "jump-null");
    check("first far address", call_to(Crash::unmapped(0x1_0000), 0x1_0000), "wild-jump");
    check("unmapped", call_to(Crash::unmapped(0x1234_5678_9000), 0x1234_5678_9000), "wild-jump");
    check("heap", call_to(Crash::forbidden(HEAP + 16), HEAP + 16), "exec-nonexec");
    check("stack", call_to(Crash::forbidden(SP), SP), "exec-nonexec");
    check(
        "call through a null table is data",
        Crash::unmapped(8).code(&[0xff, 0x50, 0x08]).reg("rax", 0),
        "null-deref",
    );
    check(
        "call to a non-canonical address",
        Crash::protection().code(&CALL).reg("rax", 0x4141_4141_4141_4141),
        "wild-jump",
    );
    check("ret to a non-canonical address", Crash::protection().code(&RET).bytes(SP, &[0x41; 8]), "wild-jump");
    check("ret, stack not kept", Crash::protection().code(&RET), "wild-jump");
    check("call pushes below the stack's end", Crash::protection().code(&CALL).reg("rax", CODE), "inconsistent");
    check(
        "the processor says fetch",
        call_to(Crash::unmapped(0x40), 0x40).event(|e| (e.trap_number, e.error_code) = (Some(14), Some(0x14))),
        "jump-null",
    );
    let returned = Crash::unmapped(0x6161_6161_0000)
        .reg("rip", 0x6161_6161_0000)
        .bytes(SP - 8, &0x6161_6161_0000_u64.to_le_bytes());
    let found = analysis::classify(&returned.0);
    assert_eq!(found[0].0.class, "wild-jump");
    assert!(found[0].0.text.contains("a return went to"), "{}", found[0].0.text);
}

#[test]
fn read_only_memory() {
    check("constant", Crash::forbidden(RODATA + 0x28).code(&STORE_28).reg("rax", RODATA), "write-readonly");
    check("code", Crash::forbidden(CODE + 0x28).code(&STORE_28).reg("rax", CODE), "write-readonly");
    check("no instruction", Crash::forbidden(RODATA), "write-readonly");
    check("a read cannot be refused there", Crash::forbidden(RODATA).code(&LOAD).reg("rax", RODATA), "inconsistent");
    check("the system says unmapped", Crash::unmapped(RODATA + 0x28).code(&STORE_28).reg("rax", RODATA), "");
    check("data may be written", Crash::forbidden(DATA + 0x28).code(&STORE_28).reg("rax", DATA), "inconsistent");
    check(
        "protection is not known",
        Crash::forbidden(RODATA + 0x28)
            .code(&STORE_28)
            .reg("rax", RODATA)
            .with(|s| s.mappings[1].protection = "????".into()),
        "",
    );
}

#[test]
fn stack_overflows() {
    let deep = |c: Crash| {
        let names: Vec<&str> = ["walk", "visit"].into_iter().cycle().take(400).chain(["main"]).collect();
        c.frames(&names)
    };
    check("push below the end", deep(Crash::unmapped(STACK - 8)).code(&PUSH).reg("rsp", STACK), "stack-overflow");
    check(
        "large frame",
        Crash::unmapped(STACK - 0x10_0000).code(&[0x48, 0x83, 0x0c, 0x24, 0]).reg("rsp", STACK - 0x10_0000),
        "stack-overflow",
    );
    check(
        "thread with a guard",
        Crash::forbidden(0x7000_0000_0ff8)
            .map(0x7000_0000_0000, 0x1000, "---p", "")
            .map(0x7000_0000_1000, 0x80_0000, "rw-p", "")
            .code(&PUSH)
            .reg("rsp", 0x7000_0000_1000),
        "stack-overflow",
    );
    check(
        "the stack pointer is in the guard",
        Crash::forbidden(0x7000_0000_0800)
            .map(0x7000_0000_0000, 0x1000, "---p", "")
            .map(0x7000_0000_1000, 0x80_0000, "rw-p", "")
            .code(&PUSH)
            .reg("rsp", 0x7000_0000_0808),
        "stack-overflow",
    );
    check(
        "room is left: a wild pointer just below",
        Crash::unmapped(STACK - 8).code(&LOAD).reg("rax", STACK - 8),
        "wild-pointer",
    );
    check(
        "the stack pointer itself is wild",
        Crash::unmapped(0x1234_5678_8ff8).code(&PUSH).reg("rsp", 0x1234_5678_9000),
        "wild-pointer",
    );
    check("a null stack pointer", Crash::unmapped(u64::MAX - 7).code(&PUSH).reg("rsp", 0), "wild-pointer");
    check(
        "null from a deep stack",
        deep(Crash::unmapped(0)).code(&LOAD).reg("rax", 0).reg("rsp", STACK + 0x100),
        "null-deref",
    );
    check(
        "rust's handler",
        Crash::abort()
            .frames(&[
                "abort",
                "std::sys::pal::unix::abort_internal",
                "std::sys::pal::unix::stack_overflow::imp::signal_handler",
            ])
            .trampoline()
            .frames(&["prog::walk"]),
        "stack-overflow",
    );
    check(
        "the runtime's handler alone",
        Crash::unmapped(0)
            .code(&LOAD)
            .reg("rax", 0)
            .frames(&["std::sys::pal::unix::stack_overflow::imp::signal_handler"]),
        "null-deref",
    );
}

#[test]
fn faults_beneath_a_handler() {
    let handled = Crash::new(6, -6)
        .sender(PID)
        .frame_at(LIBC + 0x100, "raise")
        .frame_at(LIBC + 0x200, "abort")
        .frame("crash_handler(int)")
        .trampoline()
        .frame_at(CODE, "store_weight(Pod*, long)")
        .frame("main");
    let fault = handled.clone().code(&STORE_28).reg_of(4, "rax", 0).reg_of(4, "rip", CODE).reg_of(4, "rsp", SP);
    check("null beneath", fault.clone(), "null-deref");
    assert_eq!(analysis::classify(&fault.0)[0].0.frame, Some(4));
    check("nothing wrong beneath", handled.clone().code(&LOAD).reg_of(4, "rax", HEAP), "abort");
    check("raised again", fault.clone().event(|e| e.signal = Some(11)), "null-deref");
    check("raised again, registers lost", handled.event(|e| e.signal = Some(11)), "requested");
}

#[test]
fn bit_flips_are_the_last_resort() {
    let flipped = HEAP + 0x100 + (1 << 45);
    let near = Crash::unmapped(flipped).code(&LOAD).reg("rax", flipped).reg("rbx", HEAP + 0x120);
    assert_eq!(classes(&near), ["wild-pointer", "bit-flip"]);
    let alone = Crash::unmapped(flipped).code(&LOAD).reg("rax", flipped);
    assert_eq!(classes(&alone), ["wild-pointer"], "one mapped neighbour proves nothing");
    let high = (HEAP + 0x100) | 1 << 55;
    assert_eq!(classes(&Crash::protection().code(&LOAD).reg("rax", high)), ["non-canonical", "bit-flip"]);
    let single = Crash::unmapped(1 << 36).code(&LOAD).reg("rax", 1 << 36);
    assert_eq!(classes(&single), ["wild-pointer", "bit-flip"]);
    assert_eq!(classes(&Crash::unmapped(0x28).code(&STORE_28).reg("rax", 0)), ["null-deref"]);
    for crash in [near, single] {
        let found = analysis::classify(&crash.0);
        assert!(found[1].0.confidence <= 0.3);
    }
}

#[test]
fn faults_in_the_allocator_hint_at_the_heap() {
    let crash = Crash::unmapped(0x4141_0000_1000)
        .code(&LOAD)
        .reg("rax", 0x4141_0000_1000)
        .frame_at(CODE, "_int_free")
        .frame("free")
        .frame("main");
    assert_eq!(classes(&crash), ["wild-pointer", "heap-corruption"]);
}

#[test]
fn the_variable_is_named() {
    let crash = Crash::unmapped(0x28)
        .code(&STORE_28)
        .reg("rax", 0)
        .frame_at(CODE, "store_weight(Pod*, long)")
        .frame("handle(Request&, int)")
        .frame("main")
        .variable(0, VariableKind::Local, "w", "long", Value::Signed(0))
        .variable(1, VariableKind::Parameter, "req", "Request *", Value::Pointer(HEAP))
        .part(1, "*", "Request", Value::None)
        .part(1, "id", "int", Value::Signed(0))
        .part(2, "pod", "Pod *", Value::Pointer(0));
    insta::assert_snapshot!("named_member", report(&crash));
    let two = crash.variable(0, VariableKind::Parameter, "pod", "Pod *", Value::Pointer(0)).variable(
        0,
        VariableKind::Local,
        "next",
        "Pod *",
        Value::Pointer(0),
    );
    insta::assert_snapshot!("two_candidates", report(&two));
}

#[test]
fn i386_addresses_are_32_bits() {
    let crash = |address: u64, code: &[u8]| {
        Crash::unmapped(address)
            .with(|s| s.identity.arch = "x86".into())
            .reg("eip", 0x804_8000)
            .bytes(0x804_8000, code)
            .map(0x804_8000, 0x1000, "r-xp", "/usr/bin/prog")
    };
    // mov [eax+0x28], ecx
    check("null", crash(0x28, &[0x89, 0x48, 0x28, 0x90]).reg("eax", 0), "null-deref");
    // mov eax, [eax-4]: wraps
    check("wraps", crash(0xffff_fffc, &[0x8b, 0x40, 0xfc, 0x90]).reg("eax", 0), "null-deref");
}

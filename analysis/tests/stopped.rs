//! Programs that stopped themselves, were stopped by others, or met an exception that is no memory fault.

mod common;

use common::*;
use snapshot_format::schema::{LogRecord, Value, VariableKind};

/// The top of an abort() of glibc 2.36.
const ABORT: [&str; 4] = ["__pthread_kill_implementation", "__GI_raise", "__GI_abort", "__libc_message"];

fn aborted(frames: &[&str]) -> Crash {
    Crash::abort().frames(&ABORT[..3]).frames(frames)
}

fn log(crash: Crash, text: &str) -> Crash {
    crash.with(|s| s.log.push(LogRecord { text: text.into(), ..LogRecord::default() }))
}

#[test]
fn plain_aborts() {
    check("abort", aborted(&["main"]), "abort");
    check("without frames", Crash::abort(), "abort");
    check("without siginfo", Crash::abort().event(|e| (e.code, e.sender_pid) = (None, None)), "abort");
    check(
        "rust's abort",
        aborted(&["std::sys::pal::unix::abort_internal", "std::process::abort", "prog::main"]),
        "abort",
    );
    check(
        "the instruction after a blocked signal",
        Crash::protection().code(&[0xf4]).frames(&["__GI_abort", "main"]),
        "abort",
    );
    check(
        "the same instruction elsewhere",
        Crash::protection().code(&[0xf4]).frames(&["spin", "main"]),
        "illegal-instruction",
    );
    let culprit = analysis::classify(&aborted(&["give_up", "main"]).0)[0].0.clone();
    assert_eq!(culprit.frame, Some(3));
    assert!(culprit.text.contains("give_up(), frame 3"), "{}", culprit.text);
}

#[test]
fn assertions() {
    let glibc = aborted(&["__assert_fail_base", "__GI___assert_fail", "check_pod", "main"]);
    check("by frames", glibc.clone(), "assert");
    let found = analysis::classify(&glibc.message("prog: a.c:3: check_pod: Assertion `pod->n > 0' failed.").0);
    assert_eq!(found[0].0.text, "the assertion `pod->n > 0` failed in check_pod(), frame 5");
    check("by message", aborted(&["main"]).message("prog: a.c:3: main: Assertion `x' failed."), "assert");
    check("musl", aborted(&["__assert_fail", "main"]).message("Assertion failed: x > 0 (a.c: main: 3)"), "assert");
    check(
        "libstdc++",
        aborted(&["std::__glibcxx_assert_fail(char const*, int, char const*, char const*)", "main"]),
        "assert",
    );
    check(
        "freebsd",
        Crash::new(6, 0x10007)
            .sender(PID)
            .with(|s| s.identity.os = "freebsd".into())
            .frames(&["thr_kill", "__raise", "abort", "__assert", "main"]),
        "assert",
    );
    check("a function with a like name", aborted(&["assert_invariants", "main"]), "abort");
    let argument = aborted(&["__assert_fail", "main"]).variable(
        3,
        VariableKind::Parameter,
        "assertion",
        "const char *",
        Value::Text("\"n < 4\"".into()),
    );
    assert!(analysis::classify(&argument.0)[0].0.text.contains("`n < 4`"));
}

#[test]
fn rust_panics() {
    let frames = [
        "__rustc::__rust_start_panic",
        "rust_panic",
        "std::panicking::rust_panic_with_hook",
        "std::panicking::begin_panic_handler::{{closure}}",
        "std::sys::backtrace::__rust_end_short_backtrace",
        "__rustc::rust_begin_unwind",
        "core::panicking::panic_fmt",
        "core::panicking::panic_bounds_check",
        "<usize as core::slice::index::SliceIndex<[T]>>::index",
        "prog::pick",
        "prog::main",
    ];
    check("panic = abort", aborted(&frames), "rust-panic");
    let found = analysis::classify(&aborted(&frames).0);
    assert_eq!(found[0].0.text, "the program panicked in prog::pick(), frame 12: an index is out of bounds");
    let message = aborted(&frames)
        .message("thread 'main' panicked at src/main.rs:3:5:\nindex out of bounds: the len is 3 but the index is 7");
    assert!(analysis::classify(&message.0)[0].0.text.ends_with("the len is 3 but the index is 7"));
    check(
        "message alone, stripped",
        Crash::abort().message("thread 'main' panicked at src/main.rs:3:5:\nboom"),
        "rust-panic",
    );
    check(
        "a log line about a panic elsewhere",
        log(aborted(&["give_up", "main"]), "worker panicked at the disco"),
        "abort",
    );
    check("core::panicking in a name of the program", aborted(&["my::core::panicking::go", "main"]), "abort");
    check(
        "allocation",
        aborted(&[
            "std::process::abort",
            "std::alloc::rust_oom",
            "__rustc::__rust_alloc_error_handler",
            "alloc::alloc::handle_alloc_error",
            "prog::main",
        ]),
        "oom",
    );
    check(
        "rust's assert! is a panic",
        aborted(&frames).message("thread 'main' panicked at a.rs:1:1:\nassertion failed: (x)"),
        "rust-panic",
    );
}

#[test]
fn exceptions() {
    let runtime =
        ["__gnu_cxx::__verbose_terminate_handler()", "__cxxabiv1::__terminate(void (*)())", "std::terminate()"];
    let thrown = [&runtime[..], &["__cxa_throw", "parse(char const*)", "main"]].concat();
    check("uncaught", aborted(&thrown), "uncaught-exception");
    assert!(analysis::classify(&aborted(&thrown).0)[0].0.text.contains("thrown in parse(), frame 7"));
    let helper = [
        &runtime[..],
        &[
            "__cxa_throw",
            "std::__throw_out_of_range_fmt(char const*, ...)",
            "std::vector<int, std::allocator<int> >::at(unsigned long)",
            "pick",
            "main",
        ],
    ]
    .concat();
    let text = analysis::classify(&aborted(&helper).0)[0].0.text.clone();
    assert_eq!(text, "an exception of type std::out_of_range was caught nowhere, thrown in pick(), frame 9");
    let said = log(
        log(aborted(&thrown), "terminate called after throwing an instance of 'std::runtime_error'"),
        "  what():  boom",
    );
    let text = analysis::classify(&said.0)[0].0.text.clone();
    assert_eq!(text, "an exception of type std::runtime_error was caught nowhere, thrown in parse(), frame 7: boom");
    check(
        "message alone",
        Crash::abort().message("terminate called after throwing an instance of 'int'"),
        "uncaught-exception",
    );
    check("terminate without exception", aborted(&[&runtime[..], &["shutdown", "main"]].concat()), "abort");
    let joinable = aborted(&[&runtime[..], &["std::thread::~thread()", "main"]].concat());
    check("joinable thread", joinable.clone(), "abort");
    assert!(analysis::classify(&joinable.0)[0].0.text.contains("std::thread was destroyed"));
    let pure = aborted(&[&runtime[..], &["__cxa_pure_virtual", "Shape::draw()", "main"]].concat());
    check("pure virtual", pure.clone(), "abort");
    assert_eq!(analysis::classify(&pure.0)[0].0.security, "medium");
    let noexcept = aborted(
        &[
            &runtime[..2],
            &[
                "__cxa_call_terminate",
                "__gxx_personality_v0",
                "_Unwind_RaiseException",
                "__cxa_throw",
                "close_file",
                "main",
            ],
        ]
        .concat(),
    );
    check("noexcept", noexcept.clone(), "uncaught-exception");
    assert!(analysis::classify(&noexcept.0)[0].0.text.contains("promises to throw nothing"));
}

#[test]
fn checks_of_the_compiler_and_the_library() {
    check(
        "stack protector",
        aborted(&["__libc_message", "__fortify_fail", "__stack_chk_fail", "copy_name", "main"]),
        "stack-smash",
    );
    check("by message", Crash::abort().message("*** stack smashing detected ***: terminated"), "stack-smash");
    let smashed =
        analysis::classify(&aborted(&["__libc_message", "__fortify_fail", "__stack_chk_fail", "copy_name", "main"]).0);
    assert_eq!((smashed[0].0.frame, smashed[0].0.security.as_str()), (Some(6), "high"));
    let fortified = aborted(&["__libc_message", "__fortify_fail", "__chk_fail", "__strcpy_chk", "copy_name", "main"]);
    check("fortify", fortified.clone(), "fortify");
    assert!(analysis::classify(&fortified.0)[0].0.text.starts_with("strcpy() was about to write"));
    check("fortify by message", Crash::abort().message("*** buffer overflow detected ***: terminated"), "fortify");
}

#[test]
fn heap_reports() {
    let heap = |message: &str, frames: &[&str]| {
        let top = [&["__libc_message", "malloc_printerr"][..], frames].concat();
        aborted(&top).message(message)
    };
    let cases = [
        ("double free or corruption (fasttop)", "double-free"),
        ("double free or corruption (!prev)", "double-free"),
        ("free(): double free detected in tcache 2", "double-free"),
        ("free(): invalid pointer", "invalid-free"),
        ("munmap_chunk(): invalid pointer", "invalid-free"),
        ("free(): invalid size", "invalid-free"),
        ("free(): invalid next size (normal)", "heap-corruption"),
        ("malloc(): corrupted top size", "heap-corruption"),
        ("corrupted size vs. prev_size", "heap-corruption"),
        ("malloc(): invalid size (unsorted)", "heap-corruption"),
        ("something new", "heap-corruption"),
    ];
    for (message, class) in cases {
        check(message, heap(message, &["_int_free", "free", "drop_pod", "main"]), class);
    }
    let found =
        analysis::classify(&heap("free(): invalid pointer", &["_int_free", "__GI___libc_free", "drop_pod", "main"]).0);
    assert_eq!(
        found[0].0.text,
        "free(), called from drop_pod(), frame 7, was handed a pointer that is no allocated block"
    );
    check("an old message in the log", log(aborted(&["give_up", "main"]), "free(): invalid pointer"), "abort");
    check("stripped", Crash::abort().message("free(): invalid pointer"), "invalid-free");
    let argument = aborted(&["__libc_message", "malloc_printerr", "_int_free", "free", "main"]).variable(
        4,
        VariableKind::Parameter,
        "str",
        "const char *",
        Value::Text("\"free(): double free detected in tcache 2\"".into()),
    );
    check("by the argument", argument, "double-free");
}

#[test]
fn requests() {
    for signal in [3, 5, 6, 7, 8, 11, 15] {
        check("kill", Crash::new(signal, 0).sender(812).at(0).code(&[0x48, 0x8b, 0]).reg("rax", 0), "requested");
        check("tgkill", Crash::new(signal, -6).sender(812).frame_at(LIBC, "clock_nanosleep"), "requested");
    }
    check("from outside the namespace", Crash::new(11, 0).sender(0), "requested");
    check("sender not recorded", Crash::new(11, 0), "requested");
    check("quit key", Crash::new(3, 0x80), "requested");
    check("raise(SIGSEGV)", Crash::new(11, -6).sender(PID).frames(&["raise", "main"]), "requested");
    check("raise in another namespace", Crash::new(6, -6).sender(17).frames(&["raise", "abort", "main"]), "abort");
    check("the child's death is no request", Crash::new(17, 1), "");
    check("freebsd kill", Crash::new(11, 0x10001).sender(812).with(|s| s.identity.os = "freebsd".into()), "requested");
    check("illumos kill", Crash::new(11, 0).sender(812).with(|s| s.identity.os = "illumos".into()), "requested");
    let found = analysis::classify(&Crash::new(11, 0).sender(812).0);
    assert_eq!((found[0].0.severity.as_str(), found[0].0.security.as_str()), ("info", "none"));
    assert_eq!(found.len(), 1);
    check("live, no event", Crash::new(0, 0).with(|s| s.event = None), "");
}

#[test]
fn arithmetic() {
    // div rcx; idiv ecx; idiv dword ptr [rax]; add eax, ecx
    let (div, idiv, memory, add) = ([0x48, 0xf7, 0xf1], [0xf7, 0xf9], [0xf7, 0x38], [0x01, 0xc8]);
    check("div by zero", Crash::new(8, 1).code(&div).reg("rcx", 0), "divide-by-zero");
    check("idiv, upper half is not the divisor", Crash::new(8, 1).code(&idiv).reg("rcx", 7 << 32), "divide-by-zero");
    check(
        "INT_MIN / -1",
        Crash::new(8, 1).code(&idiv).reg("rcx", 0xffff_ffff).reg("rax", 0x8000_0000),
        "integer-overflow",
    );
    let found = analysis::classify(&Crash::new(8, 1).code(&idiv).reg("rcx", 0xffff_ffff).0);
    assert!(found[0].0.text.starts_with("the smallest integer was divided by -1"), "{}", found[0].0.text);
    check("quotient too large", Crash::new(8, 1).code(&div).reg("rcx", 1).reg("rdx", 5), "integer-overflow");
    check("divisor in memory", Crash::new(8, 1).code(&memory).reg("rax", HEAP).bytes(HEAP, &[0; 4]), "divide-by-zero");
    check("divisor in memory, not kept", Crash::new(8, 1).code(&memory).reg("rax", HEAP), "divide-by-zero");
    check("no bytes", Crash::new(8, 1), "divide-by-zero");
    check("not a division", Crash::new(8, 1).code(&add), "inconsistent");
    check("floating point", Crash::new(8, 3).code(&[0xf2, 0x0f, 0x5e, 0xc1]), "divide-by-zero");
    check("invalid operation", Crash::new(8, 7), "floating-point");
    check(
        "freebsd's numbers",
        Crash::new(8, 2).code(&div).reg("rcx", 0).with(|s| s.identity.os = "freebsd".into()),
        "divide-by-zero",
    );
    check("raised", Crash::new(8, -6).sender(PID).frames(&["raise", "main"]), "requested");
}

#[test]
fn instructions() {
    check("ud2", Crash::new(4, 2).code(&[0x0f, 0x0b]), "illegal-instruction");
    let text = |c: &Crash| analysis::classify(&c.0)[0].0.text.clone();
    assert!(text(&Crash::new(4, 2).code(&[0x0f, 0x0b])).contains("__builtin_trap"));
    assert!(!text(&Crash::new(4, 2).code(&[0x06])).contains("__builtin_trap"));
    check("ud1, a sanitizer's trap", Crash::new(4, 2).code(&[0x67, 0x0f, 0xb9, 0x40, 0x0d]), "illegal-instruction");
    check("no instruction", Crash::new(4, 2).code(&[0x06]), "illegal-instruction");
    check("an extension", Crash::new(4, 2).code(&[0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1]), "illegal-instruction");
    check("a plain instruction", Crash::new(4, 2).code(&[0x90]), "inconsistent");
    check("no bytes", Crash::new(4, 2), "illegal-instruction");
    check("cut short", Crash::new(4, 2).bytes(CODE, &[0x0f]), "illegal-instruction");
    check("int3", Crash::new(5, 0x80).bytes(CODE - 1, &[0xcc, 0x90]), "trap");
    check("hardware breakpoint", Crash::new(5, 4).code(&[0x90]), "trap");
    check("privileged", Crash::protection().code(&[0xfa]), "illegal-instruction");
    let stray = Crash::new(4, 2).reg("rip", HEAP).bytes(HEAP, &[0x06; 16]);
    assert_eq!(analysis::classify(&stray.0)[0].0.security, "high");
}

#[test]
fn limits() {
    check("cpu", Crash::new(24, 0x80), "resource-limit");
    check("file size", Crash::new(25, 0x80), "resource-limit");
    check("seccomp", Crash::new(31, 1), "bad-system-call");
    check("sent", Crash::new(24, 0).sender(9), "requested");
}

#[test]
fn the_event_gets_its_names() {
    let mut snapshot = Crash::unmapped(0x28).code(&[0x48, 0x89, 0x48, 0x28]).reg("rax", 0).0;
    analysis::analyse(&mut snapshot);
    let event = snapshot.event.clone().unwrap();
    assert_eq!(event.signal_name.as_deref(), Some("SIGSEGV"));
    assert_eq!(event.code_name.as_deref(), Some("SEGV_MAPERR"));
    assert_eq!(event.access.as_deref(), Some("write"));
    assert!(snapshot.evidence.iter().all(|e| (e.finding as usize) < snapshot.findings.len()));
}

#[test]
fn reports_read_well() {
    let double = aborted(&["__libc_message", "malloc_printerr", "_int_free", "free", "drop_pod", "main"])
        .message("free(): double free detected in tcache 2");
    insta::assert_snapshot!("double_free", report(&double));
    insta::assert_snapshot!("killed", report(&Crash::new(11, 0).sender(812).frame_at(LIBC, "clock_nanosleep")));
    let names: Vec<&str> = ["walk(Node*)", "visit(Node*)"].into_iter().cycle().take(400).chain(["main"]).collect();
    let deep = Crash::unmapped(STACK - 8)
        .code(&[0x55])
        .reg("rsp", STACK)
        .frames(&names)
        .with(|s| {
            s.attributes.push(snapshot_format::schema::Attribute {
                key: "proc.limits".into(),
                value: "Limit                     Soft Limit           Hard Limit           Units\nMax stack size            2101248              unlimited            bytes\n".into(),
                ..Default::default()
            });
        });
    insta::assert_snapshot!("stack_overflow", report(&deep));
    let jump = Crash::unmapped(0)
        .reg("rip", 0)
        .bytes(SP, &(CODE + 0x105).to_le_bytes())
        .frame_at(0, "")
        .frame("dispatch(Request&)")
        .frame("main");
    insta::assert_snapshot!("jump_null", report(&jump));
    let text = 0x6f77_206f_6c6c_6568;
    insta::assert_snapshot!(
        "text_pointer",
        report(&Crash::protection().code(&[0x48, 0x89, 0x48, 0x28]).reg("rax", text))
    );
    let file = Crash::new(7, 2).at(FILE + 0x3000).code(&[0x48, 0x8b, 0x00]).reg("rax", FILE + 0x3000);
    insta::assert_snapshot!("short_file", report(&file));
}

//! The table of victims.

use super::{Extra, Language, Victim};

const SIGILL: i32 = 4;
const SIGABRT: i32 = 6;
const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;

/// Optimised or not, by both compilers.
const BOTH: &[&str] = &["gcc-O0", "gcc-O2", "clang-O0", "clang-O2"];
const RUST: &[&str] = &["rust-O0", "rust-O2"];

const fn crash(
    name: &'static str,
    language: Language,
    source: &'static str,
    class: &'static str,
    signal: i32,
    shows: &'static str,
) -> Victim {
    let variants = if matches!(language, Language::Rust) { RUST } else { BOTH };
    Victim { name, language, source, extras: &[], variants, class, signal: Some(signal), running: 0, args: &[], shows }
}

/// A victim that is about what it holds; it dies by abort() or, told so, waits.
const fn shows(name: &'static str, language: Language, source: &'static str, shows: &'static str) -> Victim {
    crash(name, language, source, "abort", SIGABRT, shows)
}

use Language::{C, Cpp, Rust};

static ALL: &[Victim] = &[
    Victim {
        variants: FORMS,
        ..crash(
            "null_deref",
            C,
            "null_deref.c",
            "null-deref",
            SIGSEGV,
            "a write to a field of a null structure, address 0x28",
        )
    },
    crash(
        "near_null_deref",
        C,
        "near_null_deref.c",
        "near-null-deref",
        SIGSEGV,
        "a read of an element of a null array, address 0x5dc0",
    ),
    crash(
        "wild_pointer",
        C,
        "wild_pointer.c",
        "wild-pointer",
        SIGSEGV,
        "a list node whose next pointer is 0x123456789000",
    ),
    crash("non_canonical", C, "non_canonical.c", "non-canonical", SIGSEGV, "a read through 0xdeadbeefcafebabe"),
    crash("jump_null", C, "jump_null.c", "jump-null", SIGSEGV, "a call of a null function pointer"),
    crash("exec_nonexec", C, "exec_nonexec.c", "exec-nonexec", SIGSEGV, "a call into a data section"),
    crash("write_readonly", C, "write_readonly.c", "write-readonly", SIGSEGV, "a write into a string literal"),
    crash("stack_overflow", C, "stack_overflow.c", "stack-overflow", SIGSEGV, "endless recursion"),
    crash("abort", C, "abort.c", "abort", SIGABRT, "abort() after a message"),
    crash("assert", C, "assert.c", "assert", SIGABRT, "a failed assert(), message in glibc's __abort_msg"),
    crash("divide_by_zero", C, "divide_by_zero.c", "divide-by-zero", SIGFPE, "an integer division by zero"),
    crash("illegal_instruction", C, "illegal_instruction.c", "illegal-instruction", SIGILL, "ud2"),
    crash("bus_error", C, "bus_error.c", "bus-error", SIGBUS, "a mapped file that became shorter"),
    crash("null_method", Cpp, "null_method.cc", "null-deref", SIGSEGV, "a method of a null object"),
    crash(
        "uncaught_exception",
        Cpp,
        "uncaught_exception.cc",
        "uncaught-exception",
        SIGABRT,
        "an exception nobody catches, below recursion",
    ),
    crash("pure_virtual", Cpp, "pure_virtual.cc", "abort", SIGABRT, "a pure virtual call in a constructor"),
    Victim {
        variants: RUST_FORMS,
        ..crash("rust_panic", Rust, "rust_panic.rs", "rust-panic", SIGABRT, "unwrap() of an error")
    },
    crash("rust_index", Rust, "rust_index.rs", "rust-panic", SIGABRT, "an index out of bounds in a closure"),
    crash("rust_divide", Rust, "rust_divide.rs", "rust-panic", SIGABRT, "a division by zero"),
    crash(
        "rust_null_deref",
        Rust,
        "rust_null_deref.rs",
        "null-deref",
        SIGSEGV,
        "a null pointer in unsafe code, address 0x20",
    ),
    crash(
        "rust_stack_overflow",
        Rust,
        "rust_stack_overflow.rs",
        "stack-overflow",
        SIGABRT,
        "endless recursion, found by the runtime's handler",
    ),
    crash("rust_abort", Rust, "rust_abort.rs", "abort", SIGABRT, "process::abort() in a named thread"),
    crash("rust_illegal", Rust, "rust_illegal.rs", "illegal-instruction", SIGILL, "ud2 from inline assembly"),
    Victim {
        variants: FORMS,
        ..shows(
            "variables",
            C,
            "variables.c",
            "C variables: base types, arrays, VLA, bitfields, unions, enums, scopes, globals, TLS",
        )
    },
    Victim {
        variants: OPTIMISED,
        ..shows(
            "optimised",
            C,
            "optimised.c",
            "location lists, entry values, pieces, implicit pointers, inlined scopes",
        )
    },
    Victim {
        variants: INLINES,
        ..shows("inlines", Cpp, "inlines.cc", "inlined functions in inlined functions, lambdas, templates, operators")
    },
    Victim {
        variants: CLASSES,
        ..shows("classes", Cpp, "classes.cc", "inheritance, also virtual, references, member pointers, enum classes")
    },
    Victim {
        variants: CONTAINERS,
        ..shows("containers", Cpp, "containers.cc", "the containers of libstdc++ and libc++")
    },
    Victim {
        variants: RUST_FORMS,
        ..shows(
            "collections",
            Rust,
            "collections.rs",
            "Rust scalars, text, slices, collections, enums with data, smart pointers",
        )
    },
    Victim {
        variants: THREADS,
        running: 1,
        ..crash(
            "threads",
            C,
            "threads.c",
            "null-deref",
            SIGSEGV,
            "threads in a futex, system calls, a loop, a signal handler on its own stack, depth",
        )
    },
    crash("rust_threads", Rust, "threads.rs", "rust-panic", SIGABRT, "threads in a lock, a channel and parked"),
    crash("recursion", C, "recursion.c", "null-deref", SIGSEGV, "10,000 frames of one function"),
    crash("signal_frame", C, "signal_frame.c", "null-deref", SIGSEGV, "two signal frames, on an alternate stack"),
    Victim {
        extras: &[Extra::Library("plugin.c", "libplugin.so")],
        ..shows("dlopened", C, "dlopened.c", "a stack through a library loaded by dlopen")
    },
    shows("jit", C, "jit.c", "a stack through code in an anonymous mapping"),
    Victim {
        extras: &[Extra::Object("noframe.S")],
        ..shows("no_cfi", C, "no_cfi.c", "a stack through assembly without CFI and frame pointer")
    },
    Victim {
        variants: &["gcc-O0", "frame-pointer"],
        ..crash(
            "corrupt_stack",
            C,
            "corrupt_stack.c",
            "null-deref",
            SIGSEGV,
            "a looping frame pointer chain and overwritten return addresses",
        )
    },
    Victim {
        variants: &["gcc-O2", "gcc-O0"],
        signal: None,
        class: "requested",
        args: &["200"],
        running: 200,
        ..shows("checksum", C, "checksum.c", "200 threads, half in system calls, that verify their own work at SIGTERM")
    },
    Victim {
        variants: &["gcc-O2"],
        ..crash("big_rss", C, "big_rss.c", "null-deref", SIGSEGV, "as much resident memory as asked (MiB), default 64")
    },
];

/// Every form of debug information and linking that a C program can have.
const FORMS: &[&str] = &[
    "gcc-O0",
    "gcc-O2",
    "clang-O0",
    "clang-O2",
    "gcc-O0-dwarf2",
    "gcc-O0-dwarf3",
    "gcc-O0-dwarf4",
    "gcc-O2-dwarf4",
    "clang-O2-dwarf4",
    "clang-aranges",
    "clang-debug-names",
    "clang-gdb-index",
    "clang-split-dwo",
    "clang-split-dwp",
    "static",
    "static-pie",
    "no-pie",
    "lld",
    "m32",
    "m32-O2",
    "omit-frame-pointer",
    "debug-frame",
    "frame-pointer",
    "split-dwo",
    "split-dwo-dwarf4",
    "split-dwp-dwarf4",
    "dwz",
    "dwz-dwarf4",
    "zlib",
    "zlib-gnu",
    "zstd",
    "debuglink",
    "build-id",
    "minidebuginfo",
    "stripped",
    "types",
    "types-dwarf4",
];

/// Where variables have interesting places.
const OPTIMISED: &[&str] = &[
    "gcc-O0",
    "gcc-O2",
    "gcc-O2-dwarf4",
    "clang-O2",
    "clang-O2-dwarf4",
    "split-dwp-dwarf4",
    "split-dwo-dwarf4",
    "dwz",
    "m32-O2",
    "static",
];
const INLINES: &[&str] = &[
    "gcc-O0",
    "gcc-O2",
    "gcc-O2-dwarf4",
    "clang-O0",
    "clang-O2",
    "clang-O2-dwarf4",
    "clang-split-dwp",
    "split-dwo",
    "split-dwp-dwarf4",
    "dwz",
    "dwz-dwarf4",
    "minidebuginfo",
    "stripped",
    "zstd",
    "static-pie",
    "m32-O2",
    "clang-debug-names",
    "clang-gdb-index",
    "clang-aranges",
    "debuglink",
    "build-id",
    "debug-frame",
];
const CLASSES: &[&str] = &[
    "gcc-O0",
    "gcc-O2",
    "gcc-O0-dwarf4",
    "clang-O0",
    "clang-O2",
    "types",
    "types-dwarf4",
    "split-dwo",
    "dwz",
    "m32",
    "clang-libcxx",
];
const CONTAINERS: &[&str] = &["gcc-O0", "gcc-O2", "clang-O0", "clang-libcxx", "clang-libcxx-O2", "m32"];
const THREADS: &[&str] =
    &["gcc-O0", "gcc-O2", "clang-O0", "clang-O2", "static", "static-pie", "stripped", "omit-frame-pointer", "m32"];

const RUST_FORMS: &[&str] = &["rust-O0", "rust-O2", "rust-O0-dwarf5", "rust-v0", "rust-packed", "rust-lines"];

/// Every victim.
#[must_use]
pub fn all() -> &'static [Victim] {
    ALL
}

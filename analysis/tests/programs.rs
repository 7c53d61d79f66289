//! Small C and C++ programs that die in the ways that resemble each other, read by gdb.

mod common;
mod probe;

use std::path::Path;
use std::process::Command;

/// Builds a program, lets it die under gdb, and gives the classes found, and the report.
fn classes(name: &str, source: &str, flags: &[&str]) -> Option<(Vec<String>, String)> {
    let cpp = source.contains("::");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(if cpp { "a.cc" } else { "a.c" });
    std::fs::write(&file, source).unwrap();
    let program = folder.path().join(name);
    let compiler = if cpp { "g++" } else { "gcc" };
    let status =
        Command::new(compiler).args(["-g", "-w", "-pthread"]).args(flags).arg("-o").args([&program, &file]).status();
    let built = status.is_ok_and(|s| s.success());
    let debugger = Command::new("gdb").arg("--version").output().is_ok();
    if !built || !debugger {
        assert!(std::env::var_os("POSTFAULT_REQUIRE_PEERS").is_none(), "gcc and gdb are needed");
        println!("skipped {name}: no compiler or no gdb");
        return None;
    }
    let snapshot = probe::probe(Path::new(&program), folder.path()).unwrap();
    let report = common::report(&common::Crash(snapshot.clone()));
    println!("{name}: {report}");
    Some((analysis::classify(&snapshot).into_iter().map(|(f, _)| f.class).collect(), report))
}

#[track_caller]
fn check(name: &str, expected: &str, flags: &[&str], source: &str) {
    if let Some((found, report)) = classes(name, source, flags) {
        assert_eq!(found.first().map(String::as_str), Some(expected), "{name}: {report}");
        assert!(!found.contains(&"inconsistent".to_owned()), "{name}: {report}");
    }
}

#[test]
fn checks_of_the_compiler_and_the_library() {
    check(
        "smash",
        "stack-smash",
        &["-O1", "-fstack-protector-all"],
        "#include <string.h>\n__attribute__((noinline)) void f(int n) { char b[16]; char *volatile p = b; memset(p, 65, n); __asm__ volatile(\"\" :: \"r\"(b) : \"memory\"); }\nint main() { f(64); return 0; }\n",
    );
    check(
        "fortify",
        "fortify",
        &["-O2", "-D_FORTIFY_SOURCE=2"],
        "#include <string.h>\n#include <stdlib.h>\nchar b[8];\n__attribute__((noinline)) void f(const char *s) { strcpy(b, s); }\nint main(int c, char **v) { f(v[0]); return b[1]; }\n",
    );
}

#[test]
fn heaps() {
    check(
        "double_free",
        "heap-corruption",
        &["-O0"],
        "#include <stdlib.h>\nint main() { void *p = malloc(32); free(p); free(p); return 0; }\n",
    );
    check(
        "bad_free",
        "heap-corruption",
        &["-O0"],
        "#include <stdlib.h>\nint main() { char *p = malloc(64); free(p + 8); return 0; }\n",
    );
}

#[test]
fn signals_sent() {
    check("raised", "requested", &["-O0"], "#include <signal.h>\nint main() { raise(SIGSEGV); return 0; }\n");
    check(
        "killed",
        "requested",
        &["-O0"],
        "#include <signal.h>\n#include <unistd.h>\n#include <sys/wait.h>\nint main() { if (!fork()) { kill(getppid(), SIGSEGV); _exit(0); } for (;;) pause(); }\n",
    );
}

#[test]
fn jumps_and_exceptions_of_the_processor() {
    check("wild_jump", "wild-jump", &["-O0"], "int main() { ((void (*)(void))0x4141414141414141)(); return 0; }\n");
    check("wild_jump_low", "wild-jump", &["-O0"], "int main() { ((void (*)(void))0x414141410000)(); return 0; }\n");
    check(
        "overwritten_return",
        "wild-jump",
        &["-O1", "-fno-stack-protector"],
        "#include <string.h>\n__attribute__((noinline)) void f(int n) { char b[16]; char *volatile p = b; memset(p, 65, n); __asm__ volatile(\"\" :: \"r\"(b) : \"memory\"); }\nint main() { f(128); return 0; }\n",
    );
    check(
        "int_min",
        "integer-overflow",
        &["-O0"],
        "#include <limits.h>\nint main() { volatile int a = INT_MIN, b = -1; return a / b; }\n",
    );
    check(
        "misaligned",
        "alignment",
        &["-O1"],
        "#include <emmintrin.h>\nchar b[64] __attribute__((aligned(16)));\nint main() { __asm__ volatile(\"movaps %%xmm0, (%0)\" :: \"r\"(b + 1) : \"memory\"); return 0; }\n",
    );
    check("wild_write", "wild-pointer", &["-O1"], "int main() { *(volatile int *)0x123456780000 = 1; return 0; }\n");
    check("breakpoint", "trap", &["-O1"], "int main() { __asm__ volatile(\"int3\"); return 0; }\n");
    check("privileged", "illegal-instruction", &["-O1"], "int main() { __asm__ volatile(\"hlt\"); return 0; }\n");
}

#[test]
fn stacks() {
    check(
        "thread_overflow",
        "stack-overflow",
        &["-O0"],
        "#include <pthread.h>\nint f(int n) { volatile char b[256]; b[0] = n; return f(n + 1) + b[0]; }\nvoid *g(void *p) { return (void *)(long)f(0); }\nint main() { pthread_t t; pthread_create(&t, 0, g, 0); pthread_join(t, 0); return 0; }\n",
    );
    check(
        "large_frame",
        "stack-overflow",
        &["-O0"],
        "#include <string.h>\nint main() { char b[64 << 20]; memset(b, 1, sizeof b); return b[5]; }\n",
    );
    check(
        "handled_null",
        "null-deref",
        &["-O0"],
        "#include <signal.h>\n#include <stdlib.h>\nvoid h(int s) { abort(); }\nint main() { signal(SIGSEGV, h); *(volatile int *)8 = 1; return 0; }\n",
    );
}

#[test]
fn exceptions() {
    check(
        "uncaught",
        "uncaught-exception",
        &["-O0"],
        "#include <stdexcept>\nint main() { throw std::runtime_error(\"boom\"); }\n",
    );
    check(
        "noexcept",
        "uncaught-exception",
        &["-O0"],
        "#include <stdexcept>\nvoid f() noexcept { throw std::runtime_error(\"boom\"); }\nint main() { f(); }\n",
    );
    check("rethrown", "abort", &["-O0"], "#include <exception>\nint main() { std::terminate(); }\n");
    check(
        "joinable",
        "abort",
        &["-O0"],
        "#include <thread>\n#include <unistd.h>\nint main() { std::thread t([] { for (;;) ::pause(); }); }\n",
    );
    check(
        "range",
        "uncaught-exception",
        &["-O0"],
        "#include <vector>\nint main() { std::vector<int> v; return v.at(3); }\n",
    );
}

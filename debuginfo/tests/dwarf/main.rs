//! Functions, inlined calls, files and lines of addresses all over real programs, in every form that debug information
//! comes in, against gdb.

mod hostile;
mod indexes;
mod peers;

use peers::{assert_same, code, gdb, last_component, ours, renamed, sample, without_templates};
use std::path::PathBuf;
use testdata::victims;

/// The victim in that variant; says so when a tool is missing.
fn build(victim: &str, variant: &str) -> Option<PathBuf> {
    match victims::build(victim, variant) {
        Ok(program) => Some(program),
        Err(victims::VictimError::MissingTool { tool }) => {
            println!("skipped {victim} {variant}: no {tool}");
            None
        }
        Err(e) => panic!("{victim} {variant}: {e}"),
    }
}

/// Compares `count` addresses of a victim in one variant. gdb is asked about `told`, which has the same code in a form
/// that gdb can read.
fn check(victim: &str, variant: &str, told: &str, count: usize) {
    let (Some(program), Some(told)) = (build(victim, variant), build(victim, told)) else { return };
    let pcs = sample(&program, count);
    assert_eq!(code(&program), code(&told), "the same code");
    let (peer, ours) = (gdb(&told, &pcs), ours(&program, &pcs));
    let known = ours.iter().filter(|frames| !frames.is_empty()).count();
    assert!(known > 0 && (known * 3 > pcs.len() || variant == "static"), "{victim} {variant}: only {known} known");
    let without_templates = |name: &str| without_templates(name).replace("&&", "");
    let change = |name: &str| if variant.starts_with("rust") { last_component(name) } else { without_templates(name) };
    assert_same(&format!("{victim} {variant}"), &pcs, &renamed(peer, change), &renamed(ours, change));
}

macro_rules! forms {
    ($($name:ident: $victim:literal $variant:literal $(as $told:literal)? $count:literal,)*) => {
        $(
            #[test]
            fn $name() {
                check($victim, $variant, [$variant, $($told)?].last().unwrap(), $count);
            }
        )*
    };
}

forms! {
    a_medium_program: "containers" "gcc-O2" 1500,
    unoptimised: "containers" "gcc-O0" 300,
    gcc_dwarf2: "inlines" "gcc-O0-dwarf2" 200,
    gcc_dwarf3: "inlines" "gcc-O0-dwarf3" 200,
    gcc_dwarf4: "containers" "gcc-O2-dwarf4" 300,
    gcc_inlines: "inlines" "gcc-O2" 500,
    clang: "inlines" "clang-O2" 500,
    clang_unoptimised: "inlines" "clang-O0" 200,
    clang_containers: "containers" "clang-O2" 300,
    clang_dwarf4: "inlines" "clang-O2-dwarf4" 300,
    clang_aranges: "inlines" "clang-aranges" 200,
    clang_debug_names: "inlines" "clang-debug-names" 200,
    clang_gdb_index: "inlines" "clang-gdb-index" 200,
    clang_split: "inlines" "clang-split-dwo" 300,
    split: "containers" "split-dwo" 300,
    split_dwarf4: "inlines" "split-dwo-dwarf4" 300,
    // gdb 13 crashes on packages of DWARF 5.
    clang_package: "inlines" "clang-split-dwp" as "clang-split-dwo" 300,
    package_dwarf4: "inlines" "split-dwp-dwarf4" 300,
    alternate: "containers" "dwz" 300,
    alternate_dwarf4: "inlines" "dwz-dwarf4" 300,
    zlib: "inlines" "zlib" 200,
    zlib_gnu: "inlines" "zlib-gnu" 200,
    zstd: "inlines" "zstd" 200,
    debug_link: "inlines" "debuglink" 200,
    build_id: "inlines" "build-id" 200,
    type_units: "containers" "types" 300,
    type_units_dwarf4: "containers" "types-dwarf4" 300,
    rust: "collections" "rust-O0" 300,
    rust_optimised: "collections" "rust-O2" 500,
    rust_v0: "collections" "rust-v0" 300,
    rust_lines: "collections" "rust-lines" 300,
    linked_by_lld: "inlines" "lld" 200,
    without_pie: "inlines" "no-pie" 200,
    static_program: "variables" "static" 300,
    i386: "variables" "m32-O2" 200,
    plain_c: "optimised" "gcc-O2" 200,
}

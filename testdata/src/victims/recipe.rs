//! The variants: which compiler, which flags, and what is done to the executable afterwards.

use super::VictimError;

/// Which compiler family builds the variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compiler {
    /// gcc and g++.
    Gcc,
    /// clang and clang++.
    Clang,
    /// rustc.
    Rustc,
}

/// What is done after linking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Package the `.dwo` files into a `.dwp` with this tool and delete them.
    Dwp(&'static str),
    /// Move what is shared with a second copy into an alternate file, by dwz.
    Dwz,
    /// Compress debug sections in this way (objcopy's word).
    Compress(&'static str),
    /// Move debug information into `NAME.debug`, found by `.gnu_debuglink`.
    DebugLink,
    /// Move debug information into `symbols/.build-id/xx/yyyy.debug`.
    BuildId,
    /// Leave a compressed symbol table in `.gnu_debugdata` only.
    MiniDebugInfo,
    /// Remove all symbols but the dynamic ones.
    Strip,
}

/// A way to build.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// Its name.
    pub name: &'static str,
    /// The compiler family.
    pub compiler: Compiler,
    /// Flags for compiling (and, with rustc, for everything).
    pub flags: &'static [&'static str],
    /// Flags for linking.
    pub link: &'static [&'static str],
    /// What is done afterwards.
    pub steps: &'static [Step],
}

const fn plain(name: &'static str, compiler: Compiler, flags: &'static [&'static str]) -> Variant {
    Variant { name, compiler, flags, link: &[], steps: &[] }
}

const fn linked(name: &'static str, flags: &'static [&'static str], link: &'static [&'static str]) -> Variant {
    Variant { name, compiler: Compiler::Gcc, flags, link, steps: &[] }
}

const fn treated(name: &'static str, flags: &'static [&'static str], steps: &'static [Step]) -> Variant {
    Variant { name, compiler: Compiler::Gcc, flags, link: &[], steps }
}

use Compiler::{Clang, Gcc, Rustc};

const VARIANTS: &[Variant] = &[
    plain("gcc-O0", Gcc, &["-g", "-O0"]),
    plain("gcc-O2", Gcc, &["-g", "-O2"]),
    plain("gcc-O0-dwarf2", Gcc, &["-gdwarf-2", "-gstrict-dwarf", "-O0"]),
    plain("gcc-O0-dwarf3", Gcc, &["-gdwarf-3", "-gstrict-dwarf", "-O0"]),
    plain("gcc-O0-dwarf4", Gcc, &["-gdwarf-4", "-O0"]),
    plain("gcc-O2-dwarf4", Gcc, &["-gdwarf-4", "-O2"]),
    plain("clang-O0", Clang, &["-g", "-O0"]),
    plain("clang-O2", Clang, &["-g", "-O2"]),
    plain("clang-O2-dwarf4", Clang, &["-gdwarf-4", "-O2"]),
    plain("clang-aranges", Clang, &["-g", "-O2", "-gdwarf-aranges"]),
    plain("clang-debug-names", Clang, &["-gdwarf-5", "-O2", "-gpubnames", "-mllvm", "-accel-tables=Dwarf"]),
    Variant {
        name: "clang-gdb-index",
        compiler: Clang,
        flags: &["-gdwarf-4", "-O2", "-ggnu-pubnames"],
        link: &["-fuse-ld=lld", "-Wl,--gdb-index"],
        steps: &[],
    },
    Variant {
        name: "clang-libcxx",
        compiler: Clang,
        flags: &["-g", "-O0", "-stdlib=libc++"],
        link: &["-stdlib=libc++"],
        steps: &[],
    },
    Variant {
        name: "clang-libcxx-O2",
        compiler: Clang,
        flags: &["-g", "-O2", "-stdlib=libc++"],
        link: &["-stdlib=libc++"],
        steps: &[],
    },
    Variant {
        name: "clang-split-dwo",
        compiler: Clang,
        flags: &["-gdwarf-5", "-O2", "-gsplit-dwarf"],
        link: &[],
        steps: &[],
    },
    Variant {
        name: "clang-split-dwp",
        compiler: Clang,
        flags: &["-gdwarf-5", "-O2", "-gsplit-dwarf"],
        link: &[],
        steps: &[Step::Dwp("llvm-dwp")],
    },
    linked("static", &["-g", "-O2"], &["-static"]),
    linked("static-pie", &["-g", "-O2", "-fPIE"], &["-static-pie"]),
    linked("no-pie", &["-g", "-O2", "-fno-pie"], &["-no-pie"]),
    linked("lld", &["-g", "-O2"], &["-fuse-ld=lld"]),
    linked("m32", &["-g", "-O0", "-m32"], &["-m32"]),
    linked("m32-O2", &["-g", "-O2", "-m32"], &["-m32"]),
    plain("omit-frame-pointer", Gcc, &["-g", "-O1", "-fomit-frame-pointer"]),
    plain("debug-frame", Gcc, &["-g", "-O2", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]),
    plain(
        "frame-pointer",
        Gcc,
        &["-g0", "-O2", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"],
    ),
    plain("split-dwo", Gcc, &["-gdwarf-5", "-O2", "-gsplit-dwarf"]),
    plain("split-dwo-dwarf4", Gcc, &["-gdwarf-4", "-O2", "-gsplit-dwarf"]),
    // No DWARF 5 package of gcc's: GNU dwp 2.40 writes a wrong one, llvm-dwp 14 loops for ever on gcc's abbreviations.
    treated("split-dwp-dwarf4", &["-gdwarf-4", "-O2", "-gsplit-dwarf"], &[Step::Dwp("dwp")]),
    treated("dwz", &["-g", "-O2"], &[Step::Dwz]),
    treated("dwz-dwarf4", &["-gdwarf-4", "-O2"], &[Step::Dwz]),
    treated("zlib", &["-g", "-O2"], &[Step::Compress("zlib")]),
    treated("zlib-gnu", &["-g", "-O2"], &[Step::Compress("zlib-gnu")]),
    treated("zstd", &["-g", "-O2"], &[Step::Compress("zstd")]),
    treated("debuglink", &["-g", "-O2"], &[Step::DebugLink]),
    treated("build-id", &["-g", "-O2"], &[Step::BuildId]),
    treated("minidebuginfo", &["-g", "-O2"], &[Step::MiniDebugInfo]),
    Variant { name: "stripped", compiler: Gcc, flags: &["-g", "-O2"], link: &["-rdynamic"], steps: &[Step::Strip] },
    plain("types", Gcc, &["-gdwarf-5", "-O0", "-fdebug-types-section"]),
    plain("types-dwarf4", Gcc, &["-gdwarf-4", "-O0", "-fdebug-types-section"]),
    plain("rust-O0", Rustc, &["-Cdebuginfo=2", "-Copt-level=0"]),
    plain("rust-O2", Rustc, &["-Cdebuginfo=2", "-Copt-level=2"]),
    plain("rust-O0-dwarf5", Rustc, &["-Cdebuginfo=2", "-Copt-level=0", "-Cdwarf-version=5"]),
    plain("rust-v0", Rustc, &["-Cdebuginfo=2", "-Copt-level=2", "-Csymbol-mangling-version=v0"]),
    plain("rust-packed", Rustc, &["-Cdebuginfo=2", "-Copt-level=0", "-Csplit-debuginfo=packed"]),
    plain("rust-lines", Rustc, &["-Cdebuginfo=line-tables-only", "-Copt-level=2"]),
];

/// The variant of that name.
///
/// # Errors
/// [`VictimError::Unknown`] when there is none.
pub fn variant(name: &str) -> Result<&'static Variant, VictimError> {
    VARIANTS.iter().find(|v| v.name == name).ok_or_else(|| VictimError::Unknown { what: "variant", name: name.into() })
}

//! The kernel's file: where it may be, and whether it belongs to the dump.

use super::context::FreeBsd;
use debuginfo::Locator;
use debuginfo::elf::ElfFile;
use debuginfo::images::{Image, Outcome, Verified};
use evidence::{Addr, Arch, Doubt, Doubts, Memory, Svma, Target, ToUsize};
use std::path::{Path, PathBuf};

/// Name of the kernel's image.
pub(super) const NAME: &str = "kernel";
/// Most bytes of the `version` string compared.
const LIMIT_VERSION: usize = 512;
/// Largest copy of the entry code: some pages.
const LIMIT_TRAMPOLINE: u64 = 1 << 20;
/// `SHF_ALLOC`.
const ALLOC: u64 = 2;

/// The kernel's file and where it was looked for.
#[derive(Default)]
pub(super) struct Search {
    pub file: Option<PathBuf>,
    pub searched: Vec<(PathBuf, Outcome)>,
    pub problem: Option<String>,
}

fn places(locator: &Locator) -> Vec<PathBuf> {
    if let Some(given) = &locator.kernel {
        return vec![given.clone()];
    }
    let mut places = Vec::new();
    for dir in &locator.symbols {
        places.extend(["kernel", "boot/kernel/kernel", "kernel.debug"].map(|name| dir.join(name)));
    }
    let root = locator.sysroot.as_deref().unwrap_or(Path::new("/"));
    places.push(root.join("boot/kernel/kernel"));
    places
}

/// The kernel's name for itself in a file and in the dump, where both have it.
fn versions(file: &ElfFile, memory: &dyn Memory, target: &dyn Target) -> (Option<String>, Option<String>) {
    let symbol = find(file, "version");
    let text = |bytes: &[u8]| evidence::bytes::c_str_at(bytes, 0).filter(|t| t.starts_with("FreeBSD "));
    let in_file = symbol.and_then(|at| {
        let bytes = file.bytes_at(Svma(at))?;
        text(bytes.get(..bytes.len().min(LIMIT_VERSION))?)
    });
    let in_memory = symbol.and_then(|at| text(memory.read_c_string(Addr(at), LIMIT_VERSION).ok()?.as_bytes()));
    let recorded = || {
        let attribute = target.attributes().iter().find(|a| &*a.key == "kernel.version")?;
        Some(attribute.value.to_string())
    };
    (in_file, in_memory.or_else(recorded))
}

/// A symbol of a file, before its tables are built.
fn find(file: &ElfFile, name: &str) -> Option<u64> {
    use evidence::bytes::{Endian, c_str_at, slice_at, u32_at, u64_at};
    /// Most symbols looked at.
    const LIMIT_SYMBOLS: usize = 1 << 22;
    let symbols = file.section_data(".symtab").ok()??;
    let names = file.section_data(".strtab").ok()??;
    let le = Endian::Little;
    let wide = file.address_size() == 8;
    symbols.chunks_exact(if wide { 24 } else { 16 }).take(LIMIT_SYMBOLS).find_map(|raw| {
        let at = u32_at(raw, 0, le)?.to_usize();
        // Longer names that begin in the same way are others.
        if slice_at(names, at, name.len().checked_add(1)?)?.strip_suffix(&[0])? != name.as_bytes() {
            return None;
        }
        debug_assert!(c_str_at(names, at).as_deref() == Some(name));
        if wide { u64_at(raw, 8, le) } else { u32_at(raw, 4, le).map(u64::from) }
    })
}

fn judge(file: &ElfFile, given: bool, memory: &dyn Memory, target: &dyn Target) -> Outcome {
    let arch = target.identity().arch;
    if file.arch() != arch {
        let found = format!("a file for {}, and the dump is of {}", file.arch().word(), arch.word());
        return Outcome::Mismatch { expected: None, found };
    }
    let one_line = |t: &str| t.split_whitespace().collect::<Vec<_>>().join(" ");
    match versions(file, memory, target) {
        // The record keeps the first 191 characters only.
        (Some(own), Some(dumped)) => {
            let (own, dumped) = (one_line(&own), one_line(&dumped));
            if own.starts_with(&dumped) || dumped.starts_with(&own) {
                Outcome::Used
            } else {
                Outcome::Mismatch { expected: None, found: format!("it is {own:?}, and the dump is of {dumped:?}") }
            }
        }
        _ if given => Outcome::Used,
        _ => Outcome::Mismatch {
            expected: None,
            found: "nothing says which kernel the dump is of; name it with --kernel if it is this one".into(),
        },
    }
}

/// Looks for the kernel's file. One that is of another kernel is named and not used.
pub(super) fn search(locator: &Locator, memory: &dyn Memory, target: &dyn Target, doubts: &Doubts) -> Search {
    let mut search = Search::default();
    let given = locator.kernel.is_some();
    for path in places(locator) {
        let outcome = match ElfFile::open(&path) {
            Err(_) if !given && !path.exists() => Outcome::Missing,
            Err(e) => Outcome::Unusable(e.to_string()),
            Ok(file) => judge(&file, given, memory, target),
        };
        let used = outcome == Outcome::Used;
        if !used && given {
            let why = format!("{}: {outcome}", path.display());
            doubts.push(Doubt::new("kernel-file", format!("{why}; it is not used")));
            search.problem = Some(why);
        }
        search.searched.push((path.clone(), outcome));
        if used {
            search.file = Some(path);
            break;
        }
    }
    search
}

/// The kernel's image: from its first byte to the end of what is loaded.
pub(super) fn image(search: Search) -> Option<Image> {
    let file = ElfFile::open(search.file.as_ref()?).ok()?;
    let sections = file.sections().iter().filter(|s| s.flags() & ALLOC != 0 && s.address().0 != 0);
    let mut ranges: Vec<(u64, u64)> =
        sections.map(|s| (s.address().0, s.address().0.saturating_add(s.size()))).collect();
    let segments = file.segments().iter().filter(|s| s.address.0 != 0);
    ranges.extend(segments.map(|s| (s.address.0, s.address.0.saturating_add(s.memory_size))));
    let entry = file.entry().0;
    let lowest = ranges.iter().map(|r| r.0).min()?;
    let start = if entry != 0 { lowest.min(entry) } else { lowest } & !0xfff;
    let end = ranges.iter().map(|r| r.1).max()?;
    Some(Image {
        file: Some((file, Verified::Given)),
        searched: search.searched,
        problem: search.problem,
        ..Image::at(NAME, Addr(start), end.saturating_sub(start))
    })
}

/// i386's copy of the entry code (since 12), which all address spaces share: the kernel's code from `start_exceptions` to
/// `end_exceptions`, `setidt_disp` bytes above where it was linked to (`sys/i386/i386/machdep.c`).
pub(super) fn trampoline(kernel: &FreeBsd<'_>, path: &Path) -> Option<Image> {
    if kernel.arch != Arch::X86 {
        return None;
    }
    let (start, end) = (kernel.symbol("start_exceptions")?, kernel.symbol("end_exceptions")?);
    let moved = u64::from(kernel.int("setidt_disp").filter(|n| *n != 0)?);
    let size = end.offset_from(start).filter(|n| (1..=LIMIT_TRAMPOLINE).contains(n))?;
    let base = start.0.checked_add(moved).filter(|at| *at <= u64::from(u32::MAX))?;
    let file = ElfFile::open(path).ok()?;
    Some(Image {
        slide: moved,
        file: Some((file, Verified::Given)),
        ..Image::at("kernel (trampoline)", Addr(base), size)
    })
}

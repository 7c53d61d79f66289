//! The kernel's own image: its file if there is one, and what the kernel carries of itself in memory.

use super::info::Info;
use debuginfo::elf::ElfFile;
use debuginfo::images::{Image, Outcome, Verified};
use debuginfo::kernel::{Btf, Kallsyms, Orc, Places, find_kallsyms};
use debuginfo::{BuildId, Locator};
use evidence::bytes::{Endian, slice_at, u32_at};
use evidence::{Addr, Doubt, Doubts, Memory, ToUsize};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the kernel's image.
const NAME: &str = "vmlinux";
/// Most bytes of BTF read: as many as it may have.
const LIMIT_BTF: u64 = 256 << 20;
/// Most bytes of notes read: the kernel's have some hundred.
const LIMIT_NOTES: u64 = 64 << 10;
/// A function that saves all registers (Linux 5.8 and later).
const INTERRUPT: &str = "asm_exc_page_fault";
/// `NT_GNU_BUILD_ID`.
const BUILD_ID: u32 = 3;

/// The kernel's file and where it was looked for.
#[derive(Default)]
pub(super) struct Search {
    pub file: Option<PathBuf>,
    pub searched: Vec<(PathBuf, Outcome)>,
    pub problem: Option<String>,
}

/// What the kernel carries of itself.
#[derive(Default)]
pub(super) struct Carried {
    pub kallsyms: Option<Kallsyms>,
    pub btf: Option<Arc<Btf>>,
    pub orc: Option<Orc>,
}

/// The build-id in ELF notes (gABI "Note Section"): name size, body size, type; name and body padded to four bytes.
pub(super) fn build_id_of_notes(bytes: &[u8], endian: Endian) -> Option<BuildId> {
    let mut at = 0_usize;
    while at < bytes.len() {
        let word = |n: usize| u32_at(bytes, at.checked_add(n)?, endian);
        let (name, body) = (word(0)?.to_usize(), word(4)?.to_usize());
        let name_at = at.checked_add(12)?;
        let body_at = name_at.checked_add(name.checked_next_multiple_of(4)?)?;
        if word(8)? == BUILD_ID && slice_at(bytes, name_at, name)? == b"GNU\0" {
            return BuildId::new(slice_at(bytes, body_at, body)?);
        }
        at = body_at.checked_add(body.checked_next_multiple_of(4)?)?;
    }
    None
}

/// The build-id that lies in the dumped kernel where `file` has its own.
fn build_id_in_memory(file: &ElfFile, slide: u64, memory: &dyn Memory) -> Option<BuildId> {
    let notes = file.section(".notes")?;
    let mut bytes = vec![0; notes.size().min(LIMIT_NOTES).to_usize()];
    memory.read_exact(Addr(notes.address().0.wrapping_add(slide)), &mut bytes).ok()?;
    build_id_of_notes(&bytes, Endian::Little)
}

/// Where the file of a kernel may be, best first.
fn places(locator: &Locator, release: Option<&str>, id: Option<&BuildId>) -> Vec<PathBuf> {
    if let Some(given) = &locator.kernel {
        return vec![given.clone()];
    }
    let mut places = Vec::new();
    let system = locator.system.as_deref().unwrap_or(Path::new("/usr/lib/debug"));
    // A release comes from the dump: it must not lead out of the directories.
    let release = release.filter(|r| !r.contains('/') && !r.contains('\0') && !r.is_empty());
    for dir in &locator.symbols {
        places.extend(id.map(|id| dir.join(".build-id").join(id.debug_path())));
        places.extend(release.map(|r| dir.join(format!("vmlinux-{r}"))));
        places.push(dir.join(NAME));
    }
    places.extend(id.map(|id| system.join(".build-id").join(id.debug_path())));
    if let Some(release) = release {
        places.push(system.join("boot").join(format!("vmlinux-{release}")));
        places.push(system.join("lib/modules").join(release).join(NAME));
        let root = locator.sysroot.as_deref().unwrap_or(Path::new("/"));
        places.push(root.join("usr/lib/modules").join(release).join("build").join(NAME));
        places.push(root.join("boot").join(format!("vmlinux-{release}")));
    }
    places
}

/// Looks for the kernel's file. One with another build-id is named and not used.
pub(super) fn search(locator: &Locator, info: &Info<'_>, memory: &dyn Memory, doubts: &Doubts) -> Search {
    let stated = info.build_id().and_then(|id| BuildId::new(&id));
    let slide = info.kernel_offset().unwrap_or(0);
    let mut search = Search::default();
    for path in places(locator, info.text("OSRELEASE"), stated.as_ref()) {
        let outcome = match ElfFile::open(&path) {
            Err(_) if locator.kernel.is_none() && !path.exists() => Outcome::Missing,
            Err(e) => Outcome::Unusable(e.to_string()),
            Ok(file) => judge(&file, stated.clone().or_else(|| build_id_in_memory(&file, slide, memory))),
        };
        let used = outcome == Outcome::Used;
        if !used && locator.kernel.is_some() {
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

fn judge(file: &ElfFile, expected: Option<BuildId>) -> Outcome {
    match (expected, file.build_id()) {
        (Some(expected), Some(found)) if expected == *found => Outcome::Used,
        (Some(expected), Some(found)) => {
            Outcome::Mismatch { expected: Some(expected), found: format!("build-id {found}") }
        }
        (expected, None) => Outcome::Mismatch { expected, found: "a file without build-id".into() },
        (None, Some(found)) => Outcome::Mismatch {
            expected: None,
            found: format!("build-id {found}, and none in the dump to compare it with"),
        },
    }
}

/// Reads what the kernel carries, from memory and else from its file.
pub(super) fn carried(info: &Info<'_>, memory: &dyn Memory, file: Option<&ElfFile>, doubts: &Doubts) -> Carried {
    let doubt = |what: &'static str, why: String| doubts.push(Doubt::new(what, why));
    let slide = info.kernel_offset().unwrap_or(0);
    let kallsyms = match kallsyms(info, memory) {
        Some(Ok(table)) => Some(table),
        Some(Err(why)) => {
            doubt("kallsyms", format!("the kernel's own symbols cannot be used: {why}"));
            None
        }
        None => None,
    };
    let range = |from: &str, to: &str| {
        let symbol = |name| kallsyms.as_ref().and_then(|k| k.by_name(name)).map(Addr);
        let range = symbol(from)?..symbol(to)?;
        (range.start < range.end).then_some(range)
    };
    let section = |name: &str| {
        let section = file?.section(name)?;
        let data = file?.data_of(section).ok().flatten()?;
        Some((Addr(section.address().0.wrapping_add(slide)), data.to_vec()))
    };
    // The file is this kernel's by its build-id: what it holds is the same, and costs nothing to unpack.
    let btf = section(".BTF").map(|(_, data)| data);
    let btf = btf.or_else(|| range("__start_BTF", "__stop_BTF").and_then(|r| bytes(memory, &r, LIMIT_BTF)));
    let btf = btf.and_then(|data| {
        Btf::parse(data, None).map_err(|e| doubt("btf", format!("the kernel's types cannot be used: {e}"))).ok()
    });
    let orc = range("__start_orc_unwind_ip", "__stop_orc_unwind_ip")
        .zip(range("__start_orc_unwind", "__stop_orc_unwind"))
        .map(|(addresses, rules)| match kallsyms.as_ref().and_then(|k| k.by_name(INTERRUPT)) {
            Some(entry) => Orc::in_memory(memory, &addresses, &rules, Addr(entry)),
            None => Orc::read(memory, &addresses, &rules, None),
        });
    let in_file = || {
        let ((place, addresses), (_, rules)) = section(".orc_unwind_ip").zip(section(".orc_unwind"))?;
        Orc::new(place, addresses, rules, None).ok()
    };
    let orc = match orc {
        Some(Ok(orc)) => Some(orc),
        Some(Err(why)) => in_file().or_else(|| {
            doubt("orc", format!("the kernel's unwind table cannot be used: {why}"));
            None
        }),
        None => in_file(),
    };
    Carried { kallsyms, btf: btf.map(Arc::new), orc }
}

fn bytes(memory: &dyn Memory, range: &Range<Addr>, limit: u64) -> Option<Vec<u8>> {
    let length = range.end.offset_from(range.start).filter(|n| *n <= limit)?;
    let mut bytes = vec![0; length.to_usize()];
    memory.read_exact(range.start, &mut bytes).ok()?;
    Some(bytes)
}

/// The kernel's own symbols: where VMCOREINFO says, else where a scan finds them.
fn kallsyms(info: &Info<'_>, memory: &dyn Memory) -> Option<Result<Kallsyms, String>> {
    // Symbols whose values VMCOREINFO gives, not those of pointers that it follows (mem_section).
    let trusted = ["_stext", "init_uts_ns", "swapper_pg_dir", "init_top_pgt", "prb", "log_buf"];
    let known: Vec<(&str, u64)> = info.symbols().filter(|(name, _)| trusted.contains(name)).collect();
    let read = |places: &Places| Kallsyms::read(memory, Endian::Little, places, &known);
    if let Some(places) = stated_places(info) {
        return Some(read(&places));
    }
    let found = find_kallsyms(memory, Endian::Little, info.symbol("_stext")?);
    let mut why = "neither VMCOREINFO nor a search of its memory says where they are".to_owned();
    for places in &found {
        match read(places) {
            Ok(table) => return Some(Ok(table)),
            Err(e) => why = e,
        }
    }
    Some(Err(why))
}

fn stated_places(info: &Info<'_>) -> Option<Places> {
    Some(Places {
        count: info.symbol("kallsyms_num_syms")?,
        names: info.symbol("kallsyms_names")?,
        token_table: info.symbol("kallsyms_token_table")?,
        token_index: info.symbol("kallsyms_token_index")?,
        offsets: info.symbol("kallsyms_offsets"),
        relative_base: info.symbol("kallsyms_relative_base"),
        addresses: info.symbol("kallsyms_addresses"),
    })
}

/// Where the kernel's image and its code lie.
struct Extent {
    image: Range<u64>,
    text: Range<u64>,
}

fn extent(info: &Info<'_>, carried: &Carried, file: Option<&ElfFile>) -> Option<Extent> {
    let slide = info.kernel_offset().unwrap_or(0);
    let named = |name: &str| carried.kallsyms.as_ref().and_then(|k| k.by_name(name));
    let in_file = file.map(|file| {
        let text = file.section(".text").map(|s| s.address().0..s.address().0.saturating_add(s.size()));
        let upper = file.segments().iter().filter(|s| s.address.0 >> 32 != 0);
        let end = upper.map(|s| s.address.0.saturating_add(s.memory_size)).max().unwrap_or(0);
        (text.unwrap_or_default(), end)
    });
    let moved = |at: u64| at.wrapping_add(slide);
    let start = named("_text").or_else(|| named("_stext")).or_else(|| info.symbol("_stext").map(|a| a.0));
    let start = start.or_else(|| in_file.as_ref().map(|(text, _)| moved(text.start)))?;
    let end = named("_end").or_else(|| in_file.as_ref().map(|(_, end)| moved(*end)))?;
    let text_end = [named("_etext"), named("_einittext")].into_iter().flatten().max();
    let text_end = text_end.or_else(|| in_file.as_ref().map(|(text, _)| moved(text.end)))?;
    (start < text_end && text_end <= end).then_some(Extent { image: start..end, text: start..text_end })
}

/// The kernel's image.
pub(super) fn image(info: &Info<'_>, search: Search, mut carried: Carried, file: Option<ElfFile>) -> Option<Image> {
    let slide = info.kernel_offset().unwrap_or(0);
    let extent = extent(info, &carried, file.as_ref())?;
    let full = file.as_ref().is_some_and(|f| f.section(".symtab").is_some_and(|s| !s.is_nobits() && s.size() > 0));
    let symbols = carried.kallsyms.as_ref().filter(|_| !full).map(|k| k.table(&extent.image, &extent.text, slide));
    Some(Image {
        slide,
        build_id: info.build_id().and_then(|id| BuildId::new(&id)),
        file: file.map(|f| (f, Verified::BuildId)),
        searched: search.searched,
        problem: search.problem,
        symbols,
        orc: carried.orc.take(),
        ..Image::at(NAME, Addr(extent.image.start), extent.image.end.saturating_sub(extent.image.start))
    })
}

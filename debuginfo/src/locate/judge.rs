//! What a module's files add up to, what is missing, and what would supply it.

use super::{Separate, Supplementary};
use crate::images::{FileReport, Module, Outcome, SymbolKind, Verified};
use crate::symbols::SymbolTable;
use std::io::Read as _;
use std::path::Path;

/// Largest package file list that is read: the largest ones of Debian hold some megabytes.
const LIMIT_LIST: u64 = 32 << 20;
const DPKG: &str = "/var/lib/dpkg/info";

/// Completes a report.
pub(crate) fn judge(module: &Module, separate: &Separate, alternate: &Supplementary, report: &mut FileReport) {
    let has_dwarf = module.debug().is_some_and(|f| f.section(".debug_info").is_some_and(|s| !s.is_nobits()));
    let tables = [module.main(), module.debug(), module.mini_debug_info()];
    let has_symtab = tables.into_iter().flatten().any(crate::symbols::has_symbols);
    let has_dynsym = module.main().is_some_and(|f| f.dynamic().is_some());
    let has_pdb = module.pdb().is_some();
    let has_sym_file = module.sym_file().is_some();
    let has_exports = module.pe().is_some_and(|pe| !pe.exports().is_empty());
    report.kind = match (has_dwarf, has_symtab, has_dynsym) {
        (true, ..) => SymbolKind::Dwarf,
        _ if has_pdb => SymbolKind::Pdb,
        _ if has_sym_file => SymbolKind::SymFile,
        (_, true, _) => SymbolKind::Symtab,
        (_, _, true) => SymbolKind::Dynsym,
        _ if has_exports => SymbolKind::PeExports,
        _ => module.stated_symbols().map_or(SymbolKind::None, SymbolTable::kind),
    };
    // The kernel's vDSO comes without debug information on every distribution.
    if &*module.path == "[vdso]" {
        return;
    }
    let id = module.build_id.as_ref().map_or(String::new(), |id| format!(" (build-id {id})"));
    let give = "give the file with --exe, its folder with --symbols, or use --debuginfod";
    if module.is_windows() {
        judge_windows(module, has_pdb, has_sym_file, report);
        return;
    }
    if module.is_apple() {
        judge_apple(module, has_dwarf, has_symtab, has_sym_file, &id, report);
        return;
    }
    if has_sym_file {
        return;
    }
    if report.problem.is_some() {
        let other = report.searched.iter().any(|(_, o)| matches!(o, Outcome::Mismatch { .. }));
        let what = if other { "the build that ran is needed" } else { "the file is needed" };
        report.remedy = Some(format!("{what}{id}: {give}"));
    } else if !has_dwarf && module.stated_symbols().is_some() {
        report.problem = Some(format!("names come from the dump itself{id}: source files and lines are missing"));
        report.remedy = Some(
            "give the kernel with debug information with --kernel, or the folder of the debug files with --symbols"
                .into(),
        );
    } else if !has_dwarf {
        let mismatch = separate.searched.iter().find(|(_, o)| matches!(o, Outcome::Mismatch { .. }));
        let looked = separate.searched.iter().filter(|(p, _)| p.parent().is_some()).count();
        report.problem = Some(match mismatch {
            Some((path, outcome)) => format!("no debug information{id}: {} is {outcome}", path.display()),
            None if looked == 1 => format!("no debug information{id}: looked in 1 place"),
            None => format!("no debug information{id}: looked in {looked} places"),
        });
        report.remedy = Some("give the folder of its debug file with --symbols, or use --debuginfod".into());
    } else if alternate.wanted && alternate.file.is_none() {
        report.problem = Some("its dwz alternate file is missing: names and types that it shares are unknown".into());
        report.remedy = Some("install the file that .gnu_debugaltlink names, or give its folder with --symbols".into());
    } else if report.verified == Verified::ProgramHeaders || report.verified == Verified::Layout {
        report.problem = Some("linked without a build-id: it was only compared by its segments".into());
        report.remedy = Some("link with --build-id".into());
    }
}

/// What an image of Windows lacks: names and lines come from its program database or a symbol file, unwinding from the
/// image itself or the symbol file.
fn judge_windows(module: &Module, has_pdb: bool, has_sym_file: bool, report: &mut FileReport) {
    let has_image = module.pe().is_some();
    let key = module.store_key().map(|k| format!(" (debug id {}, {})", k.id(), k.name())).unwrap_or_default();
    let mismatch = report.searched.iter().find(|(_, o)| matches!(o, Outcome::Mismatch { .. }));
    let other = mismatch.map(|(path, outcome)| format!("; {} is {outcome}", path.display())).unwrap_or_default();
    report.problem = match (has_pdb, has_sym_file, has_image) {
        (true, _, true) | (_, true, _) => None,
        (true, false, false) => Some(format!("its image was not found: unwinding is guessed{other}")),
        (false, false, true) => Some(format!("its program database was not found{key}{other}")),
        (false, false, false) => {
            Some(format!("{}: neither its image nor its program database was found{key}{other}", module.path))
        }
    };
    report.remedy = report.problem.is_some().then(|| {
        "give the folder of its .pdb and its image, or a symbol store, with --symbols, or name a server with \
         --symbol-server"
            .into()
    });
}

/// What an image of macOS or iOS lacks: names and lines come from its dSYM bundle or a symbol file, unwinding from the
/// image itself or the symbol file.
fn judge_apple(
    module: &Module,
    has_dwarf: bool,
    has_symtab: bool,
    has_sym_file: bool,
    id: &str,
    report: &mut FileReport,
) {
    let id = id.replace("build-id", "UUID");
    let mismatch = report.searched.iter().find(|(_, o)| matches!(o, Outcome::Mismatch { .. }));
    let other = mismatch.map(|(path, outcome)| format!("; {} is {outcome}", path.display())).unwrap_or_default();
    report.problem = match (has_dwarf, has_sym_file, module.main().is_some()) {
        (_, true, _) | (true, _, true) => None,
        (true, false, false) => Some(format!("its file was not found{id}: unwinding is guessed{other}")),
        (false, false, true) if has_symtab => Some(format!("its dSYM was not found{id}: no files and lines{other}")),
        (false, false, true) => Some(format!("its dSYM was not found{id}{other}")),
        (false, false, false) => Some(format!("{}: neither its file nor its dSYM was found{id}{other}", module.path)),
    };
    report.remedy = report.problem.is_some().then(|| "give the folder of the file and its .dSYM with --symbols".into());
}

/// The Debian package that would bring the debug information of a file, by dpkg's own lists; `None` elsewhere.
pub(crate) fn debug_package(path: &str) -> Option<String> {
    // With a merged /usr, packages may list either name of a file.
    let other = path.strip_prefix("/usr").map_or_else(|| format!("/usr{path}"), ToOwned::to_owned);
    let mut names: Vec<_> = std::fs::read_dir(DPKG).ok()?.flatten().map(|e| e.file_name()).collect();
    names.sort();
    for name in names {
        let Some(list) = name.to_str().and_then(|n| n.strip_suffix(".list")) else { continue };
        let mut text = String::new();
        let file = std::fs::File::open(Path::new(DPKG).join(&name)).ok()?;
        if file.take(LIMIT_LIST).read_to_string(&mut text).is_err() {
            continue;
        }
        if text.lines().any(|l| l == path || l == other) {
            let package = list.split(':').next().unwrap_or(list);
            // The C library's package predates the automatic ones.
            return Some(if package == "libc6" { "libc6-dbg".into() } else { format!("{package}-dbgsym") });
        }
    }
    None
}

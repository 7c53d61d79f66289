//! The C++ exception in flight or being handled: its type, and what() where the layout is known for certain.
//!
//! Source: the Itanium C++ ABI, "Exception Handling" 2.2 (`__cxa_exception`, `__cxa_eh_globals`) and "RTTI"; the order
//! of fields agrees between libstdc++ (libsupc++/unwind-cxx.h) and libc++abi (src/cxa_exception.h). A header is
//! believed only when the eight bytes of its exception class are those of a C++ runtime.

use super::scene::Scene;
use crate::variables::{Collector, thread_local_block};
use evidence::{Addr, ToU64};

/// Longest type name and what() kept.
const LIMIT_TEXT: usize = 4096;

/// Most bases followed from a class to `std::runtime_error`.
const LIMIT_BASES: usize = 64;

/// Most bytes of one thread-local block searched: a runtime's own has 32.
const LIMIT_BLOCK: u64 = 16 << 10;

/// An exception.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exception {
    /// Its type as written in C++.
    pub(super) type_name: String,
    /// What its `what()` returns.
    pub(super) what: Option<String>,
}

/// Bytes from `__cxa_exception` to its `_Unwind_Exception`, and from that to the object thrown.
///
/// x86-64 and AArch64: ten words (two of them pairs of ints), and 32 bytes. i386: eleven words aligned to 16, 32 bytes.
const fn distances(size: u8) -> (u64, u64) {
    if size == 4 { (48, 32) } else { (80, 32) }
}

/// What libc++abi keeps before `exceptionType` on 64-bit machines: padding and a count of references. Its pointers to
/// headers point there.
const BEFORE_TYPE: u64 = 16;

/// `GNUCC++\0` and `CLNGC++\0` as numbers; the last byte 1 marks a dependent exception (`std::rethrow_exception`).
const CLASSES: [u64; 2] = [0x474e_5543_432b_2b00, 0x434c_4e47_432b_2b00];

/// The exception that the thread has.
pub(super) fn find(scene: &Scene<'_, '_>) -> Option<Exception> {
    let mut headers = in_thread_local_storage(scene);
    if headers.is_empty() {
        headers = on_stack(scene);
    }
    headers.sort_unstable();
    headers.dedup();
    let [header] = *headers.as_slice() else { return None };
    let (to_unwind, to_object) = distances(scene.size);
    let object = header.checked_add(to_unwind)?.checked_add(to_object)?;
    let type_info = scene.word(header)?;
    let type_name = type_name(scene, type_info)?;
    Some(Exception { what: what(scene, object, type_info), type_name })
}

/// The header of the primary exception that an `_Unwind_Exception` at `unwind` belongs to.
fn header(scene: &Scene<'_, '_>, unwind: u64) -> Option<u64> {
    let (to_unwind, to_object) = distances(scene.size);
    let class = |at| scene.memory.read_u64(Addr(at), evidence::bytes::Endian::Little).ok();
    let found = class(unwind)?;
    let header = unwind.checked_sub(to_unwind)?;
    if CLASSES.contains(&found) {
        return Some(header);
    }
    if !CLASSES.contains(&(found ^ 1)) {
        return None;
    }
    // A dependent exception has the primary one's object in the place of its type, or, in libc++abi, before that.
    [Some(header), header.checked_sub(8)].into_iter().flatten().find_map(|at| {
        let unwind = scene.word(at)?.checked_sub(to_object)?;
        CLASSES.contains(&class(unwind)?).then(|| unwind.checked_sub(to_unwind)).flatten()
    })
}

/// `caughtExceptions` of the thread's `__cxa_eh_globals`: uncaught ones are caught by the runtime before it terminates.
fn in_thread_local_storage(scene: &Scene<'_, '_>) -> Vec<u64> {
    const RUNTIMES: [&str; 3] = ["libstdc++.", "libc++abi.", "libcxxrt."];
    let Some(pointer) = scene.thread.thread.registers.thread_pointer() else { return Vec::new() };
    let collector = Collector::new(scene.info, scene.memory, crate::values::Options::default());
    let (to_unwind, _) = distances(scene.size);
    let modules = scene.info.modules().list();
    let shared = |m: &debuginfo::Module| {
        let name = m.path.rsplit('/').next().unwrap_or_default();
        RUNTIMES.iter().any(|r| name.starts_with(r))
    };
    let any = modules.iter().any(shared);
    let mut headers = Vec::new();
    for (index, module) in modules.iter().enumerate() {
        // Linked statically, the runtime's variables are among the program's own.
        let holds =
            shared(module) || (!any && scene.info.symbols(index).is_some_and(|s| s.by_name("__cxa_throw").is_some()));
        if !holds {
            continue;
        }
        let Some(block) = thread_local_block(&collector, index, pointer) else { continue };
        let end = block.end.min(block.start.saturating_add(LIMIT_BLOCK));
        for word in scene.words(&(block.start..end)) {
            headers.extend(from_pointer(word, to_unwind).filter(|_| word != 0).filter_map(|u| header(scene, u)));
        }
    }
    headers
}

/// Where the `_Unwind_Exception` may lie when `word` points at a `__cxa_exception`.
fn from_pointer(word: u64, to_unwind: u64) -> impl Iterator<Item = u64> {
    let plain = word.checked_add(to_unwind);
    let counted = plain.and_then(|p| p.checked_add(BEFORE_TYPE)).filter(|_| to_unwind == 80);
    plain.into_iter().chain(counted)
}

/// Without thread-local storage: what the frames from the throw to the abort refer to.
fn on_stack(scene: &Scene<'_, '_>) -> Vec<u64> {
    let names = ["__cxa_throw", "__cxa_rethrow", "_Unwind_RaiseException", "_Unwind_Resume_or_Rethrow"];
    let Some(throw) = scene.find(|n| names.contains(&n)) else { return Vec::new() };
    let stack = scene.stack(0, throw).unwrap_or_default();
    let mut words = scene.words(&stack);
    words.extend(scene.registers(0..throw.saturating_add(1)));
    let (to_unwind, to_object) = distances(scene.size);
    let mut headers = Vec::new();
    for word in words {
        // The unwinder's header, the runtime's, or the object.
        let places = [Some(word), word.checked_sub(to_object)].into_iter().flatten();
        headers.extend(places.chain(from_pointer(word, to_unwind)).filter_map(|unwind| header(scene, unwind)));
    }
    // Exceptions are allocated; on the stack lies what the runtime compared the class with.
    headers.retain(|header| !stack.contains(header));
    headers
}

/// The name in a `std::type_info`: a table of virtual functions, and the mangled name.
fn type_name(scene: &Scene<'_, '_>, type_info: u64) -> Option<String> {
    let name = mangled(scene, type_info)?;
    let spelled = debuginfo::demangle::demangle(&format!("_ZTS{name}"))?;
    spelled.strip_prefix("typeinfo name for ").map(str::to_owned)
}

fn mangled(scene: &Scene<'_, '_>, type_info: u64) -> Option<String> {
    // The class of the type_info itself is one of the runtime's, where its table has a name.
    if let Some((table, _)) = scene.symbol(scene.word(type_info)?)
        && !table.starts_with("_ZTVN10__cxxabiv1")
    {
        return None;
    }
    let name = scene.memory.read_c_string(Addr(scene.word_at(type_info, 1)?), LIMIT_TEXT).ok()?;
    // GNU C++ marks names that are unique by address only.
    let name = name.strip_prefix('*').unwrap_or(&name);
    let fits = !name.is_empty() && name.len() < LIMIT_TEXT && name.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| name.to_owned())
}

/// `what()` of `std::runtime_error` and `std::logic_error`, and of what derives from them alone and does not override
/// it: a pointer to the characters behind the table of virtual functions, in libstdc++ and libc++ alike.
fn what(scene: &Scene<'_, '_>, object: u64, type_info: u64) -> Option<String> {
    const KNOWN: [(&str, &str); 2] =
        [("St13runtime_error", "_ZNKSt13runtime_error4whatEv"), ("St11logic_error", "_ZNKSt11logic_error4whatEv")];
    let mut class = type_info;
    for _ in 0..LIMIT_BASES {
        let name = mangled(scene, class)?;
        if let Some((_, method)) = KNOWN.iter().find(|(known, _)| *known == name) {
            let function = scene.word_at(scene.word(object)?, 2)?;
            if !scene.is_function(function, method) {
                return None;
            }
            let text = scene.memory.read_c_string(Addr(scene.word_at(object, 1)?), LIMIT_TEXT).ok()?;
            return (text.len().to_u64() > 0).then_some(text);
        }
        let (table, _) = scene.symbol(scene.word(class)?)?;
        if table != "_ZTVN10__cxxabiv120__si_class_type_infoE" {
            return None;
        }
        class = scene.word_at(class, 2)?;
    }
    None
}

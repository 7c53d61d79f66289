//! Addresses of thread-local variables, as glibc keeps them.
//!
//! Each thread has a vector of blocks (the DTV), indexed by the module's TLS id; the id is in the loader's
//! `struct link_map`, at an offset that libc states for debuggers in `_thread_db_link_map_l_tls_modid` (glibc:
//! nptl_db/db_info.c). Where the vector hangs is fixed by each ABI (glibc: sysdeps/*/nptl/tls.h, `tcbhead_t`).

use super::Collector;
use debuginfo::Module;
use debuginfo::eval::Missing;
use evidence::bytes::Endian;
use evidence::{Addr, Arch};
use std::collections::HashSet;

/// Most entries of the loader's list that are followed: programs with thousands of plugins exist, with 65,536 none.
const LIMIT_LINK_MAP: usize = 65_536;

/// Largest TLS id believed: one per loaded module.
const LIMIT_MODULE_ID: u64 = 65_536;

/// TLS ids by the runtime address of each module's dynamic section.
#[derive(Debug, Default)]
pub(super) struct ModuleIds {
    known: Vec<(u64, u64)>,
    /// Why there are none.
    problem: Option<&'static str>,
}

const ENDIAN: Endian = Endian::Little;

fn file_name(module: &Module) -> &str {
    module.path.rsplit('/').next().unwrap_or("")
}

impl ModuleIds {
    pub(super) fn read(collector: &Collector<'_, '_>) -> Self {
        match Self::follow(collector) {
            Ok(known) => Self { known, problem: None },
            Err(problem) => Self { known: Vec::new(), problem: Some(problem) },
        }
    }

    /// The runtime address of a symbol of a module whose file name starts with one of `names`.
    fn symbol(collector: &Collector<'_, '_>, names: &[&str], symbol: &str) -> Option<(u64, u8)> {
        let info = collector.types.info();
        info.modules().list().iter().enumerate().find_map(|(n, module)| {
            if !names.iter().any(|name| file_name(module).starts_with(name)) {
                return None;
            }
            let found = info.symbols(n)?.by_name(symbol)?;
            Some((module.to_addr(found.start).0, module.main()?.arch().pointer_size()))
        })
    }

    fn follow(collector: &Collector<'_, '_>) -> Result<Vec<(u64, u64)>, &'static str> {
        let memory = collector.memory;
        let descriptor =
            Self::symbol(collector, &["libc.so", "libc-", "libpthread"], "_thread_db_link_map_l_tls_modid");
        let (descriptor, size) = descriptor.ok_or("no libc that says where TLS ids are")?;
        // Three 32-bit numbers: bits of the field, number of elements, offset in bytes.
        let bits =
            memory.read_u32(Addr(descriptor), ENDIAN).map_err(|_| "libc's description of TLS ids is unreadable")?;
        let offset = memory
            .read_u32(Addr(descriptor.wrapping_add(8)), ENDIAN)
            .map_err(|_| "libc's description of TLS ids is unreadable")?;
        if bits != u32::from(size).saturating_mul(8) {
            return Err("libc's description of TLS ids is not understood");
        }
        let (r_debug, _) = Self::symbol(collector, &["ld-", "ld.so", "ld64.so"], "_r_debug")
            .ok_or("the dynamic loader has no symbol `_r_debug`")?;
        let word = |at: u64| memory.read_pointer(Addr(at), size, ENDIAN).map_err(|_| "the loader's list is unreadable");
        let step = u64::from(size);
        let mut at = word(r_debug.wrapping_add(step))?;
        let mut known = Vec::new();
        let mut seen = HashSet::new();
        while at != 0 && known.len() < LIMIT_LINK_MAP && seen.insert(at) {
            // struct link_map: l_addr, l_name, l_ld, l_next.
            let dynamic = word(at.wrapping_add(step.wrapping_mul(2)))?;
            let id = word(at.wrapping_add(u64::from(offset)))?;
            if id > LIMIT_MODULE_ID {
                return Err("the loader's TLS ids are not plausible");
            }
            known.push((dynamic, id));
            at = word(at.wrapping_add(step.wrapping_mul(3)))?;
        }
        Ok(known)
    }

    fn of(&self, collector: &Collector<'_, '_>, module: usize) -> Result<u64, &'static str> {
        let image = collector.types.info().module(module).ok_or("its module is not known")?;
        let file = image.main().ok_or("its module has no file")?;
        let Some(dynamic) = file.dynamic() else {
            // A static program has the first and only block.
            let glibc = collector.types.info().symbols(module).and_then(|s| s.by_name("__libc_setup_tls"));
            return if glibc.is_some() { Ok(1) } else { Err("a static program without glibc's `__libc_setup_tls`") };
        };
        let at = dynamic.start.wrapping_add(image.slide);
        match self.known.iter().find(|(dynamic, _)| *dynamic == at) {
            Some((_, 0)) => Err("the loader gave its module no TLS id"),
            Some((_, id)) => Ok(*id),
            None => Err(self.problem.unwrap_or("its module is not in the loader's list")),
        }
    }
}

/// The thread-local storage of `module` that the thread has: from its first byte to the end of its segment.
pub(crate) fn thread_local_block(
    collector: &Collector<'_, '_>,
    module: usize,
    thread_pointer: Addr,
) -> Option<std::ops::Range<u64>> {
    let template = collector.types.info().module(module)?.main()?.tls()?;
    let start = address(collector, module, Some(thread_pointer), 0).ok()?;
    Some(start..start.checked_add(template.end.checked_sub(template.start)?)?)
}

/// The address of thread-local storage at `offset` of `module` for the thread whose thread pointer is given.
pub(super) fn address(
    collector: &Collector<'_, '_>,
    module: usize,
    thread_pointer: Option<Addr>,
    offset: u64,
) -> Result<u64, Missing> {
    let pointer = thread_pointer.ok_or(Missing::Tls("the thread pointer was not recorded"))?;
    let id = collector.module_ids().of(collector, module).map_err(Missing::Tls)?;
    let image = collector.types.info().module(module).and_then(|m| m.main());
    let (size, skip) = match image.map(|f| f.arch()) {
        Some(Arch::X86_64) => (8_u8, 8_u64),
        Some(Arch::X86) => (4, 4),
        Some(Arch::Aarch64) => (8, 0),
        _ => return Err(Missing::Tls("thread-local storage of this architecture is not known here")),
    };
    // The offset must lie in the module's TLS segment, else debug information or module are not what they seem.
    let template = image.and_then(|f| f.tls()).ok_or(Missing::Tls("its module has no TLS segment"))?;
    if offset >= template.end.saturating_sub(template.start) {
        return Err(Missing::Tls("the offset lies outside the module's TLS segment"));
    }
    let word = |at: u64| collector.memory.read_pointer(Addr(at), size, ENDIAN).map_err(Missing::Memory);
    let vector = word(pointer.0.wrapping_add(skip))?;
    // dtv_t is two words; the one before the vector's start says how many entries there are.
    let entry = u64::from(size).wrapping_mul(2);
    let entries = word(vector.wrapping_sub(entry))?;
    if id > entries {
        return Err(Missing::Tls("this thread has not used its module's thread-local storage yet"));
    }
    let block = word(vector.wrapping_add(entry.wrapping_mul(id)))?;
    let unallocated = if size == 4 { u64::from(u32::MAX) } else { u64::MAX };
    if block == 0 || block == unallocated {
        return Err(Missing::Tls("this thread has not used its module's thread-local storage yet"));
    }
    Ok(block.wrapping_add(offset))
}

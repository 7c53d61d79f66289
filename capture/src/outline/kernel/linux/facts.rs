//! Facts about the machine: release, command line, uptime, taint, memory.

use super::context::Linux;
use evidence::{Addr, Attribute};

/// Longest command line: `COMMAND_LINE_SIZE` is 2048 on x86, 4096 elsewhere.
const LIMIT_COMMAND_LINE: usize = 4096;
/// Letters of the taint flags, bit 0 first (Documentation/admin-guide/tainted-kernels.rst).
const TAINT: &str = "PFSRMBUDAWCIOELKXTNJ";

/// Wall clock and uptime, nanoseconds.
pub(super) struct Clock {
    pub wall_ns: u64,
    pub uptime_ns: u64,
}

/// The timekeeper's state as of the last tick: in a variable of its own up to 6.12, part of `tk_core` since.
pub(super) fn clock(linux: &Linux<'_>) -> Option<Clock> {
    const SECOND: u64 = 1_000_000_000;
    let at = linux.symbol("shadow_timekeeper").or_else(|| {
        let inside = linux.fields.layouts.member("tk_data", "timekeeper")?;
        Some(linux.symbol("tk_core").or_else(|| linux.symbol("timekeeper_data"))?.wrapping_add(inside.offset))
    })?;
    let member = |path: &str| linux.fields.integer(at, "timekeeper", path).ok();
    let seconds = member("xtime_sec")?;
    let shift = u32::try_from(member("tkr_mono.shift")?).ok().filter(|s| *s < 64)?;
    let nanoseconds = member("tkr_mono.xtime_nsec")? >> shift;
    let (to_seconds, to_ns) = (member("wall_to_monotonic.tv_sec")?, member("wall_to_monotonic.tv_nsec")?);
    let wall_ns = seconds.checked_mul(SECOND)?.checked_add(nanoseconds)?;
    let offset = i128::from(to_seconds.cast_signed()).checked_mul(i128::from(SECOND))?;
    let offset = offset.checked_add(i128::from(to_ns.cast_signed()))?;
    let uptime_ns = u64::try_from(i128::from(wall_ns).checked_add(offset)?).ok()?;
    Some(Clock { wall_ns, uptime_ns })
}

/// The letters of a taint mask, in the order of its bits.
fn letters(mask: u64) -> String {
    TAINT
        .chars()
        .enumerate()
        .filter(|(bit, _)| mask.checked_shr(u32::try_from(*bit).unwrap_or(64)).unwrap_or(0) & 1 == 1)
        .map(|(_, c)| c)
        .collect()
}

/// All facts that can be had.
pub(super) fn read(linux: &Linux<'_>, panic_cpu: Option<u32>, online: usize) -> Vec<Attribute> {
    let mut facts = Vec::new();
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            facts.push(Attribute { key: format!("kernel.{key}").into(), thread: None, value: value.into() });
        }
    };
    let names = linux.symbol("init_uts_ns").zip(linux.offset("uts_namespace", "name"));
    let name = |member: &str| {
        let (at, inside) = names?;
        linux.fields.text(at.wrapping_add(inside), "new_utsname", member).ok()
    };
    add("release", name("release").or_else(|| linux.info.text("OSRELEASE").map(str::to_owned)));
    add("version", name("version"));
    add("host", name("nodename"));
    add("machine", name("machine"));
    add("build_id", linux.info.text("BUILD-ID").map(str::to_owned));
    add("command_line", linux.pointer("saved_command_line").and_then(|at| linux.text(at, LIMIT_COMMAND_LINE)));
    add("uptime_ns", clock(linux).map(|c| c.uptime_ns.to_string()));
    let taint = linux.long("tainted_mask");
    add("tainted_mask", taint.map(|m| m.to_string()));
    add("taint", taint.map(letters));
    add("cpus_online", Some(online.to_string()));
    add("panic_cpu", panic_cpu.map(|n| n.to_string()));
    add("types", Some(linux.fields.layouts.source().to_owned()));
    for (key, pages) in memory(linux) {
        add(&format!("memory.{key}"), pages.checked_mul(linux.info.page_size()).map(|b| b.to_string()));
    }
    facts
}

/// Pages by what they are used for.
fn memory(linux: &Linux<'_>) -> Vec<(&'static str, u64)> {
    let counter = |array: &str, item: &str| {
        let number = u64::try_from(linux.fields.layouts.enumerator(item)?).ok()?;
        let at: Addr = linux.symbol(array)?.wrapping_add(number.checked_mul(8)?);
        // Counters of CPUs are summed up now and then, and a sum may be below zero for a while.
        linux.word(at).filter(|n| n.cast_signed() >= 0)
    };
    let total = linux.long("_totalram_pages").or_else(|| linux.long("totalram_pages"));
    let slab = |kind: &str| {
        let names = [format!("NR_SLAB_{kind}_B"), format!("NR_SLAB_{kind}")];
        names.iter().find_map(|name| counter("vm_node_stat", name))
    };
    let anonymous = ["NR_ANON_MAPPED", "NR_ANON_PAGES"].iter().find_map(|n| counter("vm_node_stat", n));
    let rows = [
        ("total", total),
        ("free", counter("vm_zone_stat", "NR_FREE_PAGES")),
        ("file", counter("vm_node_stat", "NR_FILE_PAGES")),
        ("anonymous", anonymous),
        ("slab_reclaimable", slab("RECLAIMABLE")),
        ("slab_unreclaimable", slab("UNRECLAIMABLE")),
    ];
    rows.into_iter().filter_map(|(key, pages)| Some((key, pages?))).collect()
}

#[cfg(test)]
mod tests {
    use super::letters;

    #[test]
    fn taint_letters() {
        assert_eq!(letters(0), "");
        assert_eq!(letters(1 << 7 | 1 << 12 | 1 << 13), "DOE");
        assert_eq!(letters(u64::MAX).len(), 20);
    }
}

//! LWPs: `lstatus` and `lpsinfo`, whose entries may be larger than those known here, and names one by one.

use super::files::Proc;
use super::registers::narrowed;
use crate::elfcore::illumos::threads::{LIVE_STATUS, info, live_status};
use evidence::bytes::{Endian, c_str_at, u32_at, u64_at};
use evidence::{Arch, Context, Doubt, Registers, Thread, ThreadId, ToUsize};
use std::collections::BTreeMap;
use std::io;

const LE: Endian = Endian::Little;
/// Bytes of `prheader_t`: how many entries, and bytes from one to the next.
const HEADER: usize = 16;
/// Bytes of an `lwpsinfo_t`.
const INFO: usize = 128;
/// LWPs of one process.
const LIMIT_LWPS: usize = 1 << 20;

/// The entries of an `l` file; `least` is what one has at least.
fn entries(bytes: &[u8], least: usize) -> Result<Vec<&[u8]>, String> {
    let field = |at| u64_at(bytes, at, LE).ok_or_else(|| format!("a header of 16 bytes, found {}", bytes.len()));
    let (count, size) = (field(0)?.to_usize(), field(8)?.to_usize());
    if count > 0 && size < least {
        return Err(format!("entries of at least {least} bytes, found {size}"));
    }
    let all = bytes.get(HEADER..).unwrap_or_default().chunks_exact(size.max(1));
    Ok(all.take(count.min(LIMIT_LWPS)).collect())
}

/// All LWPs. `agent` is the number of the agent LWP, 0 for none.
pub(super) fn read(proc: &dyn Proc, arch: Arch, agent: u64, doubts: &mut Vec<Doubt>) -> io::Result<Vec<Thread>> {
    let mut threads: BTreeMap<u64, Thread> = BTreeMap::new();
    let new = |id| Thread::new(ThreadId(id), Context::Lwp, Registers::new(arch));
    let status = proc.read("lstatus")?;
    let list = entries(&status, LIVE_STATUS)
        .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, format!("lstatus: expected {why}")))?;
    for raw in list {
        let Some(id) = u32_at(raw, 4, LE).map(u64::from) else { continue };
        let thread = threads.entry(id).or_insert_with(|| new(id));
        live_status(thread, Arch::X86_64, raw);
        if arch == Arch::X86 {
            thread.registers = narrowed(&thread.registers);
        }
        if u32_at(raw, 0, LE).is_some_and(|flags| flags & super::attach::PR_STOPPED == 0) {
            doubts.push(Doubt::new(
                "registers",
                format!("LWP {id} did not stop in time: its registers are of no moment"),
            ));
            thread.registers = Registers::new(arch);
        }
    }
    let infos = proc.read("lpsinfo").unwrap_or_default();
    match entries(&infos, INFO) {
        Ok(list) => {
            for raw in list {
                let Some(id) = u32_at(raw, 4, LE).map(u64::from) else { continue };
                // A zombie has no status.
                let thread = threads.entry(id).or_insert_with(|| new(id));
                info(thread, true, raw);
            }
        }
        Err(why) => doubts.push(Doubt::new("threads", format!("lpsinfo: expected {why}: states are not known"))),
    }
    for (id, thread) in &mut threads {
        // An LWP may be gone by now, and older systems have no names.
        let name = proc.read(&format!("lwp/{id}/lwpname")).ok().and_then(|b| c_str_at(&b, 0)).filter(|n| !n.is_empty());
        thread.name = name.map(Into::into);
        if *id == agent && agent != 0 {
            thread.name = Some("agent lwp".into());
            doubts
                .push(Doubt::new("threads", format!("LWP {id} is an agent that another program put into the process")));
        }
        if thread.registers.known() == 0 && !doubts.iter().any(|d| d.why.starts_with(&format!("LWP {id} "))) {
            let state = thread.state.as_ref().map_or("unknown", |s| &s.word);
            doubts.push(Doubt::new("registers", format!("LWP {id} has no registers (its state is {state})")));
        }
    }
    Ok(threads.into_values().collect())
}

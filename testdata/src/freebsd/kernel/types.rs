//! The types of a made kernel as CTF.

use super::uma::{self, Kind};
use super::{Layout, Port};
use crate::ctf::CtfWriter;
use std::collections::HashMap;

pub(super) fn types(port: Port, l: &Layout, version: u8) -> Vec<u8> {
    let mut w = CtfWriter::new(version).compressed();
    let int = w.integer("int", true, 32, 4);
    let short = w.integer("unsigned short", false, 16, 2);
    let long = w.integer("unsigned long", false, port.pointer() as u32 * 8, port.pointer());
    let character = w.integer("char", true, 8, 1);
    let name = w.array(character, int, 20);
    let text = w.pointer(character);
    let names = ["TDS_INACTIVE", "TDS_INHIBITED", "TDS_CAN_RUN", "TDS_RUNQ", "TDS_RUNNING"];
    let values: Vec<(&str, i32)> = names.iter().zip(l.first_state..).map(|(n, v)| (*n, v)).collect();
    let state = w.enumeration("td_states", &values);
    let proc = w.forward("proc");
    let to_proc = w.pointer(proc);
    let bits = |n: u64| n * 8;
    w.structure(
        "proc",
        1300,
        &[("p_pid", int, bits(l.p_pid)), ("p_pptr", to_proc, bits(l.p_pptr)), ("p_comm", name, bits(l.p_comm))],
    );
    w.structure(
        "thread",
        1800,
        &[
            ("td_tid", int, bits(l.td_tid)),
            ("td_name", name, bits(l.td_name)),
            ("td_oncpu", int, bits(l.td_oncpu)),
            ("td_state", state, bits(l.td_state)),
            ("td_inhibitors", int, bits(l.td_inhibitors)),
            ("td_wmesg", text, bits(l.td_wmesg)),
            ("td_lockname", text, bits(l.td_wmesg + 8)),
            ("td_kstack", long, bits(l.td_kstack)),
            ("td_kstack_pages", short, bits(l.td_kstack_pages)),
        ],
    );
    w.structure("linker_file", 256, &[("address", text, bits(l.kld_address)), ("size", long, bits(l.kld_size))]);
    // The allocator's.
    let signed = w.integer("short", true, 16, 2);
    let unsigned = w.integer("unsigned int", false, 32, 4);
    let wide = w.integer("unsigned long long", false, 64, 8);
    let mut known = HashMap::new();
    for d in uma::structures(port, l) {
        let mut members = Vec::new();
        for (member, kind, offset) in &d.members {
            let ty = match kind {
                Kind::Pointer => text,
                Kind::Number(2, true) => signed,
                Kind::Number(2, false) => short,
                Kind::Number(8, _) => wide,
                Kind::Number(..) => unsigned,
                Kind::Words(count) => w.array(long, int, *count as u32),
                Kind::Pointers => w.array(text, int, 0),
                Kind::Inner(name) => known[name],
                Kind::Inners(name) => w.array(known[name], int, 0),
            };
            members.push((*member, ty, bits(*offset)));
        }
        let id = if d.union { w.union(d.name, d.size, &members) } else { w.structure(d.name, d.size, &members) };
        known.insert(d.name, id);
    }
    w.finish()
}

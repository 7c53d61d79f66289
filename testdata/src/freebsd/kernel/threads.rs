//! Processes and threads of a made kernel: one that died of a trap, one that sleeps, one that a CPU ran.

use super::{Builder, COPY, Layout, Port, Process, STACK, STACKS, Story, function, uma};

/// Three processes: the kernel's with two threads, the one that died, and one that sleeps.
pub(super) fn processes(b: &mut Builder, l: &Layout, frame_pointers: bool) {
    let spec: [Process; 3] = [
        (4321, "ioctl-test", &[(100_077, "")]),
        (77, "sshd", &[(100_055, "sshd")]),
        (11, "idle", &[(100_003, "idle: cpu0")]),
    ];
    let dumppcb = b.global("dumppcb", l.pcb_size, &[0]);
    let stoppcbs = b.global("stoppcbs", l.pcb_size * 2, &[0]);
    b.global("dumptid", 4, &100_077_u32.to_le_bytes());
    let procs: Vec<u64> = spec.iter().map(|_| b.heap(1300)).collect();
    for (n, (pid, comm, threads)) in spec.iter().enumerate() {
        let proc = procs[n];
        b.half(proc + l.p_pid, *pid);
        b.memory.write(proc + l.p_comm, comm.as_bytes());
        b.word(proc + l.p_list, procs.get(n + 1).copied().unwrap_or(0));
        b.word(proc + l.p_pptr, if n == 0 { procs[1] } else { 0 });
        let mut link = proc + l.p_threads;
        for (tid, name) in *threads {
            let td = b.heap(1800);
            b.word(link, td);
            link = td + l.td_plist;
            b.half(td + l.td_tid, *tid);
            b.memory.write(td + l.td_name, name.as_bytes());
            let stack = b.port.at(STACKS) + n as u64 * STACK;
            b.word(td + l.td_kstack, stack);
            b.memory.write(td + l.td_kstack_pages, &4_u16.to_le_bytes());
            thread(b, l, n, td, stack, (dumppcb, stoppcbs));
            if n == 1 && !frame_pointers {
                // Something else than a frame record.
                let (pcb, other) = (td + l.td_pcb, b.bytes(0xffff_ffff_dead_beef));
                let pcb = b.memory.number(pcb, b.port.pointer());
                b.memory.write(pcb + 4 * b.port.pointer(), &other);
            }
        }
    }
    b.pointer("allproc", procs[0]);
}

/// What the registers of the trap point to: into an item that was freed, to one that is taken, to a free one of another
/// zone, nowhere, and to one that was freed twice.
fn pointed(b: &Builder) -> [u64; 5] {
    let port = b.port;
    let twice = if b.story == Story::Twice { port.item(uma::TWICE) } else { 0 };
    [port.item(uma::WAITS_ON_CPU) + 8, port.item(uma::TAKEN), port.buffer(1), port.wild(), twice]
}

fn thread(b: &mut Builder, l: &Layout, n: usize, td: u64, stack: u64, saved: (u64, u64)) {
    let frames = stack + 0x2000;
    match n {
        // It died of a page fault in sys_ioctl, on CPU 1.
        0 => {
            b.half(td + l.td_oncpu, 1);
            b.half(td + l.td_state, (l.first_state + 4) as u32);
            b.pcb(saved.0, frames, frames - 16, b.function("doadump"), l.osreldate);
            let (width, before) = (b.port.pointer(), ["vpanic", "panic", "trap_fatal", "trap", "calltrap"]);
            let inner = frames + 0x400;
            // Where a program's own stack is.
            let user = match b.port {
                Port::I386 => 0x800,
                Port::Arm64 => inner + 0x200,
                _ => 0x7fff_ffff_e000,
            };
            b.chain(inner, &["amd64_syscall", "fast_syscall_common"], user);
            // The trap frame lies where calltrap's stack pointer was.
            let (trap, call) = (frames + 4 * 64 + 2 * width, inner + 64 + 2 * width);
            match b.port {
                Port::Amd64 | Port::Amd64Old => {
                    b.chain(frames, &before, inner);
                    b.word(trap + 64, inner);
                    for (offset, value) in [0, 8, 16, 24, 32].into_iter().zip(pointed(b)) {
                        b.word(trap + offset, value);
                    }
                    b.word(trap + 152, function("sys_ioctl"));
                    b.word(trap + 160, 0x20);
                    b.word(trap + 176, frames + 0x3c0);
                    b.word(call + 152, 0x20_1234);
                    b.word(call + 160, 0x43);
                }
                Port::I386 => {
                    // Since 12 the entry code runs in a copy, and keeps the trap frame's address in the frame pointer.
                    let new = l.osreldate >= 1_400_000;
                    let (trap, call) = (trap + if new { 8 } else { 4 }, call + 4);
                    b.chain(frames, &before, if new { trap } else { inner });
                    if new {
                        b.word(frames + 4 * 64 + width, b.function("calltrap") + COPY);
                    }
                    b.word(trap + 20, inner);
                    for (offset, value) in [12, 16, 32, 36, 28].into_iter().zip(pointed(b)) {
                        b.word(trap + offset, value);
                    }
                    b.word(trap + 52, b.function("sys_ioctl"));
                    b.word(trap + 56, 0x20);
                    b.word(call + 52, 0x20_1234);
                    b.word(call + 56, 0x33);
                }
                Port::Arm64 => {
                    // The frame pointer is the end of the trap frame. Up to 13 a record of the frame pointer and the
                    // link register follows; what was the stack begins 128 bytes above.
                    let (end, old) = (frames + 0x300, l.osreldate < 1_400_000);
                    let (size, general, behind) = if old { (272, 32, 144) } else { (288, 48, 128) };
                    b.chain(frames, &before, end);
                    b.word(end - size, end + behind);
                    b.word(end - size + 8, b.function("sys_ioctl"));
                    b.word(end - size + 16, b.function("sys_ioctl"));
                    for (n, value) in pointed(b).into_iter().enumerate() {
                        b.word(end - size + general + n as u64 * 8, value);
                    }
                    b.word(end - size + general + 29 * 8, inner);
                    if old {
                        b.word(end, inner);
                        b.word(end + 8, b.function("sys_ioctl"));
                    } else {
                        // What is there by chance looks like a frame record.
                        b.word(end, frames);
                        b.word(end + 8, b.function("sched_switch"));
                    }
                }
            }
        }
        // It sleeps.
        1 => {
            b.half(td + l.td_oncpu, u32::MAX);
            b.half(td + l.td_state, (l.first_state + 1) as u32);
            let waits_for_lock = b.story == Story::Twice;
            b.half(td + l.td_inhibitors, if waits_for_lock { 8 } else { 2 });
            let wait = b.string(if waits_for_lock { "process lock" } else { "select" });
            b.word(td + l.td_wmesg + if waits_for_lock { 8 } else { 0 }, wait);
            let pcb = b.heap(l.pcb_size);
            b.word(td + l.td_pcb, pcb);
            b.pcb(pcb, frames, frames - 16, b.function("sched_switch"), l.osreldate);
            b.chain(frames, &["sleepq_wait", "fork_exit"], 0);
            b.word(frames + 64, 0);
            if let Some(at) = b.in_module {
                // The module's function slept, called by the first function of a thread.
                let width = b.port.pointer();
                b.word(frames + 64, frames + 128);
                b.word(frames + 64 + width, at);
                b.word(frames + 128, 0);
            }
        }
        // CPU 0 was stopped.
        _ => {
            b.half(td + l.td_oncpu, 0);
            b.half(td + l.td_state, (l.first_state + 4) as u32);
            b.pcb(saved.1, frames, frames - 16, b.function("cpustop_handler"), l.osreldate);
            b.chain(frames, &["fork_exit"], frames + 64);
            b.word(frames + 64, 0);
        }
    }
}

//! Linux kernels: with nothing but the dump, and better with the kernel's file.
//!
//! VMCOREINFO leads to the kernel's table of its own symbols, those lead to its types (BTF) and unwind tables (ORC), and
//! with symbols and types its structures are walked: tasks, modules, CPUs, log. Nothing has a built-in offset. With a
//! file whose build-id is the dump's, lines and inlined calls come from its DWARF.

mod context;
mod cpus;
mod facts;
mod image;
mod info;
mod list;
mod log;
mod modules;
mod old_log;
mod panic;
mod pids;
mod state;
mod switched;
mod tasks;
#[cfg(test)]
mod testing;

use super::{Given, Kernel};
use context::{Described, Linux};
use debuginfo::elf::ElfFile;
use debuginfo::images::{Image, Verified};
use debuginfo::layout::Fields;
use debuginfo::{DebugInfo, Modules};
use evidence::bytes::Endian;
use evidence::{Addr, Context, Doubts, Origin, Registers, Thread, ThreadId, ThreadState};
use snapshot_format::schema;
use std::sync::OnceLock;

/// What a Linux kernel's memory says of it.
pub(super) fn outline(given: Given<'_>) -> Option<Kernel> {
    let info = info::Info::of(given.target);
    let mut kernel = Kernel::recorded(given);
    if info.is_empty() {
        return Some(kernel);
    }
    let search = image::search(given.locator, &info, given.memory, given.doubts);
    let open = || search.file.as_ref().and_then(|path| ElfFile::open(path).ok());
    let file = open();
    // Megabytes that are read once: not through the cache.
    let carried = image::carried(&info, given.target.memory(), file.as_ref(), given.doubts);
    // The tables of the kernel's file, for what memory does not say.
    let whole = open().map(|f| Image { file: Some((f, Verified::BuildId)), ..Image::at("vmlinux", Addr(0), u64::MAX) });
    let of_file = Modules::of_images(whole.into_iter().collect(), &[], given.locator);
    let passing = Doubts::new();
    let tables = DebugInfo::new(&of_file, &passing);
    let mut images = {
        let described = Described { btf: carried.btf.as_deref(), info: &tables, dwarf: OnceLock::new() };
        let linux = Linux {
            info: &info,
            fields: Fields { layouts: &described, memory: given.memory, endian: Endian::Little, pointer: 8 },
            doubts: given.doubts,
            kallsyms: carried.kallsyms.as_ref(),
            file: &tables,
            slide: info.kernel_offset().unwrap_or(0),
        };
        let modules = modules::images(&linux, carried.orc.as_ref().map(debuginfo::kernel::Orc::version));
        fill(&mut kernel, &linux, &modules);
        modules
    };
    match image::image(&info, search, carried, file) {
        Some(image) => images.push(image),
        None => given.doubts.push(evidence::Doubt::new(
            "kernel-image",
            "where the kernel's code lies is not known: functions have no names; give the kernel's file with --kernel",
        )),
    }
    kernel.modules = Modules::of_images(images, &[], given.locator);
    Some(kernel)
}

/// Everything but the images.
fn fill(kernel: &mut Kernel, linux: &Linux<'_>, modules: &[Image]) {
    kernel.log = log::read(linux);
    let places = tasks::Places::of(linux);
    let mut tasks = places.all(linux);
    let mut cpus = cpus::all(linux, &tasks);
    let idle = cpus.iter().filter_map(|cpu| places.idle(linux, cpu.number, cpu.idle?));
    let idle: Vec<tasks::Task> = idle.collect();
    tasks.splice(0..0, idle);
    let live = kernel.identity.origin == Origin::LiveKernel;
    cpus::assign(linux, &mut cpus, &tasks, &kernel.threads, live);
    if !tasks.is_empty() {
        kernel.threads = threads(linux, &tasks, &cpus);
    }
    kernel.tasks = tasks.iter().map(row).collect();
    kernel.event = panic::event(linux, &cpus, &kernel.log);
    kernel.attributes.extend(facts::read(linux, panic::cpu(linux), cpus.len()));
    let state = state::State::new(linux, modules, &tasks, &cpus, &kernel.threads);
    kernel.attributes.extend(state.read(&kernel.log));
    let fact = |key: &str| kernel.attributes.iter().find(|a| &*a.key == key).map(|a| a.value.clone());
    let (release, host) = (fact("kernel.release"), fact("kernel.host"));
    let identity = &mut kernel.identity;
    identity.release = identity.release.take().or(release);
    identity.host = identity.host.take().or(host);
    let crashed = kernel.event.as_ref().and_then(|e| e.thread);
    if let Some(task) = tasks.iter().find(|t| crashed == Some(ThreadId(t.id))) {
        identity.pid = task.tgid;
        identity.parent_pid = task.parent;
        identity.command = task.name.as_deref().map(Into::into).or_else(|| identity.command.take());
    }
    identity.taken_at_ns = identity.taken_at_ns.or_else(|| facts::clock(linux).map(|c| c.wall_ns));
}

fn threads(linux: &Linux<'_>, tasks: &[tasks::Task], cpus: &[cpus::Cpu]) -> Vec<Thread> {
    let frame = switched::Frame::of(linux);
    if frame.is_none() {
        linux.doubt("tasks", "nothing describes the frame of a task that was switched out: such tasks have no stacks");
    }
    let thread = |task: &tasks::Task| {
        let on = cpus.iter().find(|c| c.current == Some(task.address));
        let (context, registers) = match on {
            Some(cpu) => (Context::Cpu(cpu.number), cpu.registers.clone()),
            None => (Context::Task, frame.as_ref().and_then(|f| f.registers(linux, task.address))),
        };
        let registers = registers.unwrap_or_else(|| Registers::new(evidence::Arch::X86_64));
        let mut thread = Thread::new(ThreadId(task.id), context, registers);
        thread.process = task.tgid;
        thread.cpu = on.map(|c| c.number).or(task.cpu);
        thread.name = task.name.as_deref().map(Into::into);
        thread.state = task.state.map(|word| ThreadState { word: word.into(), ..ThreadState::default() });
        thread.stack.clone_from(&task.stack);
        thread
    };
    tasks.iter().map(thread).collect()
}

fn row(task: &tasks::Task) -> schema::Task {
    schema::Task {
        id: task.id,
        pid: task.tgid,
        parent_pid: task.parent,
        address: Some(task.address.0),
        name: task.name.clone(),
        state: task.state.map(str::to_owned),
        cpu: task.cpu.map(u64::from),
        resident: task.resident,
        stack: None,
    }
}

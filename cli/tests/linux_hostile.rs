//! Linux kernels whose memory lies: words that are changed, pages that are missing, files that are cut off. Whatever
//! comes out, it comes out, in bounded time and without a panic.

use capture::{Plan, ThreadChoice, capture};
use debuginfo::Locator;
use evidence::{
    Absent, Addr, Attribute, Event, Extent, Gaps, Identity, ImageHint, Machine, Mapping, Memory, Note, Target, Thread,
    ToU64,
};
use kernel_dumps::linux::LinuxDump;
use snapshot_format::Snapshot;
use std::path::Path;
use testdata::fixtures::fixture;

const DUMP: &str = "linux-kernel/tiny/tiny.zstd-d31";

/// A machine in whose memory one word in `rate` is another one, by the address alone.
struct Lying<'d> {
    dump: &'d LinuxDump,
    memory: LyingMemory<'d>,
}

struct LyingMemory<'d> {
    memory: &'d dyn Memory,
    seed: u64,
    rate: u64,
    /// The image of the kernel, with its symbols and types, is left alone: then everything that hangs off it lies.
    spare_image: bool,
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl LyingMemory<'_> {
    /// What a word is said to be: noise, a small number, itself changed a little, or the address of another word.
    fn lie(&self, at: u64, word: u64) -> u64 {
        let dice = mix(at ^ self.seed);
        if !dice.is_multiple_of(self.rate) || (self.spare_image && at >= 0xffff_ffff_8000_0000) {
            return word;
        }
        match dice >> 32 & 3 {
            0 => mix(dice),
            1 => dice >> 40 & 0xff,
            2 => word ^ 1 << (dice >> 40 & 63),
            _ => (at & !0xfff) | (dice >> 40 & 0xff8),
        }
    }
}

impl Memory for LyingMemory<'_> {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let start = at.0 & !7;
        let skip = usize::try_from(at.0 - start).unwrap();
        let mut words = vec![0; (skip + into.len()).next_multiple_of(8)];
        let (got, mut stop) = self.memory.read(Addr(start), &mut words);
        for (n, word) in words[..got].chunks_exact_mut(8).enumerate() {
            let value = u64::from_le_bytes(word.try_into().unwrap());
            word.copy_from_slice(&self.lie(start.wrapping_add(n.to_u64() * 8), value).to_le_bytes());
        }
        let n = got.saturating_sub(skip).min(into.len());
        into[..n].copy_from_slice(&words[skip..skip + n]);
        if n == into.len() {
            stop = None;
        }
        (n, stop)
    }

    fn extents(&self) -> &[Extent] {
        self.memory.extents()
    }
}

impl Target for Lying<'_> {
    fn identity(&self) -> &Identity {
        self.dump.identity()
    }
    fn memory(&self) -> &dyn Memory {
        &self.memory
    }
    fn threads(&self) -> &[Thread] {
        self.dump.threads()
    }
    fn mappings(&self) -> &[Mapping] {
        self.dump.mappings()
    }
    fn images(&self) -> &[ImageHint] {
        self.dump.images()
    }
    fn event(&self) -> Option<&Event> {
        self.dump.event()
    }
    fn notes(&self) -> &[Note] {
        self.dump.notes()
    }
    fn attributes(&self) -> &[Attribute] {
        self.dump.attributes()
    }
    fn gaps(&self) -> &Gaps {
        self.dump.gaps()
    }
    fn machine(&self) -> Option<&dyn Machine> {
        self.dump.machine()
    }
}

fn take(target: &dyn Target) -> Snapshot {
    let plan = Plan { threads: ThreadChoice::All, variables: false, ..Plan::default() };
    // Nothing of this machine may be found: the dump must do.
    let locator = Locator { system: Some("/nonexistent".into()), ..Locator::default() };
    capture(target, &locator, &plan, &mut || {})
}

/// What drgn 0.3 says of the same dump by `task.mm.rss_stat`, `real_parent`, `stack`, `tk_core`, `vm_zone_stat`.
#[test]
fn facts_are_drgns() {
    let Some(file) = fixture(DUMP) else { return };
    let snapshot = take(&LinuxDump::open(&file).unwrap());
    let task = |pid: u64| snapshot.tasks.iter().find(|t| t.id == pid).unwrap();
    let facts = |pid| (task(pid).parent_pid, task(pid).address, task(pid).resident);
    assert_eq!(facts(1), (Some(0), Some(0xffff_9c42_8017_8000), Some(1_839_104)));
    assert_eq!(facts(12), (Some(2), Some(0xffff_9c42_801a_6540), None));
    assert_eq!(facts(55), (Some(1), Some(0xffff_9c42_8022_6540), Some(4096)));
    let identity = &snapshot.identity;
    assert_eq!((identity.pid, identity.command.as_deref(), identity.parent_pid), (Some(55), Some("sh"), Some(1)));
    let thread = snapshot.threads.iter().find(|t| t.id == 55).unwrap();
    assert_eq!((thread.stack_start, thread.stack_end), (Some(0xffff_b056_4018_0000), Some(0xffff_b056_4018_4000)));
    let fact =
        |key: &str| snapshot.attributes.iter().find(|a| a.key == format!("kernel.{key}")).map(|a| a.value.as_str());
    assert_eq!(fact("command_line"), Some("console=ttyS0 panic=0 lk=null qemu_fw_cfg.ioport=0xc@0x510:0:1:4"));
    assert_eq!((fact("taint"), fact("tainted_mask")), (Some("DO"), Some("4224")));
    assert_eq!((fact("memory.total"), fact("memory.free")), (Some("51367936"), Some("37687296")));
    assert_eq!((fact("uptime_ns").map(|t| &t[..4]), fact("panic_cpu")), (Some("5545"), Some("0")));
    assert_eq!(snapshot.identity.taken_at_ns.map(|t| t / 1_000_000_000), Some(1_795_372_616));
}

#[test]
fn lying_memory_does_no_harm() {
    let Some(file) = fixture(DUMP) else { return };
    let dump = LinuxDump::open(&file).unwrap();
    let truth = take(&dump);
    assert!(truth.tasks.len() >= 33 && truth.log.len() > 100, "{} tasks", truth.tasks.len());
    let mut tasks = 0;
    for (round, rate) in [3, 20, 200, 2000, 20_000, 200_000].iter().cycle().take(36).enumerate() {
        let (seed, spare_image) = (mix(round.to_u64()), round % 4 != 0);
        let memory = LyingMemory { memory: dump.memory(), seed, rate: *rate, spare_image };
        let snapshot = take(&Lying { dump: &dump, memory });
        assert!(snapshot.tasks.len() <= 1000, "round {round}: {} tasks", snapshot.tasks.len());
        assert!(snapshot.frames.len() <= 100_000, "round {round}: {} frames", snapshot.frames.len());
        tasks += usize::from(snapshot.tasks.len() == truth.tasks.len());
    }
    // Where hardly anything is changed, hardly anything is lost.
    assert!(tasks >= 6, "{tasks} of 36 rounds found all tasks");
}

#[test]
fn a_kernel_cut_off_anywhere_is_outlined_as_far_as_it_goes() {
    let Some(file) = fixture(DUMP) else { return };
    let whole = std::fs::read(&file).unwrap();
    let mut most = 0;
    for part in 1..=24 {
        let bytes = whole[..whole.len() * part / 24].to_vec();
        let Ok(dump) = LinuxDump::from_source(Path::new("cut"), Box::new(bytes)) else { continue };
        let snapshot = take(&dump);
        assert!(part == 24 || !snapshot.doubts.is_empty(), "{part} of 24: nothing is said to be missing");
        most = most.max(snapshot.tasks.len());
    }
    assert!(most >= 33, "{most}");
}

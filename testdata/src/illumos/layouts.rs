//! The structures of the kernel that is made here, in two layouts: no offset of the first is one of the second.

use std::collections::BTreeMap;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An unsigned integer of so many bytes.
    Int(u64),
    /// A signed integer of so many bytes.
    Signed(u64),
    /// A pointer.
    Pointer,
    /// So many characters.
    Text(u64),
    /// So many longs.
    Longs(u64),
    /// A structure.
    Inner(&'static str),
    /// So many structures, one behind the other.
    Many(&'static str, u64),
}

/// A structure: its size, and its members with offsets.
#[derive(Clone, Debug, Default)]
pub struct Structure {
    /// Bytes.
    pub size: u64,
    /// Name, offset, kind.
    pub members: Vec<(&'static str, u64, Kind)>,
    /// Described by the unix module, not by genunix.
    pub of_unix: bool,
}

/// All structures of a kernel.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// By name, inner ones before those that hold them.
    pub structures: Vec<(&'static str, Structure)>,
    index: BTreeMap<&'static str, usize>,
}

pub(super) type Members = &'static [(&'static str, Kind)];

/// What unix describes.
const OF_UNIX: [&str; 3] = ["cpu", "panic_trap_info", "regs"];

/// Structures in an order in which inner ones come first; those of [`heap`](super::heap) and
/// [`waits`](super::waits) follow.
const ALL: [(&str, Members); 14] = [
    ("pid", &[("pid_prinactive", Kind::Int(4)), ("pid_id", Kind::Int(4))]),
    ("user", &[("u_start", Kind::Longs(2)), ("u_comm", Kind::Text(17)), ("u_psargs", Kind::Text(80))]),
    (
        "proc",
        &[
            ("p_exec", Kind::Pointer),
            ("p_as", Kind::Pointer),
            ("p_stat", Kind::Int(1)),
            ("p_ppid", Kind::Int(4)),
            ("p_next", Kind::Pointer),
            ("p_pidp", Kind::Pointer),
            ("p_tlist", Kind::Pointer),
            ("p_user", Kind::Inner("user")),
        ],
    ),
    ("_label_t", &[("val", Kind::Longs(8))]),
    (
        "_kthread",
        &[
            ("t_link", Kind::Pointer),
            ("t_stk", Kind::Pointer),
            ("t_startpc", Kind::Pointer),
            ("t_state", Kind::Int(4)),
            ("t_pri", Kind::Int(2)),
            ("t_pcb", Kind::Inner("_label_t")),
            ("t_ts", Kind::Pointer),
            ("t_wchan", Kind::Pointer),
            ("t_sobj_ops", Kind::Pointer),
            ("t_cpu", Kind::Pointer),
            ("t_did", Kind::Int(8)),
            ("t_tid", Kind::Int(4)),
            ("t_lwp", Kind::Pointer),
            ("t_procp", Kind::Pointer),
            ("t_next", Kind::Pointer),
            ("t_prev", Kind::Pointer),
            ("t_stkbase", Kind::Pointer),
            ("t_panic_trap", Kind::Pointer),
            ("t_name", Kind::Pointer),
        ],
    ),
    (
        "modctl",
        &[
            ("mod_next", Kind::Pointer),
            ("mod_prev", Kind::Pointer),
            ("mod_id", Kind::Int(4)),
            ("mod_mp", Kind::Pointer),
            ("mod_filename", Kind::Pointer),
            ("mod_modname", Kind::Pointer),
            ("mod_text", Kind::Pointer),
            ("mod_text_size", Kind::Int(8)),
        ],
    ),
    (
        "module",
        &[
            ("strhdr", Kind::Pointer),
            ("symsize", Kind::Int(8)),
            ("symspace", Kind::Pointer),
            ("strings", Kind::Pointer),
            ("text", Kind::Pointer),
            ("text_size", Kind::Int(8)),
            ("ctfdata", Kind::Pointer),
            ("ctfsize", Kind::Int(8)),
        ],
    ),
    ("queue", &[("q_first", Kind::Pointer), ("q_last", Kind::Pointer)]),
    (
        "msgb",
        &[("b_next", Kind::Pointer), ("b_cont", Kind::Pointer), ("b_rptr", Kind::Pointer), ("b_wptr", Kind::Pointer)],
    ),
    ("_klwp", &[("lwp_regs", Kind::Pointer)]),
    ("as", &[("a_lock", Kind::Longs(1))]),
    (
        "cpu",
        &[
            ("cpu_id", Kind::Int(4)),
            ("cpu_flags", Kind::Int(4)),
            ("cpu_self", Kind::Pointer),
            ("cpu_thread", Kind::Pointer),
            ("cpu_idle_thread", Kind::Pointer),
            ("cpu_next", Kind::Pointer),
        ],
    ),
    ("panic_trap_info", &[("trap_regs", Kind::Pointer), ("trap_type", Kind::Int(4)), ("trap_addr", Kind::Pointer)]),
    ("regs", &[]),
];

/// Members of `struct regs`, 8 bytes each; assembler code relies on their order, so that it is the same everywhere.
pub const REGS: [&str; 30] = [
    "r_savfp",
    "r_savpc",
    "r_rdi",
    "r_rsi",
    "r_rdx",
    "r_rcx",
    "r_r8",
    "r_r9",
    "r_rax",
    "r_rbx",
    "r_rbp",
    "r_r10",
    "r_r11",
    "r_r12",
    "r_r13",
    "r_r14",
    "r_r15",
    "__r_fsbase",
    "__r_gsbase",
    "r_ds",
    "r_es",
    "r_fs",
    "r_gs",
    "r_trapno",
    "r_err",
    "r_rip",
    "r_cs",
    "r_rfl",
    "r_rsp",
    "r_ss",
];

/// Offsets of a release of 2021, where they are known, of the members whose places matter before types are there.
const FIRST: [(&str, &str, u64); 18] = [
    ("modctl", "mod_mp", 24),
    ("modctl", "mod_filename", 56),
    ("modctl", "mod_modname", 64),
    ("modctl", "mod_text", 112),
    ("modctl", "mod_text_size", 120),
    ("module", "strhdr", 88),
    ("module", "symsize", 104),
    ("module", "symspace", 112),
    ("module", "text", 144),
    ("module", "strings", 176),
    ("module", "text_size", 128),
    ("module", "ctfdata", 272),
    ("module", "ctfsize", 280),
    ("_kthread", "t_pcb", 64),
    ("_kthread", "t_next", 424),
    ("_kthread", "t_name", 928),
    ("proc", "p_user", 1704),
    ("proc", "p_next", 112),
];

impl Layout {
    /// The layout of a release of 2021, as far as it matters.
    #[must_use]
    pub fn first() -> Self {
        Self::make(0, &FIRST)
    }

    /// Another one: everything that is not fixed lies elsewhere.
    #[must_use]
    pub fn second() -> Self {
        let mut fixed = vec![("module", "ctfdata", 200), ("module", "ctfsize", 208), ("modctl", "mod_mp", 72)];
        // Free buffers are linked through their own first word, and both kinds of control structures begin alike.
        for of in ["kmem_bufctl", "kmem_bufctl_audit"] {
            fixed.extend([(of, "bc_next", 0), (of, "bc_addr", 8), (of, "bc_slab", 16)]);
        }
        Self::make(40, &fixed)
    }

    fn make(shift: u64, fixed: &[(&str, &str, u64)]) -> Self {
        let mut layout = Self::default();
        for (name, members) in ALL.iter().chain(&super::waits::STRUCTURES).chain(&super::heap::STRUCTURES).copied() {
            let mut structure = Structure { of_unix: OF_UNIX.contains(&name), ..Structure::default() };
            let ring = matches!(name, "modctl");
            let mut at = if ring { 0 } else { shift };
            // What is fixed goes to its place, the rest behind all of it.
            let end = fixed.iter().filter(|(of, ..)| *of == name).map(|(.., at)| at + 8).max().unwrap_or(0);
            for (member, kind) in members {
                let size = layout.size(*kind);
                let given = fixed.iter().find(|(of, m, _)| *of == name && m == member).map(|(.., at)| *at);
                if given.is_none() && !(ring && at < 16) {
                    at = at.max(end).next_multiple_of(8);
                }
                let offset = given.unwrap_or(at);
                structure.members.push((member, offset, *kind));
                structure.size = structure.size.max(offset + size);
                if given.is_none() {
                    at = offset + size + if ring { 0 } else { shift / 8 };
                } else if matches!(kind, Kind::Inner(_) | Kind::Many(..)) {
                    at = at.max(offset + size);
                }
            }
            if name == "regs" {
                structure.members = REGS.iter().zip(0..).map(|(m, n)| (*m, n * 8, Kind::Int(8))).collect();
                structure.size = 240;
            }
            structure.size = structure.size.next_multiple_of(8) + shift;
            layout.index.insert(name, layout.structures.len());
            layout.structures.push((name, structure));
        }
        layout
    }

    /// Bytes of a member.
    #[must_use]
    pub fn size(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Int(n) | Kind::Signed(n) | Kind::Text(n) => n,
            Kind::Pointer => 8,
            Kind::Longs(n) => n * 8,
            Kind::Inner(name) => self.of(name).size,
            Kind::Many(name, n) => self.of(name).size * n,
        }
    }

    /// A structure.
    ///
    /// # Panics
    /// There is none of this name.
    #[must_use]
    pub fn of(&self, name: &str) -> &Structure {
        &self.structures[self.index[name]].1
    }

    /// Where a member lies.
    ///
    /// # Panics
    /// There is none of this name.
    #[must_use]
    pub fn offset(&self, of: &str, member: &str) -> u64 {
        self.of(of).members.iter().find(|(m, ..)| *m == member).unwrap_or_else(|| panic!("{of}.{member}")).1
    }
}

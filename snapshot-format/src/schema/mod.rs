//! The rows of a snapshot: what its tables hold, as plain types.
//!
//! These types are the meaning of the format; how they lie on disk is the container's business. A row refers to another
//! row by its index in that row's table. Absent values are `None`; where a reason is known it stands beside them.

mod analysis;
mod process;
mod stack;
mod variable;

pub use analysis::{Doubt, Evidence, Finding, Fingerprint};
pub use process::{Attachment, Attribute, Event, File, Identity, LogRecord, Mapping, MemoryExtent, Module, Note, Task};
pub use stack::{Frame, RegisterValue, Stack, Thread, Trust};
pub use variable::{Value, Variable, VariableKind};

/// A whole snapshot in memory.
///
/// [`Snapshot::memory`] may be left empty by a reader that was told to skip contents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Who the target is.
    pub identity: Identity,
    /// Why it stopped.
    pub event: Option<Event>,
    /// Textual facts about the target, its host and the capture itself (`capture.*`).
    pub attributes: Vec<Attribute>,
    /// Threads, CPUs or tasks, the faulting one first.
    pub threads: Vec<Thread>,
    /// Distinct stacks; identical ones are stored once.
    pub stacks: Vec<Stack>,
    /// Frames of all stacks, each stack's frames contiguous, innermost first.
    pub frames: Vec<Frame>,
    /// Register values by thread and frame.
    pub registers: Vec<RegisterValue>,
    /// Variables as trees by parent row; parents come before their children.
    pub variables: Vec<Variable>,
    /// Loaded images.
    pub modules: Vec<Module>,
    /// Mapped ranges.
    pub mappings: Vec<Mapping>,
    /// Raw bytes that were kept: stacks, bytes at pc, and whatever the capture was asked to keep.
    pub memory: Vec<MemoryExtent>,
    /// Tasks and processes of a kernel dump that are not `threads`, with what is known of them.
    pub tasks: Vec<Task>,
    /// Kernel log, abort messages, Crashpad logs.
    pub log: Vec<LogRecord>,
    /// Facts in the OS's own encoding.
    pub notes: Vec<Note>,
    /// Open descriptors and handles.
    pub files: Vec<File>,
    /// Files a user attached.
    pub attachments: Vec<Attachment>,
    /// What went wrong, strongest first.
    pub findings: Vec<Finding>,
    /// Evidence rows of findings.
    pub evidence: Vec<Evidence>,
    /// Identifies the bug across machines and builds.
    pub fingerprint: Option<Fingerprint>,
    /// What failed or looked wrong on the way.
    pub doubts: Vec<Doubt>,
}

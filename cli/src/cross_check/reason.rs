//! Why something is not the same on both sides, as codes.

use serde::Serialize;

/// Why something is not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The peer has a thread that we do not have.
    OursMissingThread,
    /// We have a thread that the peer does not have.
    OursExtraThread,
    /// The peer has a frame that we do not have.
    OursMissing,
    /// We have a frame that the peer does not have, although its stack goes on or ended as stacks end.
    OursExtra,
    /// A limit of ours ended the list of frames.
    OursStoppedEarly,
    /// The peer has an inlined function that we do not have.
    OursMissingInline,
    /// We have an inlined function that the peer, which knows inlined functions here, does not have.
    OursExtraInline,
    /// The peer has a name for the function and we have none.
    OursLostName,
    /// The peer has file and line and we have none.
    OursLostLine,
    /// The peer has a variable that we do not have.
    OursMissingVariable,
    /// The peer has a value and we have a reason for its absence.
    OursLostValue,
    /// Both have a name and the functions are not the same.
    FunctionDiffers,
    /// Both have a file and they are not the same.
    FileDiffers,
    /// Both have a line in the same file and they are not the same.
    LineDiffers,
    /// Both have a value and they are not the same.
    ValueDiffers,
    /// Both say something of the kernel and it is not the same; or we have a module or a line of the log that the peer,
    /// which lists them all, does not have.
    FactDiffers,
    /// The peer says something of the kernel that we do not say.
    OursMissingFact,
    /// The peer could not find out something of the kernel.
    PeerMissingFact,
    /// The peer stopped with an error or died before the end of the stack.
    PeerStoppedEarly,
    /// gdb shows a function that is no longer on the stack, because it left by a jump to what it called last. Seen in
    /// raise() of glibc 2.36: `__pthread_kill_internal` jumps to `__pthread_kill_implementation`, whose return address
    /// is in raise(); gdb knows the function between them from `DW_TAG_call_site`, others do not show it.
    PeerTailCall,
    /// The peer had no information about a caller and guessed: its next pc lies in the first 64 KiB, which Linux maps to
    /// nobody (`vm.mmap_min_addr`), above the highest address of a process, or in a mapping that may not be executed.
    /// Seen above code without call frame information, and where the stack was overwritten: what a debugger reads there
    /// is text or a saved stack pointer, not a return address. In kernels an address that is neither a program's nor a
    /// kernel's: seen with drgn 0.3, which shows the value that was jumped to a second time in the caller's place.
    PeerGuessed,
    /// The process ran between our look and the peer's: frames inside of the first that both saw.
    PeerLaterLook,
    /// We show a function that left the stack by a tail call, and the peer does not.
    PeerNoTailCall,
    /// The peer shows no inlined functions in this frame.
    PeerNoInlines,
    /// The peer shows the name of the surrounding function for an inlined one.
    PeerLostInlineName,
    /// The peer has no name for the function.
    PeerLostName,
    /// The peer has no line, as eu-stack in programs without `.debug_aranges`.
    PeerLostLine,
    /// eu-stack gives `_start`, which the C library brings without line table, the last line of the function before it,
    /// past the end of that function's sequence. Seen with gcc -O2, which puts main() there.
    PeerLineBeyondEnd,
    /// The peer does not know the variable.
    PeerMissingVariable,
    /// The peer has no value for the variable.
    PeerLostValue,
    /// The value of a parameter on entry to a function that was entered by a jump from another, which is no longer on the
    /// stack: gdb follows the only chain of jumps there is, in the call site information. Seen in raise() of glibc 2.36.
    PeerTailCallValue,
    /// We show what a container or a string of a standard library holds, and gdb shows its private members: it has no
    /// pretty-printer for the type, that one failed on it, or the value lies in registers, where it kills gdb 13. Seen
    /// for libc++'s `map` and `shared_ptr`, and where clang leaves a member's type undefined.
    PeerRawStructure,
    /// gdb lists a variable without a value, and has the same declaration in another block of the function, which is the
    /// instance: in scope, and listed as well, or out of scope. Seen in optimised Rust: where an inlined instance lacks a
    /// block of its abstract function, gdb adds that block with all in it, also blocks which the instance has.
    PeerAbstractVariable,
    /// gdb lists a variable that it has no value of, and we do not list it.
    OursUnlisted,
    /// We evaluate variables up to limits of frames, rows, depth and elements, and say so; the peer went further.
    OursLimit,
    /// The variable was in a register that a called function need not keep, and no rule recovers it. gdb shows what is in
    /// the register now: its value is that of such a register in the innermost frame, which gdb gives as the register's
    /// value in this frame, too. Seen in frames above raise(), where such a variable has the process id as its value.
    PeerStaleRegister,
}

impl Reason {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 36] = [
        Self::OursMissingThread,
        Self::OursExtraThread,
        Self::OursMissing,
        Self::OursExtra,
        Self::OursStoppedEarly,
        Self::OursMissingInline,
        Self::OursExtraInline,
        Self::OursLostName,
        Self::OursLostLine,
        Self::OursMissingVariable,
        Self::OursLostValue,
        Self::FunctionDiffers,
        Self::FileDiffers,
        Self::LineDiffers,
        Self::ValueDiffers,
        Self::FactDiffers,
        Self::OursMissingFact,
        Self::PeerMissingFact,
        Self::PeerStoppedEarly,
        Self::PeerTailCall,
        Self::PeerGuessed,
        Self::PeerLaterLook,
        Self::PeerTailCallValue,
        Self::PeerRawStructure,
        Self::OursLimit,
        Self::OursUnlisted,
        Self::PeerAbstractVariable,
        Self::PeerNoTailCall,
        Self::PeerNoInlines,
        Self::PeerLostInlineName,
        Self::PeerLostName,
        Self::PeerLostLine,
        Self::PeerLineBeyondEnd,
        Self::PeerMissingVariable,
        Self::PeerStaleRegister,
        Self::PeerLostValue,
    ];

    /// Whether this is no disagreement: the peer knows less, or a limit of ours that we announce was reached.
    #[must_use]
    pub const fn is_peer_limit(self) -> bool {
        matches!(
            self,
            Self::PeerStoppedEarly
                | Self::PeerMissingFact
                | Self::PeerTailCall
                | Self::PeerGuessed
                | Self::PeerLaterLook
                | Self::PeerTailCallValue
                | Self::PeerRawStructure
                | Self::OursLimit
                | Self::PeerNoTailCall
                | Self::PeerNoInlines
                | Self::PeerLostInlineName
                | Self::PeerLostName
                | Self::PeerLostLine
                | Self::PeerLineBeyondEnd
                | Self::PeerMissingVariable
                | Self::PeerLostValue
                | Self::PeerAbstractVariable
                | Self::PeerStaleRegister
        )
    }

    /// The code as it is printed.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::OursMissingThread => "ours-missing-thread",
            Self::OursExtraThread => "ours-extra-thread",
            Self::OursMissing => "ours-missing",
            Self::OursExtra => "ours-extra",
            Self::OursStoppedEarly => "ours-stopped-early",
            Self::OursMissingInline => "ours-missing-inline",
            Self::OursExtraInline => "ours-extra-inline",
            Self::OursLostName => "ours-lost-name",
            Self::OursLostLine => "ours-lost-line",
            Self::OursMissingVariable => "ours-missing-variable",
            Self::OursLostValue => "ours-lost-value",
            Self::FunctionDiffers => "function-differs",
            Self::FileDiffers => "file-differs",
            Self::LineDiffers => "line-differs",
            Self::ValueDiffers => "value-differs",
            Self::FactDiffers => "fact-differs",
            Self::OursMissingFact => "ours-missing-fact",
            Self::PeerMissingFact => "peer-missing-fact",
            Self::PeerStoppedEarly => "peer-stopped-early",
            Self::PeerTailCall => "peer-tail-call",
            Self::PeerGuessed => "peer-guessed",
            Self::PeerLaterLook => "peer-later-look",
            Self::PeerTailCallValue => "peer-tail-call-value",
            Self::PeerRawStructure => "peer-raw-structure",
            Self::OursLimit => "ours-limit",
            Self::OursUnlisted => "ours-unlisted",
            Self::PeerAbstractVariable => "peer-abstract-variable",
            Self::PeerNoTailCall => "peer-no-tail-call",
            Self::PeerNoInlines => "peer-no-inlines",
            Self::PeerLostInlineName => "peer-lost-inline-name",
            Self::PeerLostName => "peer-lost-name",
            Self::PeerLostLine => "peer-lost-line",
            Self::PeerLineBeyondEnd => "peer-line-beyond-end",
            Self::PeerMissingVariable => "peer-missing-variable",
            Self::PeerStaleRegister => "peer-stale-register",
            Self::PeerLostValue => "peer-lost-value",
        }
    }
}

//! Which addresses hold code: by the mappings, and where they do not say, by the images' segments.

use super::Module;
use evidence::{Addr, Mapping};

/// What is known about executing at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeAt {
    /// It is mapped executable.
    Yes,
    /// It is mapped, and not executable.
    NotExecutable,
    /// Nothing is mapped there, by a source that knows all mappings.
    Unmapped,
    /// The source does not say.
    Unknown,
}

/// The target's mappings, reduced to what may be executed.
#[derive(Debug, Default)]
pub(crate) struct CodeMap {
    /// (start, end, executable if known), by address.
    ranges: Vec<(Addr, Addr, Option<bool>)>,
}

impl CodeMap {
    pub(super) fn new(mappings: &[Mapping]) -> Self {
        let mut ranges: Vec<(Addr, Addr, Option<bool>)> = Vec::new();
        for m in mappings {
            let execute = m.protection.map(|p| p.execute);
            match ranges.last_mut() {
                Some((_, end, same)) if *end == m.range.start && *same == execute => *end = m.range.end,
                _ => ranges.push((m.range.start, m.range.end, execute)),
            }
        }
        Self { ranges }
    }

    pub(super) fn at(&self, at: Addr) -> CodeAt {
        let index = self.ranges.partition_point(|(start, _, _)| *start <= at).checked_sub(1);
        match index.and_then(|i| self.ranges.get(i)).filter(|(_, end, _)| at < *end) {
            Some((_, _, Some(true))) => CodeAt::Yes,
            Some((_, _, Some(false))) => CodeAt::NotExecutable,
            Some((_, _, None)) => CodeAt::Unknown,
            None if self.ranges.is_empty() => CodeAt::Unknown,
            None => CodeAt::Unmapped,
        }
    }
}

/// For sources without protections: the segment that covers the address decides, or where stated symbols have code.
pub(super) fn by_segments(module: &Module, at: Addr) -> CodeAt {
    let svma = module.to_svma(at);
    let Some(file) = module.main() else {
        if let Some(code) = module.is_native_code(at) {
            return if code { CodeAt::Yes } else { CodeAt::NotExecutable };
        }
        return match module.stated_symbols().map(|s| s.code().contains(&svma.0)) {
            Some(true) => CodeAt::Yes,
            Some(false) => CodeAt::NotExecutable,
            None => CodeAt::Unknown,
        };
    };
    // A segment of code of macOS also holds constants and the headers.
    if let Some(image) = file.macho() {
        return match image.is_code(svma.0) {
            Some(true) => CodeAt::Yes,
            Some(false) => CodeAt::NotExecutable,
            None => CodeAt::Unknown,
        };
    }
    let segment = file.segments().iter().find(|s| svma.offset_from(s.address).is_some_and(|o| o < s.memory_size));
    match segment {
        Some(s) if s.executable => CodeAt::Yes,
        Some(_) => CodeAt::NotExecutable,
        None => CodeAt::Unknown,
    }
}

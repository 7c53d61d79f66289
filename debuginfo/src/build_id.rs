//! The identity of an image: the contents of its `NT_GNU_BUILD_ID` note.

use std::fmt;

/// A build-id, as long as the linker made it (SHA-1: 20 bytes; 8, 16 and others exist).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId(Box<[u8]>);

/// Longest build-id accepted. GNU ld's largest style is 20 bytes, lld's 32 with `--build-id=0x..` up to what the user
/// types; more than 64 is damage.
pub const LIMIT_BUILD_ID: usize = 64;

impl BuildId {
    /// From its bytes; `None` when empty or longer than `LIMIT_BUILD_ID` (64 bytes).
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty() && bytes.len() <= LIMIT_BUILD_ID).then(|| Self(bytes.into()))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The `xx/yyyy.debug` path below a `.build-id` folder.
    #[must_use]
    pub fn debug_path(&self) -> String {
        let hex = self.to_string();
        let (head, tail) = hex.split_at_checked(2).unwrap_or((&hex, ""));
        format!("{head}/{tail}.debug")
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildId({self})")
    }
}

//! Where a full dump's page tables are, without any symbols: each machine's kernel has tables that prove themselves.

mod amd64;
mod arm64;
mod i386;

use crate::machine::{ArmTables, I386Tables, Pages, Translate, X86Tables};
use crate::paging::x86::Top;
use evidence::{Absent, Addr, Arch, PhysAddr};
use std::sync::Arc;

/// The kernel's own tables.
#[derive(Clone, Copy, Debug)]
pub(super) enum Root {
    Amd64(X86Tables),
    I386(I386Tables),
    Arm64(ArmTables),
}

impl Root {
    /// Looks for them.
    pub(super) fn find(arch: Arch, pages: &Pages) -> Option<Self> {
        match arch {
            Arch::X86_64 => amd64::find(pages).map(Self::Amd64),
            Arch::X86 => i386::find(pages).map(Self::I386),
            Arch::Aarch64 => arm64::find(pages).map(Self::Arm64),
            _ => None,
        }
    }

    /// Where the topmost table is; of i386's with PAE the first of the four directories that there is.
    pub(super) fn place(&self) -> Option<PhysAddr> {
        match self {
            Self::Amd64(tables) => Some(tables.root),
            Self::Arm64(tables) => Some(tables.root),
            Self::I386(I386Tables { top: Top::Directory(root) }) => Some(*root),
            Self::I386(I386Tables { top: Top::Pae(directories) }) => directories.iter().flatten().next().copied(),
        }
    }

    pub(super) fn tables(&self) -> Arc<dyn Translate> {
        match self {
            Self::Amd64(tables) => Arc::new(*tables),
            Self::I386(tables) => Arc::new(*tables),
            Self::Arm64(tables) => Arc::new(*tables),
        }
    }

    /// Other tables of the same form: a process's.
    ///
    /// # Errors
    /// They are not in the dump.
    pub(super) fn with_root(&self, root: PhysAddr, pages: &Pages) -> Result<Self, Absent> {
        pages.entry(PhysAddr(root.0 & !0xfff))?;
        Ok(match self {
            Self::Amd64(tables) => Self::Amd64(X86Tables { root, ..*tables }),
            Self::Arm64(tables) => Self::Arm64(ArmTables { root, ..*tables }),
            Self::I386(I386Tables { top: Top::Directory(_) }) => Self::I386(I386Tables { top: Top::Directory(root) }),
            Self::I386(I386Tables { top: Top::Pae(_) }) => {
                Self::I386(I386Tables { top: Top::pae(root, &|at| pages.entry(at))? })
            }
        })
    }
}

/// Whether an ELF file begins where `tables` map `at`: a kernel's own header, in front of its code.
fn is_elf_at(tables: &dyn Translate, at: Addr, pages: &Pages) -> bool {
    let mut magic = [0; 4];
    let read = tables.translate(at, pages).map(|there| pages.read(there.physical, &mut magic));
    matches!(read, Ok((4, None))) && &magic == b"\x7fELF"
}

#[cfg(test)]
mod testing {
    use crate::machine::{Pages, Physical};
    use evidence::{Absent, ToU64, ToUsize};

    struct Memory(Vec<u8>);

    impl Physical for Memory {
        fn page_size(&self) -> u64 {
            4096
        }
        fn page(&self, number: u64) -> Result<Vec<u8>, Absent> {
            let at = (number * 4096).to_usize();
            self.0.get(at..at + 4096).map(<[u8]>::to_vec).ok_or(Absent::Unmapped)
        }
        fn runs(&self) -> Vec<std::ops::Range<u64>> {
            std::iter::once(0..self.0.len().to_u64() / 4096).collect()
        }
    }

    /// Memory with numbers in it: address, bytes of the number, number; and an ELF header's magic number.
    pub(super) fn memory(pages: usize, numbers: &[(u64, usize, u64)], elf: u64) -> Pages {
        let mut bytes = vec![0_u8; pages * 4096];
        for (at, width, value) in numbers {
            let at = at.to_usize();
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..*width]);
        }
        let elf = elf.to_usize();
        bytes[elf..elf + 4].copy_from_slice(b"\x7fELF");
        Pages::new(Box::new(Memory(bytes)))
    }
}

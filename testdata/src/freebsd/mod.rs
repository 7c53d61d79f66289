//! FreeBSD kernel dumps, made: memory, and every container that it is dumped in.
//!
//! It writes what is asked for field by field, as `sys/sys/kerneldump.h`, `machine/minidump.h`, `sys/kern/kern_dump.c`
//! and `sys/ddb/db_textdump.c` lay it out; it checks nothing.

pub mod debug_info;
pub mod device;
pub mod full;
pub mod kernel;
mod kernel_file;
pub mod minidump;
pub mod textdump;

use std::collections::BTreeMap;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// A machine's memory and what the kernel has mapped.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Physical pages by number.
    pub pages: BTreeMap<u64, Vec<u8>>,
    /// Virtual pages of the kernel by number, and their physical ones.
    pub maps: BTreeMap<u64, u64>,
    next: u64,
}

impl Memory {
    /// No memory; physical pages will be handed out from `first` on, with a hole after every seven.
    #[must_use]
    pub fn new(first: u64) -> Self {
        Self { next: first, ..Self::default() }
    }

    /// A new physical page, of zeros.
    pub fn page(&mut self) -> u64 {
        let number = self.next;
        self.next += if number % 8 == 6 { 2 } else { 1 };
        self.pages.insert(number, vec![0; PAGE as usize]);
        number
    }

    /// Four new physical pages in a row, the first one with a number that 4 divides: the first one's number.
    pub fn large_page(&mut self) -> u64 {
        let number = self.next.next_multiple_of(4);
        self.next = number + 4;
        self.pages.extend((number..number + 4).map(|n| (n, vec![0; PAGE as usize])));
        number
    }

    /// The same virtual memory in pages of 16 KiB.
    #[must_use]
    pub fn grouped(&self) -> Self {
        let mut groups: BTreeMap<u64, u64> = BTreeMap::new();
        let mut out = Self { next: self.next.next_multiple_of(4), ..Self::default() };
        for (number, physical) in &self.maps {
            let first = *groups.entry(number / 4).or_insert_with(|| out.large_page());
            let there = first + number % 4;
            out.pages.insert(there, self.pages[physical].clone());
            out.maps.insert(*number, there);
        }
        // What lies beside them in their group is mapped as well.
        for (group, first) in groups {
            out.maps.extend((0..4).map(|n| (group * 4 + n, first + n)));
        }
        out
    }

    /// Writes to virtual addresses; pages that are not mapped yet are.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        for (n, byte) in bytes.iter().enumerate() {
            let at = at + n as u64;
            let number = match self.maps.get(&(at / PAGE)) {
                Some(number) => *number,
                None => {
                    let number = self.page();
                    self.maps.insert(at / PAGE, number);
                    number
                }
            };
            self.pages.get_mut(&number).expect("a mapped page exists")[(at % PAGE) as usize] = *byte;
        }
    }

    /// A number of up to 8 bytes at a virtual address.
    ///
    /// # Panics
    /// When nothing is mapped there.
    #[must_use]
    pub fn number(&self, at: u64, size: u64) -> u64 {
        let byte = |at: u64| self.pages[&self.maps[&(at / PAGE)]][(at % PAGE) as usize];
        (0..size).rev().fold(0, |n, i| n << 8 | u64::from(byte(at + i)))
    }

    /// Writes a number of 4 bytes to a physical address.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn half_entry(&mut self, page: u64, index: u64, value: u64) {
        let at = (index * 4) as usize;
        let bytes = &mut self.pages.get_mut(&page).expect("a table's page exists")[at..at + 4];
        bytes.copy_from_slice(&(value as u32).to_le_bytes());
    }

    /// Writes a number of 8 bytes to a physical address.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn entry(&mut self, page: u64, index: u64, value: u64) {
        // Tables of 16 KiB go on in the pages behind.
        let (page, index) = (page + index * 8 / PAGE, index % (PAGE / 8));
        let at = (index * 8) as usize;
        self.pages.get_mut(&page).expect("a table's page exists")[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// The next multiple of a page.
#[must_use]
pub fn round(bytes: &[u8]) -> Vec<u8> {
    let mut rounded = bytes.to_vec();
    rounded.resize(rounded.len().next_multiple_of(PAGE as usize), 0);
    rounded
}

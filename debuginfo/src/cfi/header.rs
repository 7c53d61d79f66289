//! `.eh_frame_hdr`: the search table that the linker leaves beside `.eh_frame`.
//!
//! Source: Linux Standard Base Core, "Exception Frames", section 10.6.2. Only the forms that linkers write are
//! searched; any other, or a damaged one, makes the caller scan `.eh_frame` itself.

use evidence::bytes;
use gimli::RunTimeEndian;

/// DW_EH_PE_datarel | DW_EH_PE_sdata4: offsets from the header's own address.
const TABLE_ENCODING: u8 = 0x3b;
const COUNT_UDATA4: u8 = 0x03;
const COUNT_SDATA4: u8 = 0x0b;
const FORM_MASK: u8 = 0x0f;
const BASE_MASK: u8 = 0x70;
const BASE_PCREL: u8 = 0x10;
const BASE_DATAREL: u8 = 0x30;
/// Bytes of one table entry: start address and FDE address, 4 bytes each.
const ENTRY: usize = 8;

/// A header whose fixed part is well-formed.
#[derive(Debug)]
pub(super) struct Header<'m> {
    /// Its SVMA.
    pub address: u64,
    /// The SVMA of `.eh_frame` it states.
    pub eh_frame: u64,
    table: Option<&'m [u8]>,
    endian: bytes::Endian,
    mask: u64,
}

/// What the table says about an address.
pub(super) enum Search {
    /// The last entry that starts at or before the address: its start, and the offset of its FDE in `.eh_frame`.
    Found { start: u64, entry: usize },
    /// All entries start after it.
    Before,
    /// No usable table.
    Damaged,
}

impl<'m> Header<'m> {
    pub(super) fn parse(data: &'m [u8], address: u64, endian: RunTimeEndian, address_size: u8) -> Option<Self> {
        let order = bytes::Endian::from_big(endian == RunTimeEndian::Big);
        let mask = if address_size == 4 { u64::from(u32::MAX) } else { u64::MAX };
        if bytes::u8_at(data, 0)? != 1 {
            return None;
        }
        let (pointer_encoding, count_encoding, table_encoding) =
            (bytes::u8_at(data, 1)?, bytes::u8_at(data, 2)?, bytes::u8_at(data, 3)?);
        let raw = match pointer_encoding & FORM_MASK {
            0x03 => bytes::u32_at(data, 4, order).map(u64::from)?,
            0x0b => i64::from(bytes::i32_at(data, 4, order)?).cast_unsigned(),
            _ => return None,
        };
        let eh_frame = mask
            & match pointer_encoding & BASE_MASK {
                0 => raw,
                BASE_PCREL => raw.wrapping_add(address).wrapping_add(4),
                BASE_DATAREL => raw.wrapping_add(address),
                _ => return None,
            };
        let mut table = None;
        if table_encoding == TABLE_ENCODING && matches!(count_encoding, COUNT_UDATA4 | COUNT_SDATA4) {
            let count = usize::try_from(bytes::u32_at(data, 8, order)?).ok()?;
            table = count.checked_mul(ENTRY).filter(|size| *size > 0).and_then(|size| bytes::slice_at(data, 12, size));
        }
        Some(Self { address, eh_frame, table, endian: order, mask })
    }

    fn entry(&self, table: &[u8], index: usize) -> Option<(u64, u64)> {
        let at = index.checked_mul(ENTRY)?;
        let absolute = |at| {
            let offset = i64::from(bytes::i32_at(table, at, self.endian)?).cast_unsigned();
            Some(offset.wrapping_add(self.address) & self.mask)
        };
        Some((absolute(at)?, absolute(at.checked_add(4)?)?))
    }

    pub(super) fn search(&self, at: u64) -> Search {
        let Some(table) = self.table else { return Search::Damaged };
        let (mut low, mut high) = (0_usize, table.len().checked_div(ENTRY).unwrap_or(0));
        // Invariant: entries below `low` start at or before `at`, entries from `high` on after it (if sorted).
        while low < high {
            let middle = low.midpoint(high);
            match self.entry(table, middle) {
                Some((start, _)) if start <= at => low = middle.saturating_add(1),
                Some(_) => high = middle,
                None => return Search::Damaged,
            }
        }
        let Some(last) = low.checked_sub(1) else { return Search::Before };
        let Some((start, fde)) = self.entry(table, last) else { return Search::Damaged };
        let offset = fde.checked_sub(self.eh_frame).and_then(|o| usize::try_from(o).ok());
        offset.map_or(Search::Damaged, |entry| Search::Found { start, entry })
    }
}

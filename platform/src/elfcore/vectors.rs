//! Whether the vector registers in a note can be believed.

use evidence::bytes::{Endian, u64_at};

/// Whether an XSAVE area is one. Kernels before 5.7 could write uninitialised memory into this note (CVE-2020-10732;
/// seen: a line of the audit log), so the header is checked as the processor itself does: SDM volume 1, 13.4.2 and 13.8.1.
pub(super) fn plausible(area: &[u8]) -> bool {
    let long = |at| u64_at(area, at, Endian::Little);
    let (Some(enabled), Some(in_use), Some(compacted)) = (long(464), long(512), long(520)) else { return false };
    // XCR0: x87 always on; bits above 19 are not user components of any processor.
    let reserved = area.get(528..576).is_some_and(|r| r.iter().all(|b| *b == 0));
    enabled & 1 == 1 && enabled >> 20 == 0 && in_use & !enabled == 0 && compacted == 0 && reserved
}

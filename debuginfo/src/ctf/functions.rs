//! The types of functions and objects, in the order of the symbol table that the container goes with.
//!
//! The rows have no names: the n-th row belongs to the n-th symbol of type `STT_FUNC` (or `STT_OBJECT`) that is
//! defined, has a name, and is neither `_START_` nor `_END_`; absolute symbols of value 0 have no row among the objects
//! (libctf's `ctf_sym_to_elf` order: FreeBSD `cddl/contrib/opensolaris/common/ctf/ctf_open.c`).

use super::{Ctf, CtfId, Version, record};
use evidence::ToUsize;
use evidence::bytes::u16_at;

/// Most rows of either table: symbols of a kernel image number some 100,000.
const LIMIT_ROWS: usize = 1 << 22;
/// Most arguments of all functions together.
const LIMIT_ARGUMENTS: usize = 1 << 24;

/// What a function takes and returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prototype {
    /// The return type; id 0 is `void`.
    pub returns: CtfId,
    /// The arguments' types, without the mark of a variable number.
    pub arguments: Vec<CtfId>,
    /// More arguments may follow.
    pub variadic: bool,
}

impl Ctf {
    /// The functions, one row per symbol; `None` for those whose type nobody knows.
    #[must_use]
    pub fn functions(&self) -> Vec<Option<Prototype>> {
        let mut rows = Vec::new();
        let width = self.id_width();
        let (mut at, mut total) = (self.sections.functions, 0_usize);
        while at.saturating_add(width) <= self.sections.types && rows.len() < LIMIT_ROWS {
            let info = match self.version {
                Version::V2 => u16_at(&self.bytes, at, self.endian)
                    .map(|i| (u8::try_from(i >> 11).unwrap_or(0), usize::from(i & 0x3ff))),
                Version::V3 => self.word(at).map(|i| (u8::try_from(i >> 26).unwrap_or(0), (i & 0xff_ffff).to_usize())),
            };
            let Some((kind, count)) = info else { break };
            at = at.saturating_add(width);
            if kind == record::UNKNOWN && count == 0 {
                rows.push(None);
                continue;
            }
            let end = at.saturating_add(count.saturating_add(1).saturating_mul(width));
            total = total.saturating_add(count);
            let (true, true, Some(returns)) = (end <= self.sections.types, total <= LIMIT_ARGUMENTS, self.id_at(at))
            else {
                break;
            };
            let mut arguments: Vec<CtfId> =
                (1..=count).map_while(|n| self.id_at(at.checked_add(n.checked_mul(width)?)?)).collect();
            let variadic = arguments.last() == Some(&CtfId(0));
            if variadic {
                arguments.pop();
            }
            rows.push(Some(Prototype { returns, arguments, variadic }));
            at = end;
        }
        rows
    }

    /// The objects, one row per symbol; id 0 for those whose type nobody knows.
    #[must_use]
    pub fn objects(&self) -> Vec<CtfId> {
        let width = self.id_width();
        let bytes = self.sections.functions.saturating_sub(self.sections.objects);
        let count = bytes.checked_div(width).unwrap_or(0).min(LIMIT_ROWS);
        let at = |n: usize| self.sections.objects.checked_add(n.checked_mul(width)?);
        (0..count).map_while(|n| self.id_at(at(n)?)).collect()
    }
}

//! Which expression of a location attribute holds at a pc.

use super::Missing;
use crate::Slice;
use crate::dwarf::Unit;
use evidence::Svma;
use gimli::{AttributeValue, Expression};

/// Most entries of one location list. The longest seen in optimised C++ have some thousands.
pub const LIMIT_ENTRIES: usize = 1 << 20;

/// The expression that `value` (of `DW_AT_location`, `DW_AT_frame_base`, ..) gives for `pc`.
///
/// # Errors
/// [`Missing::OptimisedOut`] when a list has no entry for `pc`; otherwise damage.
pub fn find<'m>(
    unit: &Unit<'m>,
    value: AttributeValue<Slice<'m>>,
    pc: Option<Svma>,
) -> Result<Expression<Slice<'m>>, Missing> {
    match value {
        AttributeValue::Exprloc(expression) => return Ok(expression),
        AttributeValue::Block(block) => return Ok(Expression(block)),
        _ => {}
    }
    let damaged = |e: gimli::Error| Missing::DebugInfo(format!("location list: {e}"));
    let Some(mut list) = unit.reader().attr_locations(value).map_err(damaged)? else {
        return Err(Missing::DebugInfo("a location that is neither an expression nor a list".into()));
    };
    let Some(pc) = pc else { return Err(Missing::OptimisedOut) };
    for _ in 0..LIMIT_ENTRIES {
        match list.next().map_err(damaged)? {
            Some(entry) if entry.range.begin <= pc.0 && pc.0 < entry.range.end => return Ok(entry.data),
            Some(_) => {}
            None => return Err(Missing::OptimisedOut),
        }
    }
    Err(Missing::Limit("entries of one location list"))
}

/// Whether the address ranges of a DIE cover `pc`; `None` when it has none.
///
/// # Errors
/// The ranges cannot be read.
pub fn live<'m>(
    unit: &Unit<'m>,
    entry: &gimli::DebuggingInformationEntry<Slice<'m>>,
    pc: Svma,
) -> Result<Option<bool>, gimli::Error> {
    if !entry.has_attr(gimli::DW_AT_low_pc) && !entry.has_attr(gimli::DW_AT_ranges) {
        return Ok(None);
    }
    let mut ranges = unit.reader().die_ranges(entry)?;
    let mut any = false;
    for _ in 0..LIMIT_ENTRIES {
        let Some(range) = ranges.next()? else { break };
        any |= range.begin < range.end;
        if range.begin <= pc.0 && pc.0 < range.end {
            return Ok(Some(true));
        }
    }
    Ok(any.then_some(false))
}

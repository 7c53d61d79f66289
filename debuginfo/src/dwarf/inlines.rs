//! Which calls were inlined at an address of a function.

use super::cursor::Cursor;
use super::ranges::Pcs;
use super::unit::Unit;
use gimli::{AttributeValue, UnitOffset};

/// Deepest chain of inlined calls kept. Compilers stop inlining long before; gcc's and clang's own limits are dozens.
pub const LIMIT_INLINES: usize = 256;

/// Most DIEs and range list entries looked at for one address: ten times what the largest functions seen have (machine
/// made interpreters). A tenth of a second.
const LIMIT_STEPS: usize = 1 << 20;

/// One inlined call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InlinedCall {
    pub(crate) die: Option<UnitOffset>,
    depth: isize,
    /// `DW_AT_call_file`, `DW_AT_call_line`, `DW_AT_call_column`: where the caller makes the call.
    pub(crate) file: Option<u64>,
    pub(crate) line: Option<u64>,
    pub(crate) column: Option<u64>,
}

/// The inlined calls within the subprogram at `function` that cover `at`, outermost first.
///
/// A call without `DW_AT_call_file` or `DW_AT_call_line` is no frame: gdb, too, takes it for a mere block then
/// (`read_func_scope`), since its caller could not be shown.
pub(crate) fn chain(unit: &Unit<'_>, function: UnitOffset, at: u64) -> Result<Vec<InlinedCall>, gimli::Error> {
    let reader = unit.reader();
    let mut cursor = Cursor::new(reader, Some(function))?;
    let mut chain: Vec<InlinedCall> = Vec::new();
    let Some(root) = cursor.next()? else { return Ok(chain) };
    cursor.skip_attributes(root)?;
    let mut left = LIMIT_STEPS;
    while !cursor.at_end() {
        let Some(die) = cursor.next()? else { break };
        left = left.saturating_sub(1);
        if left == 0 {
            unit.doubt(format!(
                "more than {LIMIT_STEPS} DIEs in one function: inlined calls at {at:#x} may be missing"
            ));
            break;
        }
        let tag = die.abbreviation.tag();
        let is_call = tag == gimli::DW_TAG_inlined_subroutine;
        let is_block = matches!(
            tag,
            gimli::DW_TAG_lexical_block
                | gimli::DW_TAG_try_block
                | gimli::DW_TAG_catch_block
                | gimli::DW_TAG_with_stmt
                | gimli::DW_TAG_common_block
        );
        if !die.abbreviation.has_children() && !is_call {
            cursor.skip_attributes(die)?;
            continue;
        }
        let mut pcs = Pcs::default();
        let mut call = InlinedCall { die: Some(die.offset), depth: die.depth, ..InlinedCall::default() };
        let sibling = cursor.attributes(die, |attribute| {
            pcs.take(attribute);
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_call_file, AttributeValue::FileIndex(n)) => call.file = Some(n),
                (gimli::DW_AT_call_file, value) => call.file = value.udata_value(),
                (gimli::DW_AT_call_line, value) => call.line = value.udata_value(),
                (gimli::DW_AT_call_column, value) => call.column = value.udata_value(),
                _ => {}
            }
        })?;
        let mut covers = false;
        if is_call || (is_block && pcs.any()) {
            let _ = pcs.each(reader, unit.zero_is_code, &mut left, |range| {
                covers = range.contains(&at);
                !covers
            });
        } else {
            covers = is_block;
        }
        // Overlapping siblings: the first that covers the address has it.
        if !covers || chain.last().is_some_and(|c| c.depth >= die.depth) {
            cursor.skip_children(die, sibling)?;
        } else if is_call && call.file.is_some() && call.line.is_some() {
            chain.push(call);
            if chain.len() >= LIMIT_INLINES {
                break;
            }
        }
    }
    Ok(chain)
}

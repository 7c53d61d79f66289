//! The functions of a unit, found by stepping over everything else.
//!
//! Most DIEs of a unit are types and variables that a backtrace does not want. What a compiler writes has few
//! abbreviations, and nearly all of them have attributes of one size each: so how long a DIE is, and where it says its
//! sibling, is worked out once for each abbreviation. Whatever is not of that kind is left to the caller, who reads
//! DIE by DIE.

use super::cursor::Cursor;
use super::unit::Unit;
use evidence::ToUsize;
use evidence::bytes::{Endian, u8_at, u16_at, u32_at, u64_at};
use gimli::{Abbreviation, Encoding, Format, Reader as _, UnitOffset};

/// What is known of all DIEs of one abbreviation.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// The bytes of its attributes, and where among them its sibling stands, in how many bytes; `None` if the DIEs differ.
    fixed: Option<(usize, Option<(usize, usize)>)>,
    children: bool,
    descend: bool,
    /// A function with addresses.
    function: bool,
}

/// Shapes by abbreviation code, as far as they were met.
struct Shapes<'u> {
    abbreviations: &'u gimli::Abbreviations,
    encoding: Encoding,
    known: Vec<Option<Shape>>,
}

/// Codes above this are not numbered by a compiler.
const LIMIT_CODE: usize = 1 << 14;

impl Shapes<'_> {
    fn of(&mut self, code: u64) -> Option<Shape> {
        let index = code.to_usize();
        if let Some(Some(shape)) = self.known.get(index) {
            return Some(*shape);
        }
        if index >= LIMIT_CODE {
            return None;
        }
        let shape = shape(self.abbreviations.get(code)?, self.encoding);
        if self.known.len() <= index {
            self.known.resize(index.saturating_add(1), None);
        }
        if let Some(slot) = self.known.get_mut(index) {
            *slot = Some(shape);
        }
        Some(shape)
    }
}

fn shape(abbreviation: &Abbreviation, encoding: Encoding) -> Shape {
    let has = |name| abbreviation.attributes().iter().any(|a| a.name() == name);
    let tag = abbreviation.tag();
    Shape {
        fixed: sizes(abbreviation, encoding),
        children: abbreviation.has_children(),
        descend: matches!(tag, gimli::DW_TAG_namespace | gimli::DW_TAG_module),
        function: tag == gimli::DW_TAG_subprogram && (has(gimli::DW_AT_low_pc) || has(gimli::DW_AT_ranges)),
    }
}

fn sizes(abbreviation: &Abbreviation, encoding: Encoding) -> Option<(usize, Option<(usize, usize)>)> {
    const READ: [gimli::DwForm; 4] =
        [gimli::DW_FORM_ref1, gimli::DW_FORM_ref2, gimli::DW_FORM_ref4, gimli::DW_FORM_ref8];
    let (mut size, mut sibling) = (0_usize, None);
    for attribute in abbreviation.attributes() {
        let length = fixed(attribute.form(), encoding)?;
        if attribute.name() == gimli::DW_AT_sibling {
            if !READ.contains(&attribute.form()) {
                return None;
            }
            sibling = Some((size, length));
        }
        size = size.checked_add(length)?;
    }
    Some((size, sibling))
}

/// The bytes of a form that always has as many (DWARF 5, section 7.5.6).
fn fixed(form: gimli::DwForm, encoding: Encoding) -> Option<usize> {
    let word = match encoding.format {
        Format::Dwarf32 => 4,
        Format::Dwarf64 => 8,
    };
    Some(match form {
        gimli::DW_FORM_flag_present | gimli::DW_FORM_implicit_const => 0,
        gimli::DW_FORM_data1
        | gimli::DW_FORM_flag
        | gimli::DW_FORM_ref1
        | gimli::DW_FORM_strx1
        | gimli::DW_FORM_addrx1 => 1,
        gimli::DW_FORM_data2 | gimli::DW_FORM_ref2 | gimli::DW_FORM_strx2 | gimli::DW_FORM_addrx2 => 2,
        gimli::DW_FORM_strx3 | gimli::DW_FORM_addrx3 => 3,
        gimli::DW_FORM_data4
        | gimli::DW_FORM_ref4
        | gimli::DW_FORM_ref_sup4
        | gimli::DW_FORM_strx4
        | gimli::DW_FORM_addrx4 => 4,
        gimli::DW_FORM_data8 | gimli::DW_FORM_ref8 | gimli::DW_FORM_ref_sig8 | gimli::DW_FORM_ref_sup8 => 8,
        gimli::DW_FORM_data16 => 16,
        gimli::DW_FORM_addr => encoding.address_size.into(),
        gimli::DW_FORM_sec_offset
        | gimli::DW_FORM_strp
        | gimli::DW_FORM_line_strp
        | gimli::DW_FORM_strp_sup
        | gimli::DW_FORM_GNU_strp_alt
        | gimli::DW_FORM_GNU_ref_alt => word,
        gimli::DW_FORM_ref_addr if encoding.version == 2 => encoding.address_size.into(),
        gimli::DW_FORM_ref_addr => word,
        _ => return None,
    })
}

/// A place in the bytes of a unit.
struct Place<'u, 'm> {
    unit: &'u Unit<'m>,
    bytes: &'u [u8],
    endian: Endian,
    /// Offset in the unit of the first of them.
    base: usize,
    at: usize,
}

impl Place<'_, '_> {
    /// The code of the next DIE.
    #[inline]
    fn code(&mut self) -> Option<u64> {
        let first = *self.bytes.get(self.at)?;
        self.at = self.at.saturating_add(1);
        if first < 0x80 {
            return Some(first.into());
        }
        let second = *self.bytes.get(self.at).filter(|b| **b < 0x80)?;
        self.at = self.at.saturating_add(1);
        Some(u64::from(first & 0x7f) | u64::from(second) << 7)
    }

    /// Steps past the attributes of the DIE that starts at `start`, whose code was just read. Gives the sibling that it
    /// says, if that lies behind them.
    #[inline]
    fn attributes(&mut self, shape: &Shape, start: usize) -> Option<Option<usize>> {
        let Some((size, sibling)) = shape.fixed else { return self.attributes_one_by_one(start) };
        let first = self.at;
        self.at = first.checked_add(size)?;
        let Some((at, length)) = sibling else { return Some(None) };
        let at = first.checked_add(at)?;
        let offset = match length {
            1 => u8_at(self.bytes, at)?.into(),
            2 => u16_at(self.bytes, at, self.endian)?.into(),
            4 => u32_at(self.bytes, at, self.endian)?.into(),
            _ => u64_at(self.bytes, at, self.endian)?,
        };
        let sibling = offset.to_usize().checked_sub(self.base);
        Some(sibling.filter(|sibling| *sibling > self.at))
    }

    #[cold]
    fn attributes_one_by_one(&mut self, start: usize) -> Option<Option<usize>> {
        let at = UnitOffset(self.base.checked_add(start)?);
        let mut cursor = Cursor::new(self.unit.reader(), Some(at)).ok()?;
        let die = cursor.next().ok()??;
        let sibling = cursor.attributes(die, |_| {}).ok()?;
        self.at = cursor.position().checked_sub(self.base)?;
        let sibling = sibling.and_then(|s| s.0.checked_sub(self.base));
        Some(sibling.filter(|sibling| *sibling > self.at))
    }

    /// Steps past a DIE and all that is in it.
    fn pass(&mut self, shapes: &mut Shapes<'_>, shape: Shape, start: usize) -> Option<()> {
        let sibling = self.attributes(&shape, start)?;
        if !shape.children {
            return Some(());
        }
        if let Some(sibling) = sibling {
            self.at = sibling;
            return Some(());
        }
        let mut depth = 1_usize;
        while depth > 0 {
            let start = self.at;
            let code = self.code()?;
            if code == 0 {
                depth = depth.saturating_sub(1);
                continue;
            }
            let inner = shapes.of(code)?;
            match self.attributes(&inner, start)?.filter(|_| inner.children) {
                Some(sibling) => self.at = sibling,
                None => depth = depth.saturating_add(usize::from(inner.children)),
            }
        }
        Some(())
    }
}

/// How to go on behind a function.
pub(super) enum Next {
    /// With the DIE at this offset.
    At(UnitOffset),
    /// Not at all: enough was found.
    Enough,
    /// It cannot be read.
    Damaged,
}

/// Calls `with` for each function that is a child of the unit or of a namespace and has addresses.
///
/// `None`: something is damaged, or unlike anything that a compiler writes.
pub(super) fn functions(unit: &Unit<'_>, mut with: impl FnMut(UnitOffset) -> Next) -> Option<()> {
    let reader = unit.reader();
    let mut cursor = Cursor::new(reader, None).ok()?;
    let root = cursor.next().ok()??;
    cursor.skip_attributes(root).ok()?;
    if !root.abbreviation.has_children() {
        return Some(());
    }
    let base = cursor.position();
    let bytes = unit.unit.header.range_from(UnitOffset(base)..).ok()?;
    let endian = Endian::from_big(bytes.endian() == gimli::RunTimeEndian::Big);
    let mut place = Place { unit, bytes: bytes.slice(), endian, base, at: 0 };
    let encoding = unit.unit.encoding();
    let mut shapes = Shapes { abbreviations: &unit.unit.abbreviations, encoding, known: Vec::new() };
    let mut depth = 1_usize;
    // A unit may end without the zeros that end its lists.
    while depth > 0 && place.at != place.bytes.len() {
        let start = place.at;
        let code = place.code()?;
        if code == 0 {
            depth = depth.saturating_sub(1);
            continue;
        }
        let shape = shapes.of(code)?;
        if shape.function {
            match with(UnitOffset(base.checked_add(start)?)) {
                Next::At(next) => place.at = next.0.checked_sub(base).filter(|next| *next > start)?,
                Next::Enough => return Some(()),
                Next::Damaged => return None,
            }
        } else if shape.descend {
            place.attributes(&shape, start)?;
            depth = depth.saturating_add(usize::from(shape.children));
        } else {
            place.pass(&mut shapes, shape, start)?;
        }
        if place.at > place.bytes.len() {
            return None;
        }
    }
    Some(())
}

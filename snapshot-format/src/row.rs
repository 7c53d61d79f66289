//! How the fields of a row become the cells of columns, and back.

use crate::format::varint::{unzigzag, zigzag};
use crate::schema::{Trust, VariableKind};
use std::sync::Arc;

/// The data type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// Unsigned 64-bit numbers; addresses, sizes, row indices, numbered variants.
    Unsigned,
    /// Signed 64-bit numbers.
    Signed,
    /// Truth values.
    Bool,
    /// IEEE 754 binary64.
    Float,
    /// UTF-8.
    Text,
    /// Byte strings.
    Bytes,
}

impl DataType {
    /// All of them, in the order of their numbers on disk, which start at 1.
    pub const ALL: [Self; 6] = [Self::Unsigned, Self::Signed, Self::Bool, Self::Float, Self::Text, Self::Bytes];

    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Unsigned => 1,
            Self::Signed => 2,
            Self::Bool => 3,
            Self::Float => 4,
            Self::Text => 5,
            Self::Bytes => 6,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|data| data.number() == number)
    }

    /// Whether values are byte strings on disk, and not numbers.
    pub(crate) const fn is_string(self) -> bool {
        matches!(self, Self::Text | Self::Bytes)
    }
}

/// One value of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Absent.
    Null,
    /// An unsigned number.
    Unsigned(u64),
    /// A signed number.
    Signed(i64),
    /// A truth value.
    Bool(bool),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Text(&'a str),
    /// A byte string.
    Bytes(&'a [u8]),
}

impl<'a> Cell<'a> {
    /// The number that stands for the cell in an integer stream.
    pub(crate) fn number(self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => Some(zigzag(value)),
            Self::Bool(value) => Some(value.into()),
            Self::Float(value) => Some(value.to_bits()),
            Self::Null | Self::Text(_) | Self::Bytes(_) => None,
        }
    }

    /// The byte string of the cell.
    pub(crate) const fn string(self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The cell that a number of an integer stream stands for.
    pub(crate) fn from_number(data: DataType, number: u64) -> Option<Self> {
        Some(match data {
            DataType::Unsigned => Self::Unsigned(number),
            DataType::Signed => Self::Signed(unzigzag(number)),
            DataType::Bool => match number {
                0 => Self::Bool(false),
                1 => Self::Bool(true),
                _ => return None,
            },
            DataType::Float => Self::Float(f64::from_bits(number)),
            DataType::Text | DataType::Bytes => return None,
        })
    }

    /// Whether a required column holds this where nothing was said: zero, false, empty.
    pub(crate) fn is_zero(self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(_) | Self::Bytes(_) => self.string().is_some_and(<[u8]>::is_empty),
            _ => self.number() == Some(0),
        }
    }
}

/// A column of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Number on disk.
    pub id: u32,
    /// Name.
    pub name: &'static str,
    /// Data type.
    pub data: DataType,
    /// Whether cells may be absent. Then a column that is not written holds nothing; else it holds zeros.
    pub optional: bool,
    /// Whether a row without this column would say something wrong, so that readers drop it when the column is damaged.
    pub essential: bool,
}

impl ColumnSpec {
    /// What the cells of a column hold that the writer left out.
    pub(crate) const fn unwritten(&self) -> Cell<'static> {
        if self.optional {
            return Cell::Null;
        }
        match self.data {
            DataType::Unsigned => Cell::Unsigned(0),
            DataType::Signed => Cell::Signed(0),
            DataType::Bool => Cell::Bool(false),
            DataType::Float => Cell::Float(0.0),
            DataType::Text => Cell::Text(""),
            DataType::Bytes => Cell::Bytes(&[]),
        }
    }
}

/// The column of blob tables that counts a blob's bytes in chunks.
pub(crate) const CHUNKED: u32 = 15;

/// A row of a table.
pub trait Row: Default + Clone {
    /// Number of the table on disk.
    const TABLE: u32;
    /// Name of the table.
    const NAME: &'static str;
    /// Columns.
    const COLUMNS: &'static [ColumnSpec];

    /// The cell of a column.
    fn get(&self, column: u32) -> Cell<'_>;

    /// Sets a column; false if the field cannot hold the cell.
    fn set(&mut self, column: u32, cell: Cell<'_>) -> bool;

    /// The blob of the row; tables with blobs have a column [`CHUNKED`].
    #[doc(hidden)]
    fn blob(&self) -> &[u8] {
        &[]
    }

    /// The blob, to be filled.
    #[doc(hidden)]
    fn blob_mut(&mut self) -> Option<&mut Vec<u8>> {
        None
    }

    /// Address space and address of the blob's first byte.
    #[doc(hidden)]
    fn place(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// A field of a row.
pub(crate) trait Field {
    const DATA: DataType;
    const OPTIONAL: bool = false;
    fn cell(&self) -> Cell<'_>;
    fn put(&mut self, cell: Cell<'_>) -> bool;
}

/// Stores a converted value; false where there is none.
fn store<T>(to: &mut T, value: Option<T>) -> bool {
    value.map(|value| *to = value).is_some()
}

macro_rules! field {
    ($type:ty, $data:ident, |$self:ident| $cell:expr, |$from:ident| $value:expr) => {
        impl Field for $type {
            const DATA: DataType = DataType::$data;
            fn cell(&self) -> Cell<'_> {
                let $self = self;
                Cell::$data($cell)
            }
            fn put(&mut self, cell: Cell<'_>) -> bool {
                let Cell::$data($from) = cell else { return false };
                store(self, $value)
            }
        }
    };
}

field!(u64, Unsigned, |value| *value, |cell| Some(cell));
field!(u32, Unsigned, |value| u64::from(*value), |cell| Self::try_from(cell).ok());
field!(i64, Signed, |value| *value, |cell| Some(cell));
field!(bool, Bool, |value| *value, |cell| Some(cell));
field!(f64, Float, |value| *value, |cell| Some(cell));
field!(String, Text, |value| value, |cell| Some(cell.to_owned()));
field!(Arc<str>, Text, |value| value, |cell| Some(cell.into()));
field!(Vec<u8>, Bytes, |value| value, |cell| Some(cell.to_vec()));
field!(Trust, Unsigned, |value| position(&Self::ALL, value), |cell| variant(&Self::ALL, cell));
field!(VariableKind, Unsigned, |value| position(&Self::ALL, value), |cell| variant(&Self::ALL, cell));

fn position<T: PartialEq>(all: &[T], value: &T) -> u64 {
    (0u64..).zip(all).find(|(_, other)| *other == value).map_or(0, |(number, _)| number)
}

fn variant<T: Copy>(all: &[T], number: u64) -> Option<T> {
    all.get(usize::try_from(number).ok()?).copied()
}

impl<T: Field + Default> Field for Option<T> {
    const DATA: DataType = T::DATA;
    const OPTIONAL: bool = true;

    fn cell(&self) -> Cell<'_> {
        self.as_ref().map_or(Cell::Null, Field::cell)
    }

    fn put(&mut self, cell: Cell<'_>) -> bool {
        if matches!(cell, Cell::Null) {
            *self = None;
            return true;
        }
        let mut value = T::default();
        let fits = value.put(cell);
        *self = fits.then_some(value);
        fits
    }
}

/// The specification of a column that holds fields of type `T`.
pub(crate) const fn column<T: Field>(id: u32, name: &'static str, essential: bool) -> ColumnSpec {
    ColumnSpec { id, name, data: T::DATA, optional: T::OPTIONAL, essential }
}

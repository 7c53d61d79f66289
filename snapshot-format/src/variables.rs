//! The table of variables: a [`Value`] lies in one column for its variant and one for each shape of it.

use crate::format::varint::{unzigzag, zigzag};
use crate::row::{Cell, ColumnSpec, Field, Row, column};
use crate::schema::{Value, Variable, VariableKind};
use std::sync::Arc;

const VALUE_KIND: u32 = 12;
const VALUE_NUMBER: u32 = 13;
const VALUE_FLOAT: u32 = 14;
const VALUE_POINTER: u32 = 15;
const VALUE_TEXT: u32 = 16;

impl Row for Variable {
    const TABLE: u32 = 14;
    const NAME: &'static str = "variables";
    const COLUMNS: &'static [ColumnSpec] = &[
        column::<Option<u64>>(1, "thread", true),
        column::<Option<u32>>(2, "frame", true),
        column::<Option<u32>>(3, "parent", true),
        column::<Arc<str>>(4, "name", true),
        column::<Arc<str>>(5, "type_name", false),
        column::<VariableKind>(6, "kind", true),
        column::<Option<u64>>(7, "address", false),
        column::<Option<Arc<str>>>(8, "absent", true),
        column::<bool>(9, "truncated", true),
        column::<Option<u64>>(10, "line", false),
        // The variant comes before its parts: setting it makes room for them.
        column::<u64>(VALUE_KIND, "value_kind", true),
        column::<Option<u64>>(VALUE_NUMBER, "value_number", true),
        column::<Option<f64>>(VALUE_FLOAT, "value_float", true),
        column::<Option<u64>>(VALUE_POINTER, "value_pointer", true),
        column::<Option<String>>(VALUE_TEXT, "value_text", true),
    ];

    fn get(&self, column: u32) -> Cell<'_> {
        match (column, &self.value) {
            (1, _) => self.thread.cell(),
            (2, _) => self.frame.cell(),
            (3, _) => self.parent.cell(),
            (4, _) => self.name.cell(),
            (5, _) => self.type_name.cell(),
            (6, _) => self.kind.cell(),
            (7, _) => self.address.cell(),
            (8, _) => self.absent.cell(),
            (9, _) => self.truncated.cell(),
            (10, _) => self.line.cell(),
            (VALUE_KIND, value) => Cell::Unsigned(number_of(value)),
            (VALUE_NUMBER, Value::Signed(value)) => Cell::Unsigned(zigzag(*value)),
            (VALUE_NUMBER, Value::Unsigned(value)) => Cell::Unsigned(*value),
            (VALUE_NUMBER, Value::Bool(value)) => Cell::Unsigned(u64::from(*value)),
            (VALUE_FLOAT, Value::Float(value)) => Cell::Float(*value),
            (VALUE_POINTER, Value::Pointer(value)) => Cell::Unsigned(*value),
            (VALUE_TEXT, Value::Text(value)) => Cell::Text(value),
            _ => Cell::Null,
        }
    }

    fn set(&mut self, column: u32, cell: Cell<'_>) -> bool {
        match column {
            1 => self.thread.put(cell),
            2 => self.frame.put(cell),
            3 => self.parent.put(cell),
            4 => self.name.put(cell),
            5 => self.type_name.put(cell),
            6 => self.kind.put(cell),
            7 => self.address.put(cell),
            8 => self.absent.put(cell),
            9 => self.truncated.put(cell),
            10 => self.line.put(cell),
            VALUE_KIND => {
                let value = if let Cell::Unsigned(number) = cell { empty(number) } else { None };
                value.map(|value| self.value = value).is_some()
            }
            _ => set_part(&mut self.value, column, cell),
        }
    }
}

/// Fills in the part of the value that lies in `column`. A part that the variant has no room for is not its own.
fn set_part(value: &mut Value, column: u32, cell: Cell<'_>) -> bool {
    match (column, value, cell) {
        (VALUE_NUMBER, Value::Signed(to), Cell::Unsigned(from)) => *to = unzigzag(from),
        (VALUE_NUMBER, Value::Unsigned(to), Cell::Unsigned(from))
        | (VALUE_POINTER, Value::Pointer(to), Cell::Unsigned(from)) => *to = from,
        (VALUE_NUMBER, Value::Bool(to), Cell::Unsigned(from @ 0..=1)) => *to = from == 1,
        (VALUE_FLOAT, Value::Float(to), Cell::Float(from)) => *to = from,
        (VALUE_TEXT, Value::Text(to), Cell::Text(from)) => from.clone_into(to),
        (VALUE_NUMBER, Value::Signed(_) | Value::Unsigned(_) | Value::Bool(_), _)
        | (VALUE_FLOAT, Value::Float(_), _)
        | (VALUE_POINTER, Value::Pointer(_), _)
        | (VALUE_TEXT, Value::Text(_), _) => return false,
        (_, _, Cell::Null) => {}
        (VALUE_NUMBER | VALUE_FLOAT | VALUE_POINTER | VALUE_TEXT, _, _) => return false,
        _ => {}
    }
    true
}

const fn number_of(value: &Value) -> u64 {
    match value {
        Value::None => 0,
        Value::Signed(_) => 1,
        Value::Unsigned(_) => 2,
        Value::Float(_) => 3,
        Value::Bool(_) => 4,
        Value::Pointer(_) => 5,
        Value::Text(_) => 6,
    }
}

/// The variant of a number, with nothing in it yet.
const fn empty(number: u64) -> Option<Value> {
    Some(match number {
        0 => Value::None,
        1 => Value::Signed(0),
        2 => Value::Unsigned(0),
        3 => Value::Float(0.0),
        4 => Value::Bool(false),
        5 => Value::Pointer(0),
        6 => Value::Text(String::new()),
        _ => return None,
    })
}

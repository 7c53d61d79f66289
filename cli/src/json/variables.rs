//! Variables of the document: trees out of rows.

use super::Hex;
use crate::view::View;
use serde::{Serialize, Serializer};
use snapshot_format::schema::{self, Value};

/// Deepest tree written. Rows are validated to be trees; this bounds the stack of the writer.
const LIMIT_DEPTH: usize = 64;

#[derive(Serialize)]
pub(super) struct VariableJson<'v> {
    name: &'v str,
    #[serde(rename = "type")]
    type_name: &'v str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<ValueJson<'v>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<&'v str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<VariableJson<'v>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
}

/// A scalar, or a string where JSON has no such scalar.
struct ValueJson<'v>(&'v Value);

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::None => serializer.serialize_none(),
            Value::Signed(v) => serializer.serialize_i64(*v),
            Value::Unsigned(v) => serializer.serialize_u64(*v),
            Value::Float(v) if v.is_finite() => serializer.serialize_f64(*v),
            Value::Float(v) => serializer.collect_str(v),
            Value::Bool(v) => serializer.serialize_bool(*v),
            Value::Pointer(v) => Hex(*v).serialize(serializer),
            Value::Text(v) => serializer.serialize_str(v),
        }
    }
}

/// The variables of a frame, or the globals.
pub(super) fn root_variables<'v>(view: &'v View<'v>, thread: Option<u64>, frame: Option<u32>) -> Vec<VariableJson<'v>> {
    view.variables(thread, frame).iter().filter_map(|row| tree(view, *row, 0)).collect()
}

fn tree<'v>(view: &'v View<'v>, row: u32, depth: usize) -> Option<VariableJson<'v>> {
    let v: &schema::Variable = view.variable(row)?;
    let children = view.children(row);
    let deeper = depth < LIMIT_DEPTH;
    Some(VariableJson {
        name: &v.name,
        type_name: &v.type_name,
        kind: v.kind.word(),
        value: (v.value != Value::None).then_some(ValueJson(&v.value)),
        address: v.address.map(Hex),
        absent: v.absent.as_deref(),
        children: if deeper { children.iter().filter_map(|c| tree(view, *c, depth + 1)).collect() } else { Vec::new() },
        truncated: v.truncated || (!deeper && !children.is_empty()),
        line: v.line,
    })
}

//! Values taken apart: ours, and gdb's as its script gives them.

use serde::{Deserialize, Serialize};

/// A value of ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OurValue {
    /// The name of its type.
    pub type_name: String,
    /// What it says by itself.
    pub scalar: OurScalar,
    /// Why there is no value.
    pub absent: Option<String>,
    /// Whether a limit cut parts or text.
    pub truncated: bool,
    /// Its parts, with their names.
    pub parts: Vec<(String, OurValue)>,
}

/// What a value of ours says without its parts.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum OurScalar {
    /// Nothing: an aggregate, or absent.
    #[default]
    None,
    /// A whole number; a truth value is 0 or 1.
    Integer(i128),
    /// A floating-point number.
    Real(f64),
    /// An address.
    Pointer(u64),
    /// A text, a character, an enumerator, a pointer to one of these, a function.
    Text(String),
}

/// A value as gdb took it apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerValue {
    /// Why it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// A limit of the script was reached here.
    pub cut: bool,
    /// A pointer that is a part of a value which does not lie in memory as a whole.
    pub pieced: bool,
    /// The type's name, for structures.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Bytes.
    pub size: u64,
    /// What gdb prints, for scalars.
    pub text: Option<String>,
    /// A whole number, also of an enumerator or character.
    pub integer: Option<String>,
    /// A floating-point number.
    pub float: Option<String>,
    /// The address that a pointer or reference holds.
    pub pointer: Option<String>,
    /// The text that a pointer to characters leads to, as hexadecimal UTF-8.
    pub string: Option<String>,
    /// What a pointer leads to.
    pub pointee: Option<Box<PeerValue>>,
    /// Members of a structure; base classes are members.
    pub members: Option<Vec<PeerMember>>,
    /// How many elements an array has.
    pub count: Option<u64>,
    /// Elements of an array, as many as were asked for.
    pub elements: Option<Vec<PeerValue>>,
    /// Elements of an array of characters or bytes, as hexadecimal.
    pub bytes: Option<String>,
    /// What the pretty-printer for its type shows.
    pub contents: Option<Contents>,
}

/// A member of a structure of gdb's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerMember {
    /// Its name, or empty.
    pub name: String,
    /// Whether it is a base class.
    pub base: bool,
    /// Its value.
    pub value: PeerValue,
}

/// What a pretty-printer shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Contents {
    /// A line about the whole.
    pub text: Option<String>,
    /// The whole as a text, as hexadecimal UTF-8.
    pub string: Option<String>,
    /// Whether the children are keys and values in turn.
    pub map: bool,
    /// Whether there are more children.
    pub cut: bool,
    /// What it holds.
    pub children: Option<Vec<PeerMember>>,
    /// What went wrong in the pretty-printer.
    pub failed: Option<String>,
}

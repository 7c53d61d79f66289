//! Expressions in mangled names: in array bounds, `decltype`, and the `enable_if` of return types.

use super::node::{Id, Node};
use super::parse::Parser;
use super::tables::OPERATORS;

/// Operators with one operand; all others of [`OPERATORS`] that can be written between operands take two.
const UNARY: &[&str] = &["ps", "ng", "ad", "de", "co", "nt", "pp", "mm", "aw"];

impl<'n> Parser<'n> {
    fn sequence_of(&mut self, pieces: &[Option<Id>]) -> Option<Id> {
        let pieces = pieces.iter().copied().collect::<Option<Vec<Id>>>()?;
        self.add(Node::Sequence(pieces))
    }

    fn around(&mut self, open: &'n str, inner: Id, close: &'n str) -> Option<Id> {
        let (open, close) = (self.text(open), self.text(close));
        self.sequence_of(&[open, Some(inner), close])
    }

    /// Expressions up to `E`.
    fn expressions(&mut self) -> Option<Id> {
        let mut all = Vec::new();
        while !self.eat("E") {
            all.push(self.expression()?);
        }
        self.add(Node::List(all))
    }

    pub(super) fn expression(&mut self) -> Option<Id> {
        self.deeper(Self::expression_inner)
    }

    fn expression_inner(&mut self) -> Option<Id> {
        match self.peek() {
            b'L' => return self.literal(),
            b'T' => return self.parameter(),
            b'0'..=b'9' => return self.simple_id(),
            _ => {}
        }
        let (code, rest) = self.rest.split_at_checked(2)?;
        self.rest = rest;
        match code {
            "sr" => self.unresolved(),
            "cl" | "cp" => {
                let function = self.expression()?;
                let arguments = self.expressions()?;
                let arguments = self.around("(", arguments, ")");
                self.sequence_of(&[Some(function), arguments])
            }
            "cv" => {
                let ty = self.ty()?;
                let inner = if self.eat("_") { self.expressions()? } else { self.expression()? };
                let (ty, inner) = (self.around("(", ty, ")"), self.around("(", inner, ")"));
                self.sequence_of(&[ty, inner])
            }
            "tl" => {
                let ty = self.ty()?;
                let inner = self.expressions()?;
                let inner = self.around("{", inner, "}");
                self.sequence_of(&[Some(ty), inner])
            }
            "il" => {
                let inner = self.expressions()?;
                self.around("{", inner, "}")
            }
            "dt" | "pt" => {
                let object = self.expression()?;
                let member = if self.rest.starts_with("sr") { self.expression()? } else { self.simple_id()? };
                let dot = self.text(if code == "dt" { "." } else { "->" });
                self.sequence_of(&[Some(object), dot, Some(member)])
            }
            "fp" => {
                self.qualifiers();
                let number = self.sequence(10)?.checked_add(1)?;
                self.add(Node::Owned(format!("{{parm#{number}}}")))
            }
            "on" => {
                let name = self.unqualified(None, None)?;
                self.with_arguments(name)
            }
            "sZ" | "sz" | "nx" => {
                let inner = self.expression()?;
                let open = match code {
                    "sZ" => "sizeof...(",
                    "sz" => "sizeof (",
                    _ => "noexcept (",
                };
                self.around(open, inner, ")")
            }
            "st" | "at" => {
                let inner = self.ty()?;
                self.around(if code == "st" { "sizeof (" } else { "alignof (" }, inner, ")")
            }
            "sp" => {
                let inner = self.expression()?;
                self.add(Node::Expansion(inner))
            }
            "qu" => {
                let (a, b, c) = (self.expression()?, self.expression()?, self.expression()?);
                let (a, b, c) = (self.around("(", a, ")"), self.around("(", b, ")"), self.around("(", c, ")"));
                let (then, or) = (self.text("?"), self.text(" : "));
                self.sequence_of(&[a, then, b, or, c])
            }
            _ => {
                let (code, sign) = OPERATORS.iter().find(|(known, _)| *known == code)?;
                let sign = self.text(sign);
                if UNARY.contains(code) {
                    let operand = self.expression()?;
                    let operand = self.around("(", operand, ")");
                    return self.sequence_of(&[sign, operand]);
                }
                let (left, right) = (self.expression()?, self.expression()?);
                let (left, right) = (self.around("(", left, ")"), self.around("(", right, ")"));
                self.sequence_of(&[left, sign, right])
            }
        }
    }

    fn simple_id(&mut self) -> Option<Id> {
        let name = self.unqualified(None, None)?;
        self.with_arguments(name)
    }

    fn with_arguments(&mut self, name: Id) -> Option<Id> {
        if !self.rest.starts_with('I') {
            return Some(name);
        }
        let arguments = self.template_arguments(false)?;
        self.add(Node::Template(name, arguments))
    }

    /// `type::name`, the type spelled as a path that ends with `E`, or as any type.
    fn unresolved(&mut self) -> Option<Id> {
        let before = (self.rest, self.nodes.len(), self.substitutions.len());
        if self.eat("N") || self.peek().is_ascii_digit() {
            if let Some(path) = self.path() {
                let name = self.simple_id()?;
                return self.add(Node::Nested(path, name));
            }
            self.rest = before.0;
            self.nodes.truncate(before.1);
            self.substitutions.truncate(before.2);
        }
        let ty = self.ty()?;
        let name = self.simple_id()?;
        self.add(Node::Nested(ty, name))
    }

    fn path(&mut self) -> Option<Id> {
        let mut path = if self.peek().is_ascii_digit() { self.simple_id()? } else { self.ty()? };
        while !self.eat("E") {
            let name = self.simple_id()?;
            path = self.add(Node::Nested(path, name))?;
        }
        Some(path)
    }
}

//! Types, template arguments and expressions of a mangled name.

use super::node::{Id, Node, Qualifiers};
use super::parse::Parser;
use super::tables::BUILTINS;

impl Parser<'_> {
    pub(super) fn template_arguments(&mut self, remember: bool) -> Option<Vec<Id>> {
        self.eat("I");
        let mut all = Vec::new();
        if remember {
            self.arguments.clear();
        }
        while !self.eat("E") {
            let argument = self.template_argument()?;
            all.push(argument);
            if remember {
                let known = match self.nodes.get(argument)? {
                    Node::Pack(all) => {
                        let all = all.clone();
                        self.add(Node::Element(all))?
                    }
                    _ => argument,
                };
                self.arguments.push(known);
            }
        }
        Some(all)
    }

    fn template_argument(&mut self) -> Option<Id> {
        self.deeper(|p| match p.peek() {
            b'X' => {
                p.eat("X");
                let id = p.expression()?;
                p.eat("E").then_some(id)
            }
            b'L' => p.literal(),
            b'J' => {
                p.eat("J");
                let mut all = Vec::new();
                while !p.eat("E") {
                    all.push(p.template_argument()?);
                }
                p.add(Node::Pack(all))
            }
            _ => p.ty(),
        })
    }

    pub(super) fn literal(&mut self) -> Option<Id> {
        self.eat("L");
        if self.eat("_Z") || self.eat("Z") {
            let id = self.encoding()?;
            return self.eat("E").then_some(id);
        }
        let ty = self.ty()?;
        let (value, rest) = self.rest.split_once('E')?;
        self.rest = rest;
        self.add(Node::Literal(ty, value))
    }

    pub(super) fn decltype(&mut self) -> Option<Id> {
        self.rest = self.rest.get(2..)?;
        let expression = self.expression()?;
        if !self.eat("E") {
            return None;
        }
        let (open, close) = (self.text("decltype (")?, self.text(")")?);
        self.add(Node::Sequence(vec![open, expression, close]))
    }

    pub(super) fn ty(&mut self) -> Option<Id> {
        self.deeper(Self::ty_inner)
    }

    fn ty_inner(&mut self) -> Option<Id> {
        if let Some((code, text)) = BUILTINS.iter().find(|(code, _)| self.rest.starts_with(code)) {
            self.eat(code);
            return self.text(text);
        }
        let second = self.rest.as_bytes().get(1).copied().unwrap_or(0);
        let id = match (self.peek(), second) {
            (b'r' | b'V' | b'K', _) => {
                let qualifiers = self.qualifiers();
                // Of a function they are part of its type, which is then one candidate for substitution, not two.
                let inner = if self.peek() == b'F' { self.function()? } else { self.ty()? };
                self.add(Node::Qualified(inner, qualifiers))?
            }
            (b'P', _) => {
                self.eat("P");
                let inner = self.ty()?;
                self.add(Node::Pointer(inner))?
            }
            (b'R' | b'O', _) => {
                let double = self.eat("O") || !self.eat("R");
                let inner = self.ty()?;
                self.add(Node::Reference(inner, double))?
            }
            (b'F', _) | (b'D', b'o') => self.function()?,
            (b'A', _) => self.array()?,
            (b'M', _) => {
                self.eat("M");
                let (class, member) = (self.ty()?, self.ty()?);
                self.add(Node::Member(class, member))?
            }
            (b'T', b's' | b'u' | b'e') => {
                self.rest = self.rest.get(2..)?;
                self.name(None)?
            }
            (b'T', _) => {
                let id = self.parameter()?;
                if self.rest.starts_with('I') {
                    self.substitutable(id)?;
                    let arguments = self.template_arguments(false)?;
                    self.add(Node::Template(id, arguments))?
                } else {
                    id
                }
            }
            (b'D', b't' | b'T') => self.decltype()?,
            (b'D', b'p') => {
                self.eat("Dp");
                let inner = self.ty()?;
                self.add(Node::Expansion(inner))?
            }
            (b'S', next) if next != b't' => {
                let id = self.substitution()?;
                if !self.rest.starts_with('I') {
                    return Some(id);
                }
                let arguments = self.template_arguments(false)?;
                self.add(Node::Template(id, arguments))?
            }
            (b'0'..=b'9' | b'N' | b'Z' | b'S', _) => self.name(None)?,
            _ => return None,
        };
        self.substitutable(id)
    }

    fn function(&mut self) -> Option<Id> {
        let noexcept = self.eat("Do");
        if !self.eat("F") {
            return None;
        }
        self.eat("Y");
        let result = self.ty()?;
        let (mut parameters, mut qualifiers) = (Vec::new(), Qualifiers::default());
        loop {
            if self.eat("E") {
                break;
            }
            if self.eat("RE") || self.eat("OE") {
                qualifiers.reference = "&";
                break;
            }
            if self.rest.starts_with("vE") || self.rest.starts_with("vRE") || self.rest.starts_with("vOE") {
                self.eat("v");
                continue;
            }
            parameters.push(self.ty()?);
        }
        self.add(Node::Function { result, parameters, qualifiers, noexcept })
    }

    fn array(&mut self) -> Option<Id> {
        self.eat("A");
        let size = if self.peek().is_ascii_digit() {
            let (digits, _) = self.rest.split_once('_')?;
            let id = self.text(digits)?;
            self.number()?;
            Some(id)
        } else if self.peek() == b'_' {
            None
        } else {
            Some(self.expression()?)
        };
        if !self.eat("_") {
            return None;
        }
        let element = self.ty()?;
        self.add(Node::Array(element, size))
    }
}

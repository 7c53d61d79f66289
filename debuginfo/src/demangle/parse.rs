//! From a mangled name to its parts, by the grammar of the Itanium C++ ABI, section 5.1.

use super::node::{Id, Node, Qualifiers};
use super::tables::{OPERATORS, SPECIAL};

/// Deepest nesting of a mangled name: what fits a 2 MB thread stack without optimisation.
const LIMIT_NESTING: usize = 160;

/// Most parts of one name: as many as its longest form has bytes.
const LIMIT_NODES: usize = 1 << 16;

pub(super) struct Parser<'n> {
    pub(super) rest: &'n str,
    pub(super) nodes: Vec<Node<'n>>,
    pub(super) substitutions: Vec<Id>,
    pub(super) arguments: Vec<Id>,
    depth: usize,
    in_lambda: bool,
}

/// What a name turned out to be, for what follows it.
#[derive(Clone, Copy, Default)]
pub(super) struct Shape {
    qualifiers: Qualifiers,
    /// It ends with template arguments.
    template: bool,
    /// A constructor, destructor or conversion: no return type is encoded.
    without_result: bool,
}

impl<'n> Parser<'n> {
    pub(super) const fn new(mangled: &'n str) -> Self {
        Self {
            rest: mangled,
            nodes: Vec::new(),
            substitutions: Vec::new(),
            arguments: Vec::new(),
            depth: 0,
            in_lambda: false,
        }
    }

    /// The whole of what follows `_Z`, with a compiler's suffixes.
    pub(super) fn all(&mut self) -> Option<Id> {
        let mut root = self.encoding()?;
        while self.rest.starts_with('.') {
            // ".isra.0" and ".cold" are one suffix each.
            let tail = self.rest.get(1..)?;
            let word = tail.find(|c: char| !c.is_ascii_alphabetic() && c != '_').unwrap_or(tail.len());
            let mut end = word;
            loop {
                let more = tail.get(end..)?;
                let digits = more
                    .strip_prefix('.')
                    .map_or(0, |d| d.len().saturating_sub(d.trim_start_matches(|c: char| c.is_ascii_digit()).len()));
                if digits == 0 {
                    break;
                }
                end = end.checked_add(digits)?.checked_add(1)?;
            }
            if end == 0 {
                return None;
            }
            let suffix = self.rest.get(..end.checked_add(1)?)?;
            self.rest = tail.get(end..)?;
            root = self.add(Node::Clone(root, suffix))?;
        }
        self.rest.is_empty().then_some(root)
    }

    pub(super) fn add(&mut self, node: Node<'n>) -> Option<Id> {
        if self.nodes.len() >= LIMIT_NODES {
            return None;
        }
        self.nodes.push(node);
        self.nodes.len().checked_sub(1)
    }

    pub(super) fn text(&mut self, text: &'n str) -> Option<Id> {
        self.add(Node::Text(text))
    }

    pub(super) fn substitutable(&mut self, id: Id) -> Option<Id> {
        self.substitutions.push(id);
        Some(id)
    }

    pub(super) fn eat(&mut self, prefix: &str) -> bool {
        self.rest.strip_prefix(prefix).map(|rest| self.rest = rest).is_some()
    }

    pub(super) fn peek(&self) -> u8 {
        self.rest.as_bytes().first().copied().unwrap_or(0)
    }

    pub(super) fn number(&mut self) -> Option<usize> {
        let digits = self.rest.len().saturating_sub(self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len());
        let (number, rest) = self.rest.split_at_checked(digits)?;
        self.rest = rest;
        number.parse().ok()
    }

    /// `_` is 0, `0_` is 1, and so on, in the given base.
    pub(super) fn sequence(&mut self, base: u32) -> Option<usize> {
        let (number, rest) = self.rest.split_once('_')?;
        self.rest = rest;
        if number.is_empty() {
            return Some(0);
        }
        if number.chars().any(|c| !(c.is_ascii_digit() || (base > 10 && c.is_ascii_uppercase()))) {
            return None;
        }
        usize::from_str_radix(number, base).ok()?.checked_add(1)
    }

    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth >= LIMIT_NESTING {
            return None;
        }
        self.depth = self.depth.saturating_add(1);
        let result = work(self);
        self.depth = self.depth.saturating_sub(1);
        result
    }

    pub(super) fn encoding(&mut self) -> Option<Id> {
        self.deeper(Self::encoding_inner)
    }

    fn encoding_inner(&mut self) -> Option<Id> {
        if let Some(special) = self.special()? {
            return Some(special);
        }
        let mut shape = Shape::default();
        let name = self.name(Some(&mut shape))?;
        if matches!(self.peek(), 0 | b'E' | b'.') {
            return Some(name);
        }
        let result = if shape.template && !shape.without_result { Some(self.ty()?) } else { None };
        let parameters = self.parameters()?;
        self.add(Node::Encoding { result, name, parameters, qualifiers: shape.qualifiers })
    }

    /// Types up to the end; a single `void` is none.
    fn parameters(&mut self) -> Option<Vec<Id>> {
        let mut all = Vec::new();
        if self.rest.starts_with('v') && matches!(self.rest.as_bytes().get(1), None | Some(b'E' | b'.')) {
            self.eat("v");
            return Some(all);
        }
        while !matches!(self.peek(), 0 | b'E' | b'.') {
            all.push(self.ty()?);
        }
        Some(all)
    }

    fn special(&mut self) -> Option<Option<Id>> {
        for (code, text) in SPECIAL {
            if self.eat(code) {
                let ty = self.ty()?;
                return self.add(Node::Special(text, ty)).map(Some);
            }
        }
        if self.eat("GTt") {
            let target = self.encoding()?;
            return self.add(Node::Special("transaction clone for ", target)).map(Some);
        }
        if self.eat("GV") {
            let name = self.name(None)?;
            return self.add(Node::Special("guard variable for ", name)).map(Some);
        }
        if self.eat("TW") {
            let name = self.name(None)?;
            return self.add(Node::Special("TLS wrapper function for ", name)).map(Some);
        }
        if self.eat("TH") {
            let name = self.name(None)?;
            return self.add(Node::Special("TLS init function for ", name)).map(Some);
        }
        for (code, text, offsets) in
            [("Th", "non-virtual thunk to ", 1), ("Tv", "virtual thunk to ", 2), ("Tch", "", 0), ("Tcv", "", 0)]
        {
            if self.eat(code) {
                if offsets == 0 {
                    return None;
                }
                for _ in 0..offsets {
                    self.eat("n");
                    self.number()?;
                    if !self.eat("_") {
                        return None;
                    }
                }
                let target = self.encoding()?;
                return self.add(Node::Special(text, target)).map(Some);
            }
        }
        Some(None)
    }

    /// `shape` is given for the name of an encoding only: its template arguments are what `T_` means later.
    pub(super) fn name(&mut self, shape: Option<&mut Shape>) -> Option<Id> {
        self.deeper(|p| p.name_inner(shape))
    }

    fn name_inner(&mut self, mut shape: Option<&mut Shape>) -> Option<Id> {
        if self.rest.starts_with('N') {
            return self.nested(shape);
        }
        if self.rest.starts_with('Z') {
            return self.local(shape);
        }
        let substituted = self.rest.starts_with('S') && !self.rest.starts_with("St");
        let mut name = if substituted {
            let name = self.substitution()?;
            if !self.rest.starts_with('I') {
                return None;
            }
            name
        } else if self.eat("St") {
            let scope = self.text("std")?;
            self.eat("L");
            let name = self.unqualified(None, shape.as_deref_mut())?;
            self.add(Node::Nested(scope, name))?
        } else {
            self.eat("L");
            self.unqualified(None, shape.as_deref_mut())?
        };
        if self.rest.starts_with('I') {
            if !substituted {
                self.substitutable(name)?;
            }
            let arguments = self.template_arguments(shape.is_some())?;
            if let Some(shape) = shape {
                shape.template = true;
            }
            name = self.add(Node::Template(name, arguments))?;
        }
        Some(name)
    }

    pub(super) fn qualifiers(&mut self) -> Qualifiers {
        let (restrict, volatile, constant) = (self.eat("r"), self.eat("V"), self.eat("K"));
        Qualifiers { constant, volatile, restrict, reference: "" }
    }

    fn nested(&mut self, mut shape: Option<&mut Shape>) -> Option<Id> {
        self.eat("N");
        let mut qualifiers = self.qualifiers();
        if self.eat("O") {
            qualifiers.reference = "&&";
        } else if self.eat("R") {
            qualifiers.reference = "&";
        }
        if let Some(shape) = shape.as_deref_mut() {
            shape.qualifiers = qualifiers;
        }
        let mut so_far: Option<Id> = None;
        // Whether the last step pushed what it made, which the whole name must undo.
        let mut pushed = false;
        while !self.eat("E") {
            if let Some(shape) = shape.as_deref_mut() {
                shape.template = false;
            }
            match self.peek() {
                b'S' if self.rest.as_bytes().get(1) != Some(&b't') => {
                    if so_far.is_some() {
                        return None;
                    }
                    so_far = Some(self.substitution()?);
                    pushed = false;
                    continue;
                }
                b'S' if so_far.is_none() => {
                    self.eat("St");
                    so_far = Some(self.text("std")?);
                    pushed = false;
                    continue;
                }
                b'T' => so_far = Some(self.parameter()?),
                b'D' if matches!(self.rest.as_bytes().get(1), Some(b't' | b'T')) => so_far = Some(self.decltype()?),
                b'I' => {
                    let arguments = self.template_arguments(shape.is_some())?;
                    if let Some(shape) = shape.as_deref_mut() {
                        shape.template = true;
                    }
                    so_far = Some(self.add(Node::Template(so_far?, arguments))?);
                }
                b'M' => {
                    self.eat("M");
                    continue;
                }
                _ => {
                    self.eat("L");
                    let name = self.unqualified(so_far, shape.as_deref_mut())?;
                    so_far = Some(match so_far {
                        Some(scope) => self.add(Node::Nested(scope, name))?,
                        None => name,
                    });
                }
            }
            self.substitutable(so_far?)?;
            pushed = true;
        }
        if pushed {
            self.substitutions.pop();
        }
        so_far
    }

    fn local(&mut self, shape: Option<&mut Shape>) -> Option<Id> {
        self.eat("Z");
        // Within a type, the arguments of that function are not those that parameters outside of it mean.
        let outer = shape.is_none().then(|| self.arguments.clone());
        let name = self.local_name(shape);
        if let Some(outer) = outer {
            self.arguments = outer;
        }
        name
    }

    fn local_name(&mut self, shape: Option<&mut Shape>) -> Option<Id> {
        let function = self.encoding()?;
        if !self.eat("E") {
            return None;
        }
        // The return type of an enclosing template is not shown.
        if let Some(Node::Encoding { result, .. }) = self.nodes.get_mut(function) {
            *result = None;
        }
        if self.eat("s") {
            self.discriminator();
            let text = self.text("string literal")?;
            return self.add(Node::Nested(function, text));
        }
        let mut scope = function;
        if self.eat("d") {
            let number = self.sequence(10)?.checked_add(1)?;
            let text = self.add(Node::Owned(format!("{{default arg#{number}}}")))?;
            scope = self.add(Node::Nested(function, text))?;
        }
        let name = self.name(shape)?;
        self.discriminator();
        self.add(Node::Nested(scope, name))
    }

    fn discriminator(&mut self) {
        let before = self.rest;
        if !self.eat("_") {
            return;
        }
        let done = if self.eat("_") {
            self.number().is_some() && self.eat("_")
        } else {
            self.rest.as_bytes().first().is_some_and(u8::is_ascii_digit)
                && self.rest.get(1..).map(|r| self.rest = r).is_some()
        };
        if !done {
            self.rest = before;
        }
    }

    pub(super) fn unqualified(&mut self, scope: Option<Id>, shape: Option<&mut Shape>) -> Option<Id> {
        let first = self.peek();
        let second = self.rest.as_bytes().get(1).copied().unwrap_or(0);
        let mut id = match (first, second) {
            (b'0'..=b'9', _) => {
                let len = self.number()?;
                let (name, rest) = self.rest.split_at_checked(len)?;
                self.rest = rest;
                let anonymous = name.starts_with("_GLOBAL__N") || name.starts_with("_GLOBAL_.N");
                self.text(if anonymous { "(anonymous namespace)" } else { name })?
            }
            (b'C', b'1'..=b'5' | b'I') | (b'D', b'0'..=b'5') => {
                let inherited = second == b'I';
                self.rest = self.rest.get(if inherited { 3 } else { 2 }..)?;
                // An inherited constructor has the name of the base it comes from.
                let class = if inherited { self.ty()? } else { scope? };
                if let Some(shape) = shape {
                    shape.without_result = true;
                }
                self.add(if first == b'C' { Node::Constructor(class) } else { Node::Destructor(class) })?
            }
            (b'D', b'C') => {
                self.eat("DC");
                let mut names = Vec::new();
                while !self.eat("E") {
                    names.push(self.unqualified(None, None)?);
                }
                let (open, names, close) = (self.text("[")?, self.add(Node::List(names))?, self.text("]")?);
                self.add(Node::Sequence(vec![open, names, close]))?
            }
            (b'U', b'l') => self.lambda()?,
            (b'U', b't') => {
                self.eat("Ut");
                let number = self.sequence(10)?.checked_add(1)?;
                self.add(Node::Unnamed(number))?
            }
            (b'c', b'v') => {
                self.eat("cv");
                if let Some(shape) = shape {
                    shape.without_result = true;
                }
                let ty = self.ty()?;
                self.add(Node::Conversion(ty))?
            }
            (b'l', b'i') => {
                self.eat("li");
                let name = self.unqualified(None, None)?;
                let head = self.text("operator\"\" ")?;
                self.add(Node::Sequence(vec![head, name]))?
            }
            _ => {
                let (code, sign) = OPERATORS.iter().find(|(code, _)| self.rest.starts_with(code))?;
                self.eat(code);
                self.add(Node::Owned(format!("operator{sign}")))?
            }
        };
        while self.eat("B") {
            let len = self.number()?;
            let (tag, rest) = self.rest.split_at_checked(len)?;
            self.rest = rest;
            id = self.add(Node::Tagged(id, tag))?;
        }
        Some(id)
    }

    fn lambda(&mut self) -> Option<Id> {
        self.eat("Ul");
        let outer = std::mem::replace(&mut self.in_lambda, true);
        let parameters = self.parameters();
        self.in_lambda = outer;
        let parameters = parameters?;
        if !self.eat("E") {
            return None;
        }
        let number = self.sequence(10)?.checked_add(1)?;
        self.add(Node::Lambda(parameters, number))
    }

    pub(super) fn substitution(&mut self) -> Option<Id> {
        self.eat("S");
        for (code, text) in [
            ("a", "std::allocator"),
            ("b", "std::basic_string"),
            ("s", "std::string"),
            ("i", "std::istream"),
            ("o", "std::ostream"),
            ("d", "std::iostream"),
        ] {
            if self.eat(code) {
                if matches!(self.peek(), b'C' | b'D') && text != "std::allocator" && text != "std::basic_string" {
                    return self.whole_stream_or_string(text);
                }
                let mut id = self.text(text)?;
                let mut tagged = false;
                while self.eat("B") {
                    let len = self.number()?;
                    let (tag, rest) = self.rest.split_at_checked(len)?;
                    self.rest = rest;
                    id = self.add(Node::Tagged(id, tag))?;
                    tagged = true;
                }
                return if tagged { self.substitutable(id) } else { Some(id) };
            }
        }
        let index = self.sequence(36)?;
        self.substitutions.get(index).copied()
    }

    /// Constructors and destructors are those of the template that the short name stands for.
    fn whole_stream_or_string(&mut self, short: &str) -> Option<Id> {
        let (template, arguments): (_, &[&'static str]) = match short {
            "std::string" => ("basic_string", &["char", "std::char_traits<char>", "std::allocator<char>"]),
            "std::istream" => ("basic_istream", &["char", "std::char_traits<char>"]),
            "std::ostream" => ("basic_ostream", &["char", "std::char_traits<char>"]),
            _ => ("basic_iostream", &["char", "std::char_traits<char>"]),
        };
        let (scope, name) = (self.text("std")?, self.text(template)?);
        let arguments = arguments.iter().map(|a| self.text(a)).collect::<Option<Vec<Id>>>()?;
        let name = self.add(Node::Template(name, arguments))?;
        self.add(Node::Nested(scope, name))
    }

    /// A template parameter, as what it stands for.
    pub(super) fn parameter(&mut self) -> Option<Id> {
        self.eat("T");
        let index = self.sequence(10)?;
        if self.in_lambda {
            let number = index.checked_add(1)?;
            return self.add(Node::Owned(format!("auto:{number}")));
        }
        match self.arguments.get(index) {
            Some(id) => Some(*id),
            None => self.add(Node::Forward(index)),
        }
    }
}

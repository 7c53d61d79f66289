//! From the parts of a mangled name to the text that libiberty (and so gdb and c++filt) would print.

use super::node::{Id, Node, Qualifiers};

/// Deepest nesting while printing; substitutions let it be deeper than the mangled name.
const LIMIT_NESTING: usize = 160;

pub(super) struct Printer<'p, 'n> {
    pub(super) nodes: &'p [Node<'n>],
    /// What parameters that were used too early stand for.
    pub(super) arguments: &'p [Id],
    pub(super) out: String,
    pub(super) limit: usize,
    pub(super) depth: usize,
    /// Which element of packs is meant, within an expansion.
    pub(super) element: Option<usize>,
}

type Done = Option<()>;

impl<'p, 'n> Printer<'p, 'n> {
    fn put(&mut self, text: &str) -> Done {
        if self.out.len().saturating_add(text.len()) > self.limit {
            return None;
        }
        self.out.push_str(text);
        Some(())
    }

    /// The node that `id` stands for here.
    fn node(&self, mut id: Id) -> Option<&'p Node<'n>> {
        for _ in 0..LIMIT_NESTING {
            id = match (self.nodes.get(id)?, self.element) {
                (Node::Forward(index), _) => *self.arguments.get(*index)?,
                (Node::Element(all), Some(element)) => *all.get(element)?,
                (node, _) => return Some(node),
            };
        }
        None
    }

    pub(super) fn print(&mut self, id: Id) -> Done {
        self.left(id)?;
        self.right(id)
    }

    /// The top of the tree: a return type is left out, as gdb does.
    pub(super) fn top(&mut self, id: Id, with_result: bool) -> Done {
        match self.nodes.get(id)? {
            Node::Clone(inner, suffix) => {
                self.top(*inner, with_result)?;
                self.put(" [clone ")?;
                self.put(suffix)?;
                self.put("]")
            }
            Node::Encoding { result, .. } if !with_result || result.is_none() => self.encoding(id, false),
            _ => self.print(id),
        }
    }

    fn deeper(&mut self, work: impl FnOnce(&mut Self) -> Done) -> Done {
        if self.depth >= LIMIT_NESTING {
            return None;
        }
        self.depth = self.depth.saturating_add(1);
        let done = work(self);
        self.depth = self.depth.saturating_sub(1);
        done
    }

    /// Items with commas between those that print anything.
    fn list(&mut self, items: &[Id]) -> Done {
        let mut first = true;
        for item in items {
            let before = self.out.len();
            if !first {
                self.put(", ")?;
            }
            let start = self.out.len();
            self.deeper(|p| p.print(*item))?;
            if self.out.len() == start {
                self.out.truncate(before);
            } else {
                first = false;
            }
        }
        Some(())
    }

    fn encoding(&mut self, id: Id, with_result: bool) -> Done {
        let Node::Encoding { result, name, parameters, qualifiers } = self.nodes.get(id)? else { return None };
        let result = result.filter(|_| with_result);
        if let Some(result) = result {
            self.left(result)?;
            if !self.is_declarator(result) {
                self.put(" ")?;
            }
        }
        self.print(*name)?;
        self.put("(")?;
        self.list(parameters)?;
        self.put(")")?;
        if let Some(result) = result {
            self.right(result)?;
        }
        self.qualifiers(*qualifiers)
    }

    fn qualifiers(&mut self, q: Qualifiers) -> Done {
        for (set, text) in [(q.restrict, " __restrict"), (q.volatile, " volatile"), (q.constant, " const")] {
            if set {
                self.put(text)?;
            }
        }
        if !q.reference.is_empty() {
            self.put(" ")?;
        }
        self.put(q.reference)
    }

    /// Whether the type wraps around the name (pointer to function or array): its left part needs no space after it.
    fn is_declarator(&self, id: Id) -> bool {
        match self.node(id) {
            Some(Node::Pointer(inner) | Node::Reference(inner, _) | Node::Member(_, inner)) => {
                self.is_wrapping(*inner) || self.is_declarator(*inner)
            }
            Some(Node::Qualified(inner, _)) => self.is_declarator(*inner),
            _ => false,
        }
    }

    fn is_wrapping(&self, id: Id) -> bool {
        match self.node(id) {
            Some(Node::Function { .. } | Node::Array(..)) => true,
            Some(Node::Qualified(inner, _)) => self.is_wrapping(*inner),
            _ => false,
        }
    }

    /// The referred type and whether it is `&&`, references to references collapsed.
    fn collapsed(&self, mut inner: Id, mut double: bool) -> Option<(Id, bool)> {
        for _ in 0..LIMIT_NESTING {
            match self.node(inner)? {
                Node::Reference(next, also) => (inner, double) = (*next, double && *also),
                _ => return Some((inner, double)),
            }
        }
        None
    }

    fn opening(&mut self, inner: Id) -> Done {
        self.left(inner)?;
        if self.is_wrapping(inner) { self.put("(") } else { Some(()) }
    }

    fn closing(&mut self, inner: Id) -> Done {
        if self.is_wrapping(inner) {
            self.put(")")?;
        }
        self.right(inner)
    }

    fn left(&mut self, id: Id) -> Done {
        self.deeper(|p| p.left_inner(id))
    }

    fn left_inner(&mut self, id: Id) -> Done {
        match self.node(id)? {
            Node::Text(text) => self.put(text),
            Node::Owned(text) => self.put(text),
            Node::Nested(scope, name) => {
                self.print(*scope)?;
                self.put("::")?;
                self.print(*name)
            }
            Node::Template(name, arguments) => {
                self.print(*name)?;
                self.put(if self.out.ends_with('<') { " <" } else { "<" })?;
                self.list(arguments)?;
                self.put(if self.out.ends_with('>') { " >" } else { ">" })
            }
            Node::Pack(all) | Node::Element(all) => self.list(all),
            Node::Constructor(class) => self.base_name(*class),
            Node::Destructor(class) => {
                self.put("~")?;
                self.base_name(*class)
            }
            Node::Conversion(ty) => {
                self.put("operator ")?;
                self.print(*ty)
            }
            Node::Lambda(parameters, number) => {
                self.put("{lambda(")?;
                self.list(parameters)?;
                self.put(&format!(")#{number}}}"))
            }
            Node::Unnamed(number) => self.put(&format!("{{unnamed type#{number}}}")),
            Node::Tagged(name, tag) => {
                self.print(*name)?;
                self.put(&format!("[abi:{tag}]"))
            }
            Node::Encoding { .. } => self.encoding(id, true),
            Node::Special(text, of) => {
                self.put(text)?;
                self.print(*of)
            }
            Node::Clone(..) => self.top(id, true),
            Node::Qualified(inner, q) => match self.node(*inner)? {
                Node::Array(element, _) => {
                    self.left(*element)?;
                    self.qualifiers(*q)?;
                    self.put(" ")
                }
                Node::Function { .. } => self.left(*inner),
                Node::Qualified(_, same) if same == q => self.left(*inner),
                _ => {
                    self.left(*inner)?;
                    self.qualifiers(*q)
                }
            },
            Node::Pointer(inner) => {
                self.opening(*inner)?;
                self.put("*")
            }
            Node::Reference(inner, double) => {
                let (inner, double) = self.collapsed(*inner, *double)?;
                self.opening(inner)?;
                self.put(if double { "&&" } else { "&" })
            }
            Node::Function { result, .. } => {
                self.left(*result)?;
                if self.is_declarator(*result) { Some(()) } else { self.put(" ") }
            }
            Node::Array(element, _) => {
                self.left(*element)?;
                self.put(" ")
            }
            Node::Member(class, member) => {
                self.left(*member)?;
                self.put(if self.is_wrapping(*member) { "(" } else { " " })?;
                self.print(*class)?;
                self.put("::*")
            }
            Node::Expansion(inner) => self.expansion(*inner),
            Node::Literal(ty, value) => self.literal(*ty, value),
            Node::Sequence(all) => all.iter().try_for_each(|piece| self.print(*piece)),
            Node::List(all) => self.list(all),
            Node::Forward(_) => None,
        }
    }

    fn right(&mut self, id: Id) -> Done {
        self.deeper(|p| match p.node(id)? {
            Node::Pointer(inner) => p.closing(*inner),
            Node::Reference(inner, double) => {
                let (inner, _) = p.collapsed(*inner, *double)?;
                p.closing(inner)
            }
            Node::Qualified(inner, q) => {
                p.right(*inner)?;
                if matches!(p.node(*inner)?, Node::Function { .. }) { p.qualifiers(*q) } else { Some(()) }
            }
            Node::Function { result, parameters, qualifiers, noexcept } => {
                p.put("(")?;
                p.list(parameters)?;
                p.put(")")?;
                p.qualifiers(*qualifiers)?;
                if *noexcept {
                    p.put(" noexcept")?;
                }
                p.right(*result)
            }
            Node::Array(element, size) => {
                if p.out.ends_with(')') {
                    p.put(" ")?;
                }
                p.put("[")?;
                if let Some(size) = size {
                    p.print(*size)?;
                }
                p.put("]")?;
                p.right(*element)
            }
            Node::Member(_, member) => p.closing(*member),
            _ => Some(()),
        })
    }

    /// The last component of a class's name, without template arguments.
    fn base_name(&mut self, mut id: Id) -> Done {
        for _ in 0..LIMIT_NESTING {
            id = match self.node(id)? {
                Node::Nested(_, name) | Node::Template(name, _) | Node::Tagged(name, _) => *name,
                Node::Text(text) => return self.put(text.rsplit("::").next()?),
                _ => return self.print(id),
            };
        }
        None
    }

    fn expansion(&mut self, inner: Id) -> Done {
        let Some(count) = self.pack_len(inner, 0) else {
            self.print(inner)?;
            return self.put("...");
        };
        let outer = self.element;
        let mut first = true;
        for element in 0..count {
            if !first {
                self.put(", ")?;
            }
            first = false;
            self.element = Some(element);
            let done = self.deeper(|p| p.print(inner));
            self.element = outer;
            done?;
        }
        Some(())
    }

    /// How many elements the first pack within `id` has.
    fn pack_len(&self, id: Id, depth: usize) -> Option<usize> {
        if depth > LIMIT_NESTING {
            return None;
        }
        let next = depth.saturating_add(1);
        let any = |all: &[Id]| all.iter().find_map(|id| self.pack_len(*id, next));
        match self.nodes.get(id)? {
            Node::Element(all) => Some(all.len()),
            Node::Forward(index) => self.pack_len(*self.arguments.get(*index)?, next),
            Node::Nested(a, b) | Node::Member(a, b) => self.pack_len(*a, next).or_else(|| self.pack_len(*b, next)),
            Node::Template(name, all) => self.pack_len(*name, next).or_else(|| any(all)),
            Node::Pack(all) => any(all),
            Node::Qualified(a, _)
            | Node::Pointer(a)
            | Node::Reference(a, _)
            | Node::Array(a, _)
            | Node::Tagged(a, _) => self.pack_len(*a, next),
            Node::Function { result, parameters, .. } => self.pack_len(*result, next).or_else(|| any(parameters)),
            Node::Sequence(all) | Node::List(all) => any(all),
            _ => None,
        }
    }

    fn literal(&mut self, ty: Id, value: &str) -> Done {
        let (sign, digits) = value.strip_prefix('n').map_or(("", value), |digits| ("-", digits));
        let suffix = match self.node(ty)? {
            Node::Text("bool") if value == "0" => return self.put("false"),
            Node::Text("bool") if value == "1" => return self.put("true"),
            Node::Text("int") => "",
            Node::Text("unsigned int") => "u",
            Node::Text("long") => "l",
            Node::Text("unsigned long") => "ul",
            Node::Text("long long") => "ll",
            Node::Text("unsigned long long") => "ull",
            _ => {
                self.put("(")?;
                self.print(ty)?;
                self.put(")")?;
                ""
            }
        };
        self.put(sign)?;
        self.put(digits)?;
        self.put(suffix)
    }
}

//! Spells types as gdb does.

use super::Types;
use super::model::{Count, Kind, Language, PointerSort, Qualifier, Type, TypeId};

/// Deepest type spelled out; below it stands `...`. Real declarators nest a dozen deep.
const LIMIT_SPELLING: usize = 48;

/// Most parts of one spelling: types that are made of each other could be spelled for ever.
const LIMIT_PARTS: usize = 4096;

/// Longest spelling. Above it a function type with ever longer parameters is being built from damaged data.
const LIMIT_LENGTH: usize = 1 << 16;

impl Types<'_, '_> {
    pub(super) fn spell(&self, id: Option<TypeId>, language: Language) -> String {
        let mut left = LIMIT_PARTS;
        self.declare(id, language, String::new(), 0, &mut left)
    }

    fn declare(
        &self,
        id: Option<TypeId>,
        language: Language,
        declarator: String,
        depth: usize,
        left: &mut usize,
    ) -> String {
        let Some(id) = id else {
            return joined(if language == Language::Rust { "()" } else { "void" }, &declarator);
        };
        *left = left.saturating_sub(1);
        if depth > LIMIT_SPELLING || declarator.len() > LIMIT_LENGTH || *left == 0 {
            return joined("...", &declarator);
        }
        let ty = self.get(id);
        if ty.language == Language::Rust {
            return self.rust(ty, depth, left);
        }
        let deeper = depth.saturating_add(1);
        match &ty.kind {
            Kind::Pointer { target, sort } => {
                let symbol = match sort {
                    PointerSort::Pointer => "*",
                    PointerSort::Reference => "&",
                    PointerSort::RvalueReference => "&&",
                };
                self.declare(*target, ty.language, self.around(*target, format!("{symbol}{declarator}")), deeper, left)
            }
            Kind::MemberPointer { target, class } => {
                let class = self.declare(*class, ty.language, String::new(), deeper, left);
                let declarator = self.around(*target, format!("{class}::*{declarator}"));
                self.declare(*target, ty.language, declarator, deeper, left)
            }
            Kind::Array { element, dimensions, vector } => {
                let mut declarator = declarator;
                for dimension in dimensions {
                    declarator.push_str(&match dimension.count {
                        Count::Known(n) if *vector => format!(" __attribute__ ((vector_size({n})))"),
                        Count::Known(n) => format!("[{n}]"),
                        Count::Dynamic { .. } => "[variable length]".into(),
                        Count::Unknown => "[]".into(),
                    });
                }
                self.declare(*element, ty.language, declarator, deeper, left)
            }
            Kind::Function { result, parameters, variadic, prototyped, method } => {
                let mut list: Vec<String> = Vec::new();
                let mut length = 0_usize;
                for parameter in parameters {
                    if length > LIMIT_LENGTH {
                        list.push("...".into());
                        break;
                    }
                    let spelled = self.declare(*parameter, ty.language, String::new(), deeper, left);
                    length = length.saturating_add(spelled.len());
                    list.push(spelled);
                }
                // `this` cannot be changed; GCC does not say so in the types of methods.
                if let Some(this) = list.first_mut().filter(|t| *method && !t.ends_with("const")) {
                    this.push_str(" const");
                }
                // Like gdb, `(...)` is written `(void)`.
                if *variadic && !list.is_empty() {
                    list.push("...".into());
                }
                if list.is_empty() && *prototyped {
                    list.push("void".into());
                }
                self.declare(*result, ty.language, format!("{declarator}({})", list.join(", ")), deeper, left)
            }
            Kind::Qualified { .. } => self.qualified(ty, declarator, depth, left),
            Kind::Structure(s) => joined(&tagged(ty, s.keyword), &declarator),
            Kind::Enumeration(_) => joined(&tagged(ty, "enum"), &declarator),
            Kind::Typedef { .. } | Kind::Base { .. } | Kind::Unspecified | Kind::Unknown(_) => {
                joined(ty.name.as_deref().unwrap_or("<unnamed type>"), &declarator)
            }
        }
    }

    /// A declarator in parentheses where it would otherwise bind to an array or function wrongly.
    fn around(&self, target: Option<TypeId>, declarator: String) -> String {
        let binds = target.map(|t| self.get(t)).is_some_and(|t| {
            t.language != Language::Rust && matches!(t.kind, Kind::Array { vector: false, .. } | Kind::Function { .. })
        });
        if binds { format!("({declarator})") } else { declarator }
    }

    fn qualified(&self, ty: &Type, declarator: String, depth: usize, left: &mut usize) -> String {
        let mut qualifiers = Vec::new();
        let mut here = Some(ty.id);
        let mut steps = depth;
        while let Some(id) = here {
            let Kind::Qualified { qualifier, target } = self.get(id).kind else { break };
            if !qualifiers.contains(&qualifier) {
                qualifiers.push(qualifier);
            }
            here = target;
            steps = steps.saturating_add(1);
            if steps > LIMIT_SPELLING {
                return joined("...", &declarator);
            }
        }
        qualifiers.sort_unstable();
        let words: Vec<&str> = qualifiers
            .iter()
            .map(|q| match q {
                Qualifier::Const => "const",
                Qualifier::Volatile => "volatile",
                Qualifier::Restrict => "restrict",
                Qualifier::Atomic => "_Atomic",
            })
            .collect();
        let words = words.join(" ");
        let deeper = steps.saturating_add(1);
        let pointer =
            here.is_some_and(|t| matches!(self.get(t).kind, Kind::Pointer { .. } | Kind::MemberPointer { .. }));
        if pointer {
            let rest = if declarator.is_empty() { String::new() } else { format!(" {declarator}") };
            self.declare(here, ty.language, format!(" {words}{rest}"), deeper, left)
        } else {
            let spelled = self.declare(here, ty.language, declarator, deeper, left);
            // A constant array is an array of constants, and some compilers say both.
            let twice = spelled.strip_prefix(&words).is_some_and(|rest| rest.starts_with(' '));
            if twice { spelled } else { format!("{words} {spelled}") }
        }
    }

    fn rust(&self, ty: &Type, depth: usize, left: &mut usize) -> String {
        if let Some(name) = &ty.name {
            return name.to_string();
        }
        let deeper = depth.saturating_add(1);
        match &ty.kind {
            Kind::Pointer { target, .. } => {
                format!("*mut {}", self.declare(*target, Language::Rust, String::new(), deeper, left))
            }
            Kind::Array { element, dimensions, .. } => {
                let mut spelled = self.declare(*element, Language::Rust, String::new(), deeper, left);
                for dimension in dimensions.iter().rev() {
                    spelled = match dimension.count {
                        Count::Known(n) => format!("[{spelled}; {n}]"),
                        _ => format!("[{spelled}]"),
                    };
                }
                spelled
            }
            Kind::Qualified { target, .. } | Kind::Typedef { target } => {
                self.declare(*target, Language::Rust, String::new(), deeper, left)
            }
            Kind::Function { result, parameters, .. } => {
                let list: Vec<String> = parameters
                    .iter()
                    .take(64)
                    .map(|p| self.declare(*p, Language::Rust, String::new(), deeper, left))
                    .collect();
                let result = result
                    .map(|r| format!(" -> {}", self.declare(Some(r), Language::Rust, String::new(), deeper, left)));
                format!("fn({}){}", list.join(", "), result.unwrap_or_default())
            }
            _ => "<unnamed type>".into(),
        }
    }
}

/// The name of a structure or enumeration: with its keyword in C, where tags are a name space of their own.
fn tagged(ty: &Type, keyword: &str) -> String {
    match (&ty.name, ty.language) {
        (Some(name), Language::C) => format!("{keyword} {name}"),
        (Some(name), _) => name.to_string(),
        (None, _) => format!("{keyword} {{...}}"),
    }
}

fn joined(name: &str, declarator: &str) -> String {
    if declarator.is_empty() || declarator.starts_with(' ') {
        format!("{name}{declarator}")
    } else {
        format!("{name} {declarator}")
    }
}

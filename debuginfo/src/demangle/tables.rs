//! Codes and what they stand for: Itanium C++ ABI, sections 5.1.3, 5.1.4 and 5.1.5.

/// Operators by their codes.
#[rustfmt::skip]
pub(super) const OPERATORS: &[(&str, &str)] = &[
    ("nw", " new"), ("na", " new[]"), ("dl", " delete"), ("da", " delete[]"), ("ps", "+"), ("ng", "-"), ("ad", "&"),
    ("de", "*"), ("co", "~"), ("pl", "+"), ("mi", "-"), ("ml", "*"), ("dv", "/"), ("rm", "%"), ("an", "&"),
    ("or", "|"), ("eo", "^"), ("aS", "="), ("pL", "+="), ("mI", "-="), ("mL", "*="), ("dV", "/="), ("rM", "%="),
    ("aN", "&="), ("oR", "|="), ("eO", "^="), ("ls", "<<"), ("rs", ">>"), ("lS", "<<="), ("rS", ">>="), ("eq", "=="),
    ("ne", "!="), ("lt", "<"), ("gt", ">"), ("le", "<="), ("ge", ">="), ("ss", "<=>"), ("nt", "!"), ("aa", "&&"),
    ("oo", "||"), ("pp", "++"), ("mm", "--"), ("cm", ","), ("pm", "->*"), ("pt", "->"), ("cl", "()"), ("ix", "[]"),
    ("qu", "?"), ("aw", " co_await"),
];

/// Builtin types by their codes.
#[rustfmt::skip]
pub(super) const BUILTINS: &[(&str, &str)] = &[
    ("v", "void"), ("w", "wchar_t"), ("b", "bool"), ("c", "char"), ("a", "signed char"), ("h", "unsigned char"),
    ("s", "short"), ("t", "unsigned short"), ("i", "int"), ("j", "unsigned int"), ("l", "long"),
    ("m", "unsigned long"), ("x", "long long"), ("y", "unsigned long long"), ("n", "__int128"),
    ("o", "unsigned __int128"), ("f", "float"), ("d", "double"), ("e", "long double"), ("g", "__float128"),
    ("z", "..."), ("Dd", "decimal64"), ("De", "decimal128"), ("Df", "decimal32"), ("Dh", "half"), ("Di", "char32_t"),
    ("Ds", "char16_t"), ("Du", "char8_t"), ("Da", "auto"), ("Dc", "decltype(auto)"), ("Dn", "decltype(nullptr)"),
];

/// Things that belong to a type.
pub(super) const SPECIAL: &[(&str, &str)] =
    &[("TV", "vtable for "), ("TT", "VTT for "), ("TI", "typeinfo for "), ("TS", "typeinfo name for ")];

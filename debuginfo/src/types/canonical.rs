//! C++ spelling of the names GCC gives its integer types: `long unsigned int` is `unsigned long`.

/// Rewrites every run of `long`, `short`, `unsigned`, `signed`, `int` and `char` in `name` to the order that gdb and
/// the demanglers use.
#[must_use]
pub fn canonical(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        if word == 0 {
            let next = rest.find(is_word).unwrap_or(rest.len());
            let (other, after) = rest.split_at_checked(next).unwrap_or((rest, ""));
            out.push_str(other);
            rest = after;
            continue;
        }
        let (run, after) = integer_run(rest);
        // GCC's `__int128 unsigned` stays as it is.
        if let Some(spelled) = respell(run).filter(|_| !out.ends_with("__int128 ")) {
            out.push_str(spelled);
            rest = after;
        } else {
            let (this, after) = rest.split_at_checked(word).unwrap_or((rest, ""));
            out.push_str(this);
            rest = after;
        }
    }
    out
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

/// The words of integer types at the start of `text`, and what follows them.
fn integer_run(text: &str) -> (&str, &str) {
    let mut end = 0_usize;
    let mut rest = text;
    loop {
        let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (this, after) = rest.split_at_checked(word).unwrap_or((rest, ""));
        if !matches!(this, "long" | "short" | "unsigned" | "signed" | "int" | "char") {
            break;
        }
        end = text.len().saturating_sub(after.len());
        match after.strip_prefix(' ') {
            Some(next) => rest = next,
            None => break,
        }
    }
    text.split_at_checked(end).unwrap_or(("", text))
}

fn respell(run: &str) -> Option<&'static str> {
    let count = |word| run.split(' ').filter(|w| *w == word).count();
    let (long, unsigned) = (count("long"), count("unsigned") > 0);
    Some(match (long, count("short") > 0, count("char") > 0, unsigned) {
        (0, false, true, true) => "unsigned char",
        (0, false, true, false) if count("signed") > 0 => "signed char",
        (0, false, true, false) => "char",
        (0, true, false, false) => "short",
        (0, true, false, true) => "unsigned short",
        (1, false, false, false) => "long",
        (1, false, false, true) => "unsigned long",
        (2, false, false, false) => "long long",
        (2, false, false, true) => "unsigned long long",
        (0, false, false, true) => "unsigned int",
        (0, false, false, false) if count("int") > 0 => "int",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn as_gdb_spells_them() {
        for (given, wanted) in [
            ("long unsigned int", "unsigned long"),
            (
                "std::vector<long unsigned int, std::allocator<long unsigned int> >",
                "std::vector<unsigned long, std::allocator<unsigned long> >",
            ),
            ("__int128 unsigned", "__int128 unsigned"),
            ("short int", "short"),
            ("long long int", "long long"),
            ("long double", "long double"),
            ("unsigned_thing<int, short unsigned int>", "unsigned_thing<int, unsigned short>"),
            ("std::array<int, 3>", "std::array<int, 3>"),
            ("point", "point"),
            ("char", "char"),
            ("signed char", "signed char"),
        ] {
            assert_eq!(canonical(given), wanted);
        }
    }
}

//! Containers of the C++ and Rust standard libraries, by what the victims put into them.

#[path = "support/core.rs"]
mod core;
#[path = "support/inspect.rs"]
mod inspect;

use capture::VariableOptions;
use capture::variables::Variable;
use snapshot_format::schema::Value;

/// A value on one line: `value {name = part, ..}`.
fn shown(v: &Variable) -> String {
    let mut out = match &v.value {
        Value::None => v.absent.as_deref().map(|a| format!("<{a}>")).unwrap_or_default(),
        Value::Signed(n) => n.to_string(),
        Value::Unsigned(n) => n.to_string(),
        Value::Float(f) => f.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Pointer(0) => "null".into(),
        Value::Pointer(_) => "->".into(),
        Value::Text(t) => format!("{t:?}"),
    };
    if !v.children.is_empty() {
        let parts: Vec<String> = v.children.iter().map(|c| format!("{} = {}", c.name, shown(c))).collect();
        out.push_str(&format!("{{{}}}", parts.join(", ")));
    }
    if v.truncated {
        out.push_str(" ...");
    }
    out
}

fn check(victim: &str, variant: &str, expected: &[(&str, &str, &str)]) {
    let core = testdata::victims::wait_gcore(victim, variant).unwrap();
    let options = VariableOptions { elements: 24, ..VariableOptions::default() };
    let threads = inspect::variables(&core, &options);
    let mut wrong = Vec::new();
    for (function, name, value) in expected {
        let found = threads[0].1.iter().find_map(|(_, f, variables)| {
            f.as_deref()?.contains(function).then(|| variables.iter().find(|v| v.name == *name)).flatten()
        });
        let got = found.map_or_else(|| "missing".to_owned(), shown);
        if got != *value {
            wrong.push(format!("{function}: {name}\n  is   {got}\n  want {value}"));
        }
    }
    assert!(wrong.is_empty(), "{victim} {variant}:\n{}", wrong.join("\n"));
}

const LARGE: &str =
    "\"LLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLL\"";

/// What libstdc++ and libc++ have in common.
fn sequences() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        ("sequences", "empty", "\"\""),
        ("sequences", "small", "\"short\""),
        ("sequences", "large", LARGE),
        ("sequences", "binary", "\"a\\0b\\\\xff\""),
        ("sequences", "none", "\"std::vector of length 0, capacity 0\""),
        ("sequences", "fixed", "{[0] = 4, [1] = 5, [2] = 6}"),
        (
            "sequences",
            "items",
            "\"std::vector of length 2, capacity 2\"{[0] = {id = 1, name = \"first\"}, [1] = {id = 2, name = \"second\"}}",
        ),
        (
            "sequences",
            "nested",
            "\"std::vector of length 3, capacity 3\"{[0] = \"std::vector of length 1, capacity 1\"{[0] = 1}, \
             [1] = \"std::vector of length 2, capacity 2\"{[0] = 2, [1] = 3}, \
             [2] = \"std::vector of length 0, capacity 0\"}",
        ),
        (
            "sequences",
            "queue",
            "\"std::deque with 299 elements\"{[0] = 1, [1] = 2, [2] = 3, [3] = 4, [4] = 5, [5] = 6, [6] = 7, [7] = 8, \
             [8] = 9, [9] = 10, [10] = 11, [11] = 12, [12] = 13, [13] = 14, [14] = 15, [15] = 16, [16] = 17, \
             [17] = 18, [18] = 19, [19] = 20, [20] = 21, [21] = 22, [22] = 23, [23] = 24} ...",
        ),
        ("sequences", "queue_none", "\"std::deque with 0 elements\""),
        ("sequences", "list", "\"std::list with 3 elements\"{[0] = 7, [1] = 8, [2] = 9}"),
        ("sequences", "list_none", "\"std::list with 0 elements\""),
        ("sequences", "heap", "->{* = \"on the heap\"}"),
    ]
}

#[test]
fn libstdcxx() {
    let mut expected = sequences();
    expected.extend([
        (
            "sequences",
            "bits",
            "\"std::vector<bool> of length 4, capacity 64\"{[0] = true, [1] = false, [2] = true, [3] = true}",
        ),
        ("sequences", "fixed_none", "\"std::array of length 0\""),
        ("associative", "map", "\"std::map with 3 elements\"{[1] = \"one\", [2] = \"two\", [3] = \"three\"}"),
        ("associative", "map_none", "\"std::map with 0 elements\""),
        ("associative", "set", "\"std::set with 3 elements\"{[0] = \"a\", [1] = \"b\", [2] = \"c\"}"),
        ("associative", "hash", "\"std::unordered_map with 1 elements\"{[\"x\"] = 1}"),
        ("associative", "hash_none", "\"std::unordered_map with 0 elements\""),
        (
            "associative",
            "deep",
            "\"std::map with 1 elements\"{[\"k\"] = \"std::vector of length 2, capacity 2\"{[0] = 1, [1] = 2}}",
        ),
        ("helpers", "view", "\"view\""),
        ("helpers", "unique", "->{* = {id = 3, name = \"unique\"}}"),
        ("helpers", "unique_none", "null"),
        ("helpers", "second", "->{* = {id = 2, name = \"shared\"}, use_count = 2, weak_count = 1}"),
        ("helpers", "shared_none", "null"),
        ("helpers", "weak", "->{* = {id = 2, name = \"shared\"}, use_count = 2, weak_count = 1}"),
        ("helpers", "some", "{[contained value] = 5}"),
        ("helpers", "nothing", "\"[no contained value]\""),
        ("helpers", "some_text", "{[contained value] = \"text\"}"),
        ("helpers", "variant", "\"index 1\"{[contained value] = 2.5}"),
        ("helpers", "variant_text", "\"index 2\"{[contained value] = \"chosen\"}"),
        ("helpers", "atomic", "13"),
        ("helpers", "atomic_flag", "true"),
        ("helpers", "view_none", "\"\""),
        ("helpers", "pair", "{first = 1, second = \"pair\"}"),
    ]);
    check("containers", "gcc-O0", &expected);
    check("containers", "clang-O0", &expected);
}

#[test]
fn libcxx() {
    check("containers", "clang-libcxx", &sequences());
}

#[test]
fn rust() {
    let variant = testdata::victims::find("collections").unwrap().variants[0];
    check(
        "collections",
        variant,
        &[
            ("scalars", "i", "-9"),
            ("scalars", "p", "\"223 'ß'\""),
            ("scalars", "unit", "\"()\""),
            ("scalars", "tuple", "{__0 = 1, __1 = \"two\", __2 = 3}"),
            ("scalars", "grid", "{[0] = {[0] = 1, [1] = 2}, [1] = {[0] = 3, [1] = 4}}"),
            ("scalars", "never", "\"Some\"{__0 = 9}"),
            ("::text", "slice", "\"borrowed\""),
            ("::text", "owned", "\"owned\""),
            ("::text", "bytes", "\"slice of length 5\"{[0] = 98, [1] = 121, [2] = 116, [3] = 101, [4] = 115}"),
            ("::text", "boxed", "\"boxed\""),
            ("::text", "vec", "\"Vec of length 3, capacity 3\"{[0] = 10, [1] = 20, [2] = 30}"),
            ("::text", "part", "\"slice of length 2\"{[0] = 20, [1] = 30}"),
            ("::text", "strings", "\"Vec of length 2, capacity 2\"{[0] = \"a\", [1] = \"b\"}"),
            ("::text", "queue", "\"VecDeque of length 4, capacity 4\"{[0] = 1, [1] = 2, [2] = 3, [3] = 4}"),
            ("choices", "some", "\"Some\"{__0 = 5}"),
            ("choices", "none", "\"None\""),
            ("choices", "some_box", "\"Some\"{__0 = ->{* = 6}}"),
            ("choices", "none_box", "\"None\""),
            ("choices", "some_text", "\"Some\"{__0 = \"inside\"}"),
            ("choices", "none_text", "\"None\""),
            ("choices", "ok", "\"Ok\"{__0 = 1}"),
            ("choices", "err", "\"Err\"{__0 = \"broken\"}"),
            (
                "choices",
                "shapes",
                "{[0] = \"Nothing\", [1] = \"Circle\"{__0 = 2}, [2] = \"Rectangle\"{width = 3, height = 4}}",
            ),
            ("choices", "named", "\"Named\"{__0 = \"n\", __1 = {x = 41, y = 0.5}}"),
            ("choices", "plain", "\"collections::Plain::Green\""),
            ("pointers", "boxed", "->{* = {x = 1, y = 2}}"),
            (
                "pointers",
                "rc",
                "->{* = {borrow = 0, value = \"Vec of length 2, capacity 2\"{[0] = 1, [1] = 2}}, strong = 2, weak = 1}",
            ),
            ("pointers", "cell", "3"),
            ("pointers", "hash", "\"HashMap with 1 elements\"{[\"one\"] = 1}"),
            ("pointers", "set", "\"HashSet with 1 elements\"{[0] = 3}"),
            (
                "pointers",
                "tree",
                "\"BTreeMap with 20 elements\"{[0] = \"even\", [1] = \"odd\", [2] = \"even\", [3] = \"odd\", \
             [4] = \"even\", [5] = \"odd\", [6] = \"even\", [7] = \"odd\", [8] = \"even\", [9] = \"odd\", \
             [10] = \"even\", [11] = \"odd\", [12] = \"even\", [13] = \"odd\", [14] = \"even\", [15] = \"odd\", \
             [16] = \"even\", [17] = \"odd\", [18] = \"even\", [19] = \"odd\"}",
            ),
        ],
    );
}

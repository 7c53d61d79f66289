//! Layouts out of DWARF, compared with what the compiler itself says.

use debuginfo::images::{Image, Verified};
use debuginfo::layout::{DwarfLayouts, Layouts, Shape};
use debuginfo::{DebugInfo, Locator, Modules, elf::ElfFile};
use evidence::{Addr, Doubts};
use std::collections::BTreeMap;
use std::process::Command;

/// `at(S, m)` prints `S m offset size`, `is(n, v)` a number.
const PROGRAM: &str = r#"
#include <stddef.h>
#include <stdio.h>
#include <string.h>
typedef int number;
enum { LONELY = 42, NEGATIVE = -7 };
enum state { RUNNING = 1, WAITING = 2 };
struct list { struct list *next, *prev; };
struct inner { char tag; long deep[4]; };
struct outer {
    char first;
    union { long one; struct { int low; int high; }; };
    struct inner inner, many[3];
    const volatile number count;
    struct list links;
    enum state state;
    unsigned flags : 3, more : 5, wide : 11;
    signed tiny : 4;
    char name[16];
    int matrix[2][3];
    char tail[];
};
typedef struct outer outer_t;
typedef struct { short a; int b; } unnamed_t;
#define at(S, m) printf("%s %s %zu %zu\n", #S, #m, offsetof(S, m), sizeof(((S *)0)->m))
#define is(n, v) printf("= %s %ld\n", n, (long)(v))
int main(void) {
    at(struct outer, first); at(struct outer, one); at(struct outer, low); at(struct outer, high);
    at(struct outer, inner.deep); at(struct outer, inner.deep[2]); at(struct outer, many[2].tag);
    at(struct outer, count); at(struct outer, links.prev); at(struct outer, state); at(struct outer, name);
    at(struct outer, matrix); at(outer_t, count); at(unnamed_t, b);
    is("struct outer", sizeof(struct outer)); is("unnamed_t", sizeof(unnamed_t)); is("enum state", sizeof(enum state));
    is("tail", offsetof(struct outer, tail));
    union { struct outer o; unsigned char raw[sizeof(struct outer)]; } u;
    memset(&u, 0, sizeof u); u.o.flags = 7; size_t i = 0; while (!u.raw[i]) i++; is("flags", i);
    memset(&u, 0, sizeof u); u.o.wide = 1; i = 0; while (!u.raw[i]) i++; is("wide", i); is("wide bit", __builtin_ctz(u.raw[i]));
    memset(&u, 0, sizeof u); u.o.tiny = 1; i = 0; while (!u.raw[i]) i++; is("tiny", i); is("tiny bit", __builtin_ctz(u.raw[i]));
    return LONELY == RUNNING + NEGATIVE;
}
"#;

#[test]
fn as_the_compiler_says() {
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("layout.c"), dir.path().join("layout"));
    std::fs::write(&source, PROGRAM).unwrap();
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let built = Command::new("gcc").args([version, "-O0", "-w", "-o"]).arg(&program).arg(&source).status();
        assert!(built.unwrap().success());
        check(&program);
    }
}

fn check(program: &std::path::Path) {
    let output = String::from_utf8(Command::new(program).output().unwrap().stdout).unwrap();
    let image = Image {
        file: Some((ElfFile::open(program).unwrap(), Verified::Given)),
        ..Image::at(program.to_str().unwrap(), Addr(0), 0x10_0000)
    };
    let modules = Modules::of_images(vec![image], &[], &Locator::default());
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let layouts = DwarfLayouts::new(&info, 0).unwrap();
    let mut numbers = BTreeMap::new();
    let mut members = 0;
    for line in output.lines() {
        if let Some(said) = line.strip_prefix("= ") {
            let (name, value) = said.rsplit_once(' ').unwrap();
            numbers.insert(name.to_owned(), value.parse::<u64>().unwrap());
            continue;
        }
        let words: Vec<&str> = line.trim_start_matches("struct ").split(' ').collect();
        let member = layouts.member(words[0], words[1]).unwrap_or_else(|| panic!("{line}: not found"));
        assert_eq!((member.offset, member.size), (words[2].parse().unwrap(), words[3].parse().unwrap()), "{line}");
        assert_eq!(member.bits, None);
        members += 1;
    }
    assert_eq!(members, 14);
    assert_eq!(layouts.size_of("outer"), Some(numbers["struct outer"]));
    assert_eq!(layouts.size_of("outer_t"), Some(numbers["struct outer"]));
    assert_eq!(layouts.size_of("unnamed_t"), Some(numbers["unnamed_t"]));
    assert_eq!(layouts.size_of("state"), Some(numbers["enum state"]));
    assert_eq!(layouts.size_of("nothing_like_it"), None);
    let outer = |path| layouts.member("outer", path);
    let bits = |name| outer(name).map(|m| (m.offset, m.bits.unwrap()));
    assert_eq!(bits("flags"), Some((numbers["flags"], (0, 3))));
    assert_eq!(bits("wide"), Some((numbers["wide"], (u8::try_from(numbers["wide bit"]).unwrap(), 11))));
    assert_eq!(bits("tiny"), Some((numbers["tiny"], (u8::try_from(numbers["tiny bit"]).unwrap(), 4))));
    assert_eq!(outer("tiny").unwrap().shape, Shape::Integer { signed: true });
    assert_eq!(outer("wide").unwrap().shape, Shape::Integer { signed: false });
    assert_eq!(outer("tail").map(|m| m.offset), Some(numbers["tail"]));
    assert_eq!(outer("name").unwrap().shape, Shape::Array { count: 16, element: 1 });
    assert_eq!(outer("matrix").unwrap().shape, Shape::Array { count: 6, element: 4 });
    assert_eq!(outer("links.next").unwrap().shape, Shape::Pointer);
    assert_eq!(outer("links.next").unwrap().type_name.as_deref(), Some("list"));
    assert_eq!(outer("inner").unwrap().type_name.as_deref(), Some("inner"));
    assert_eq!(outer("many").unwrap().type_name.as_deref(), Some("inner"));
    assert!(outer("many[3]").is_none() && outer("nothing").is_none() && outer("count.more").is_none());
    for (name, value) in [("LONELY", 42), ("NEGATIVE", -7), ("WAITING", 2)] {
        assert_eq!(layouts.enumerator(name), Some(value));
    }
    assert_eq!(layouts.enumerator("nothing_like_it"), None);
}

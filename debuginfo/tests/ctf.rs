//! CTF containers as they are written by `testdata::ctf`, in both versions, and what happens when they are damaged.

use debuginfo::ctf::{Ctf, CtfId, Prototype};
use debuginfo::layout::{Layouts, Member, Shape};
use std::sync::Arc;
use testdata::ctf::CtfWriter;

const SIGNED: Shape = Shape::Integer { signed: true };
const UNSIGNED: Shape = Shape::Integer { signed: false };

/// Types as a kernel has them.
fn kernel(mut w: CtfWriter) -> (CtfWriter, [u32; 3]) {
    let int = w.integer("int", true, 32, 4);
    let unsigned = w.integer("unsigned int", false, 32, 4);
    let long = w.integer("long", true, 64, 8);
    let character = w.integer("char", true, 8, 1);
    let name = w.array(character, int, 20);
    let proc_forward = w.forward("proc");
    let to_forward = w.pointer(proc_forward);
    let bits3 = w.integer("unsigned int", false, 3, 1);
    let bits7 = w.integer("int", true, 7, 1);
    let grid_row = w.array(int, int, 3);
    let grid = w.array(grid_row, int, 2);
    let inner = w.structure("", 16, &[("a", int, 0), ("b", long, 64)]);
    let anonymous = w.union("", 16, &[("whole", long, 0), ("", inner, 0)]);
    let state = w.enumeration("td_states", &[("TDS_INACTIVE", 0), ("TDS_RUNNING", 4), ("TDS_BAD", -1)]);
    let lwpid = w.typedef("lwpid_t", int);
    let constant = w.constant(lwpid);
    let big = w.array(long, int, 2000);
    let empty = w.array(character, int, 0);
    let thread = w.structure(
        "thread",
        16_200,
        &[
            ("td_tid", constant, 0),
            ("td_low", bits3, 32),
            ("td_high", bits7, 35),
            ("td_name", name, 64),
            ("td_proc", to_forward, 256),
            ("td_grid", grid, 320),
            ("", anonymous, 512),
            ("td_state", state, 640),
            ("td_big", big, 704),
            ("td_tail", empty, 128_704),
        ],
    );
    let proc = w.structure("proc", 72, &[("p_pid", int, 0), ("p_flag", unsigned, 32), ("p_comm", name, 64)]);
    w.typedef("proc_t", proc);
    w.hidden_structure("softc", 4, &[("x", int, 0)]);
    w.hidden_structure("softc", 8, &[("x", int, 32)]);
    w.hidden_structure("once", 8, &[("x", int, 32)]);
    w.function(long, &[int, thread, long]);
    w.function_row(Some((int, &[long, int])));
    w.function_row(None);
    w.function_row(Some((0, &[to_forward, 0])));
    w.object_row(long);
    w.object_row(0);
    w.object_row(thread);
    (w, [int, long, to_forward])
}

fn member(offset: u64, size: u64, shape: Shape, type_name: Option<&str>) -> Option<Member> {
    Some(Member { offset, size, bits: None, shape, type_name: type_name.map(Into::into) })
}

fn check(ctf: &dyn Layouts) {
    let m = |path| ctf.member("thread", path);
    assert_eq!(m("td_tid"), member(0, 4, SIGNED, Some("int")));
    let low = m("td_low").unwrap();
    assert_eq!((low.offset, low.size, low.bits, low.shape), (4, 1, Some((0, 3)), UNSIGNED));
    let high = m("td_high").unwrap();
    assert_eq!((high.offset, high.size, high.bits, high.shape), (4, 2, Some((3, 7)), SIGNED));
    assert_eq!(m("td_name"), member(8, 20, Shape::Array { count: 20, element: 1 }, Some("char")));
    assert_eq!(m("td_name[5]"), member(13, 1, SIGNED, Some("char")));
    assert_eq!(m("td_name[20]"), None);
    assert_eq!(m("td_proc"), member(32, 8, Shape::Pointer, Some("proc")));
    assert_eq!(m("td_grid"), member(40, 24, Shape::Array { count: 6, element: 4 }, Some("int")));
    assert_eq!(m("td_grid[4]"), member(56, 4, SIGNED, Some("int")));
    assert_eq!(m("whole"), member(64, 8, SIGNED, Some("long")));
    assert_eq!(m("b"), member(72, 8, SIGNED, Some("long")));
    assert_eq!(m("td_state"), member(80, 4, SIGNED, Some("td_states")));
    assert_eq!(m("td_big[1999]"), member(88 + 1999 * 8, 8, SIGNED, Some("long")));
    assert_eq!(m("td_tail"), member(16_088, 0, Shape::Array { count: 0, element: 1 }, Some("char")));
    assert_eq!(m("td_none"), None);
    assert_eq!(m("td_tid.x"), None);
    assert_eq!(ctf.member("proc_t", "p_flag"), member(4, 4, UNSIGNED, Some("unsigned int")));
    assert_eq!(ctf.size_of("thread"), Some(16_200));
    assert_eq!(ctf.size_of("proc"), Some(72));
    assert_eq!(ctf.size_of("lwpid_t"), Some(4));
    assert_eq!(ctf.size_of("unsigned int"), Some(4));
    assert_eq!(ctf.size_of("softc"), None, "two hidden ones of that name");
    assert_eq!(ctf.member("once", "x"), member(4, 4, SIGNED, Some("int")));
    assert_eq!(
        (ctf.enumerator("TDS_RUNNING"), ctf.enumerator("TDS_BAD"), ctf.enumerator("x")),
        (Some(4), Some(-1), None)
    );
    assert_eq!(ctf.source(), "CTF");
}

#[test]
fn layouts_in_both_versions() {
    for version in [2, 3] {
        for (compressed, big) in [(false, false), (true, false), (false, true)] {
            let mut writer = CtfWriter::new(version);
            writer = if compressed { writer.compressed() } else { writer };
            writer = if big { writer.big_endian() } else { writer };
            let (writer, [int, long, pointer]) = kernel(writer);
            let bytes = writer.finish();
            let ctf = Ctf::parse(&bytes, 8).unwrap();
            assert_eq!(ctf.broken_at(), None);
            assert_eq!(ctf.parent_name(), None);
            check(&ctf);
            let row = |returns, arguments: &[u32], variadic| {
                let arguments = arguments.iter().copied().map(CtfId).collect();
                Some(Prototype { returns: CtfId(returns), arguments, variadic })
            };
            assert_eq!(
                ctf.functions().get(..3),
                Some(&[row(int, &[long, int], false), None, row(0, &[pointer], true)][..])
            );
            assert_eq!(ctf.objects().first(), Some(&CtfId(long)));
            assert_eq!(Ctf::parse(&bytes, 4).unwrap().member("thread", "td_proc").unwrap().size, 4);
        }
    }
}

#[test]
fn a_module_uses_its_parents_types() {
    for version in [2, 3] {
        let (parent, [int, ..]) = kernel(CtfWriter::new(version));
        let parent = Arc::new(Ctf::parse(&parent.finish(), 8).unwrap());
        let mut writer = CtfWriter::new(version).child_of("kernel").compressed();
        let own = writer.structure("mine", 16, &[("count", int, 0), ("next", 0, 64)]);
        let to_own = writer.pointer(own);
        writer.structure("list", 8, &[("head", to_own, 0)]);
        writer.structure("proc", 4, &[("p_pid", int, 0)]);
        let child = Ctf::parse(&writer.finish(), 8).unwrap();
        assert_eq!(child.parent_name(), Some("kernel"));
        assert_eq!(child.member("mine", "count"), None, "its type is the parent's, which is not there yet");
        assert_eq!(child.member("list", "head"), member(0, 8, Shape::Pointer, Some("mine")));
        let child = child.with_parent(parent);
        assert_eq!(child.member("mine", "count"), member(0, 4, SIGNED, Some("int")));
        assert_eq!(child.member("mine", "next"), None, "void has no size");
        assert_eq!(child.size_of("thread"), Some(16_200));
        assert_eq!(child.size_of("proc"), Some(4), "its own goes first");
        assert_eq!(child.enumerator("TDS_RUNNING"), Some(4));
    }
}

/// Names with the highest bit set lie in the ELF file's own string table.
#[test]
fn names_in_the_files_string_table() {
    let mut writer = CtfWriter::new(2);
    let int = writer.integer("int", true, 32, 4);
    let mut record = Vec::new();
    record.extend(0x8000_0005_u32.to_le_bytes());
    record.extend((6_u16 << 11 | 1 << 10 | 1).to_le_bytes());
    record.extend(4_u16.to_le_bytes());
    record.extend(0x8000_0001_u32.to_le_bytes());
    record.extend((int as u16).to_le_bytes());
    record.extend(0_u16.to_le_bytes());
    writer.raw(&record);
    let bytes = writer.finish();
    let ctf = Ctf::parse_with_strings(&bytes, 8, b"\0pid\0process\0").unwrap();
    assert_eq!(ctf.member("process", "pid"), member(0, 4, SIGNED, Some("int")));
    assert_eq!(Ctf::parse(&bytes, 8).unwrap().size_of("process"), None);
}

#[test]
fn what_is_refused() {
    let error = |bytes: &[u8]| Ctf::parse(bytes, 8).unwrap_err().to_string();
    assert!(error(b"\x7fELF").contains("0xcff1"));
    assert!(error(&[]).contains("36 bytes"));
    assert!(error(&[0xf1, 0xcf, 4, 0]).contains("version 2 or 3"), "GNU's");
    let (writer, _) = kernel(CtfWriter::new(3).compressed());
    let bytes = writer.finish();
    assert!(
        error(&bytes[..bytes.len() - 9]).contains("zlib") || error(&bytes[..bytes.len() - 9]).contains("header says")
    );
    let mut wrong = bytes.clone();
    wrong[24] = 0;
    assert!(error(&wrong).contains("in their order"));
}

/// Circles of typedefs, arrays and structures end.
#[test]
fn circles_end() {
    let mut writer = CtfWriter::new(3);
    writer.typedef("a", 2);
    writer.typedef("b", 1);
    writer.array(3, 1, 2);
    writer.structure("s", 8, &[("", 4, 0), ("", 4, 0), ("", 4, 0), ("x", 3, 0)]);
    writer.structure("t", 8, &[("", 5, 0), ("", 5, 0), ("", 5, 0)]);
    let ctf = Ctf::parse(&writer.finish(), 8).unwrap();
    assert_eq!(ctf.size_of("a"), None);
    assert_eq!(ctf.member("s", "x"), None);
    assert_eq!(ctf.member("t", "y"), None);
}

/// Whatever is changed or cut off: an answer or none, and an end.
#[test]
fn damage_is_survived() {
    let (writer, _) = kernel(CtfWriter::new(2));
    let (writer3, _) = kernel(CtfWriter::new(3));
    let ask = |bytes: &[u8]| {
        let Ok(ctf) = Ctf::parse(bytes, 8) else { return };
        for path in ["td_tid", "td_high", "td_name[3]", "td_big[7]", "b", "whole", "none"] {
            let _ = ctf.member("thread", path);
        }
        let _ = (ctf.size_of("proc_t"), ctf.enumerator("TDS_BAD"), ctf.functions().len(), ctf.objects().len());
    };
    for bytes in [writer.finish(), writer3.finish()] {
        for end in 0..bytes.len() {
            ask(&bytes[..end]);
        }
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..10_000 {
            let mut damaged = bytes.clone();
            for _ in 0..3 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let at = (seed >> 8) as usize % damaged.len();
                damaged[at] ^= 1 << (seed & 7);
            }
            ask(&damaged);
        }
    }
}

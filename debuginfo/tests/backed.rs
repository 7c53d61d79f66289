//! What a core left out comes from the verified file, and nothing else does.
mod common;

use debuginfo::{Backed, DebugInfo, Locator, Modules};
use evidence::{Absent, Addr, Doubts, Extent, Memory};
use std::ops::Range;
use std::sync::Mutex;

/// Another memory with a hole.
struct Holed<'a> {
    inner: &'a dyn Memory,
    hole: Range<Addr>,
    why: Absent,
    extents: Vec<Extent>,
}

impl Memory for Holed<'_> {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        if self.hole.contains(&at) {
            return (0, Some(self.why));
        }
        let before = self.hole.start.offset_from(at).map_or(into.len(), |n| into.len().min(n as usize));
        let (got, stop) = self.inner.read(at, &mut into[..before]);
        (got, stop.or((got < into.len()).then_some(self.why)))
    }
    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}

/// One test maps files that the other would find among the mappings of this process, as if they were images.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn code_is_filled_in_and_data_is_not() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let (target, memory) = common::target(std::process::id());
    let doubts = Doubts::new();
    let modules = Modules::outline(&target, &memory, &Locator::default(), &doubts);
    let own: fn() = code_is_filled_in_and_data_is_not;
    let at = Addr(own as usize as u64);
    for (why, filled) in [(Absent::Filtered, true), (Absent::Truncated, true), (Absent::Unmapped, false)] {
        let hole = at..Addr(at.0 + 64);
        let extents = vec![Extent { range: hole.clone(), absent: Some(why) }];
        let holed = Holed { inner: &memory, hole: hole.clone(), why, extents };
        let backed = Backed::new(&holed, &modules);
        let (mut real, mut ours) = ([0; 128], [0; 128]);
        assert_eq!(memory.read(Addr(at.0 - 32), &mut real), (128, None));
        let result = backed.read(Addr(at.0 - 32), &mut ours);
        if filled {
            assert_eq!(result, (128, None));
            assert_eq!(real, ours);
            assert_eq!(backed.view(hole.clone()), Some(&real[32..96]));
            assert_eq!(backed.extents(), [Extent { range: hole, absent: None }]);
        } else {
            assert_eq!(result, (32, Some(why)));
            assert_eq!(backed.view(hole), None);
        }
    }
    // A writable byte may have been changed: the file does not know.
    static mut WRITABLE: u64 = 7;
    let at = Addr(&raw const WRITABLE as u64);
    let hole = at..Addr(at.0 + 8);
    let holed = Holed { inner: &memory, hole, why: Absent::Filtered, extents: Vec::new() };
    assert_eq!(Backed::new(&holed, &modules).read(at, &mut [0; 8]), (0, Some(Absent::Filtered)));
}

#[test]
fn an_image_without_file_is_read_from_memory() {
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let (mut target, memory) = common::target(std::process::id());
    for mapping in &mut target.mappings {
        mapping.open.clear();
        if let Some(path) = mapping.path.as_deref().filter(|p| p.starts_with('/')) {
            mapping.path = Some(format!("/gone{path}").into());
        }
    }
    let doubts = Doubts::new();
    let modules = Modules::outline(&target, &memory, &Locator::default(), &doubts);
    let info = DebugInfo::new(&modules, &doubts);
    let (index, libc) =
        modules.list().iter().enumerate().find(|(_, m)| m.path.contains("libc.so")).expect("libc is loaded");
    assert_eq!(libc.report().main, None);
    assert!(libc.report().problem.is_some());
    let symbols = info.symbols(index).unwrap();
    let malloc = symbols.by_name("malloc").expect("exported names come from the dynamic section");
    assert!(info.cfi(index).unwrap().row(malloc.start, &doubts).is_some());
    assert!(doubts.sorted().iter().any(|d| d.what == "images" && d.why.contains("libc.so")));
}

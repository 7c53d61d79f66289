//! A target read out of `/proc/PID`, for tests: the process must not change meanwhile (this one, or a waiting one).

use evidence::testing::FakeTarget;
use evidence::{Absent, Addr, Extent, Mapping, Memory, Note, Protection};
use std::fs::File;
use std::os::unix::fs::FileExt as _;

pub struct ProcMemory {
    file: File,
    extents: Vec<Extent>,
}

impl Memory for ProcMemory {
    fn read(&self, at: Addr, into: &mut [u8]) -> (usize, Option<Absent>) {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], at.0.wrapping_add(done as u64)) {
                Ok(n) if n > 0 => done += n,
                _ => return (done, Some(Absent::Unmapped)),
            }
        }
        (done, None)
    }

    fn extents(&self) -> &[Extent] {
        &self.extents
    }
}

pub fn target(pid: u32) -> (FakeTarget, ProcMemory) {
    let mut target = FakeTarget::new();
    target.identity.pid = Some(u64::from(pid));
    target.identity.executable =
        std::fs::read_link(format!("/proc/{pid}/exe")).ok().map(|p| p.to_string_lossy().into());
    let mut extents = Vec::new();
    for line in std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines() {
        let field: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = field[0].split_once('-').unwrap();
        let range = Addr(u64::from_str_radix(start, 16).unwrap())..Addr(u64::from_str_radix(end, 16).unwrap());
        let rest = line.splitn(6, ' ').nth(5).unwrap_or("").trim();
        let deleted = rest.ends_with(" (deleted)");
        let path = rest.trim_end_matches(" (deleted)");
        let file = field[4] != "0";
        extents.push(Extent { range: range.clone(), absent: None });
        target.mappings.push(Mapping {
            protection: Some(Protection {
                read: field[1].contains('r'),
                write: field[1].contains('w'),
                execute: field[1].contains('x'),
            }),
            shared: Some(field[1].contains('s')),
            file_offset: u64::from_str_radix(field[2], 16).unwrap(),
            path: (!path.is_empty()).then(|| path.into()),
            deleted,
            file_id: file.then(|| (0, field[4].parse().unwrap())),
            open: if file { vec![format!("/proc/{pid}/map_files/{start}-{end}").into()] } else { vec![] },
            range,
        });
    }
    target.notes.push(Note {
        owner: "CORE".into(),
        kind: 6,
        thread: None,
        body: std::fs::read(format!("/proc/{pid}/auxv")).unwrap().into(),
    });
    (target, ProcMemory { file: File::open(format!("/proc/{pid}/mem")).unwrap(), extents })
}

//! Runs a program under gdb until it dies, and makes a snapshot of what gdb says.

use snapshot_format::Snapshot;
use snapshot_format::schema::*;
use std::path::Path;
use std::process::Command;

/// Runs the program under gdb until it stops, and reads the rows.
pub fn probe(program: &Path, folder: &Path) -> Result<Snapshot, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe/probe.py");
    let output = Command::new("timeout")
        .args(["-k", "5", "120", "gdb", "-nx", "-batch", "-x"])
        .args([script.as_path(), program])
        .current_dir(folder)
        .env("LC_ALL", "C")
        .env_remove("DEBUGINFOD_URLS")
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut s = Snapshot::default();
    s.identity.origin = "live".into();
    s.identity.os = "linux".into();
    s.identity.arch = "x86_64".into();
    let mut event = Event::default();
    let mut limits = String::new();
    let mut thread = Thread { faulting: true, context: "lwp".into(), stack: Some(0), ..Thread::default() };
    for line in text.lines().filter_map(|l| l.strip_prefix("PF\t")) {
        let f: Vec<&str> = line.split('\t').collect();
        let n = |at: usize| f[at].parse::<u64>().unwrap();
        match f[0] {
            "pid" => s.identity.pid = Some(n(1)),
            "tid" => thread.id = n(1),
            "si_signo" => event.signal = f[1].parse().ok(),
            "si_code" => event.code = f[1].parse().ok(),
            "si_addr" => event.address = Some(n(1)),
            "si_pid" => event.sender_pid = Some(n(1)),
            "frame" => s.frames.push(Frame {
                pc: n(1),
                inline: f[2] == "inline",
                signal_frame: f[2] == "signal",
                function: (!f[3].is_empty()).then(|| f[3].into()),
                ..Frame::default()
            }),
            "register" => {
                let row =
                    RegisterValue { thread: thread.id, frame: f[1].parse().unwrap(), name: f[2].into(), value: n(3) };
                s.registers.push(row);
            }
            "bytes" => {
                let bytes: Vec<u8> =
                    (0..f[2].len() / 2).map(|i| u8::from_str_radix(&f[2][2 * i..2 * i + 2], 16).unwrap()).collect();
                s.memory.push(MemoryExtent {
                    address: n(1),
                    length: bytes.len() as u64,
                    bytes,
                    ..MemoryExtent::default()
                });
            }
            "map" => s.mappings.push(Mapping {
                start: n(1),
                end: n(2),
                protection: f[3].into(),
                file_offset: n(4),
                path: (!f[5].is_empty()).then(|| f[5].to_owned()),
                deleted: false,
            }),
            "limit" => limits.push_str(&format!("{}\n", f[1])),
            other => return Err(format!("unknown line {other}")),
        }
    }
    if s.frames.is_empty() {
        return Err(format!("gdb said\n{text}\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    s.stacks = vec![Stack { first: 0, count: s.frames.len() as u32 }];
    event.thread = Some(thread.id);
    s.threads.push(thread);
    s.event = Some(event);
    s.attributes.push(Attribute { key: "proc.limits".into(), thread: None, value: limits });
    Ok(s)
}

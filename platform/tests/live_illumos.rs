//! A /proc tree of illumos, made elsewhere, and what a collector does with it and to it.
#![cfg(unix)]

use evidence::{Absent, Addr, Target};
use platform::live::illumos::{Files, Options, Proc, attach_to};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testdata::fixtures::fixture;

/// The tree, with some files replaced, and every control message kept.
struct Tree {
    files: Files,
    replaced: HashMap<String, Result<Vec<u8>, i32>>,
    busy: bool,
    /// Bytes written to `ctl`, and whether it was closed.
    written: Written,
}

type Written = Arc<Mutex<(Vec<u8>, bool)>>;

impl Proc for Tree {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        match self.replaced.get(name) {
            Some(Ok(bytes)) => Ok(bytes.clone()),
            Some(Err(errno)) => Err(io::Error::from_raw_os_error(*errno)),
            None => {
                let mut bytes = self.files.read(name)?;
                // The tree shows a process that runs; this one obeys PCDSTOP.
                if name == "lstatus" && words(&self.written.lock().unwrap().0).contains(&2) {
                    bytes[16..].chunks_mut(1296).for_each(|lwp| lwp[0] |= 3);
                }
                Ok(bytes)
            }
        }
    }
    fn link(&self, name: &str) -> Option<PathBuf> {
        (name == "a.out").then(|| PathBuf::from("/opt/bin/server"))
    }
    fn place(&self, name: &str) -> PathBuf {
        self.files.place(name)
    }
    fn memory(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.files.memory(at, into)
    }
    fn take(&mut self) -> io::Result<()> {
        if self.busy { Err(io::Error::from_raw_os_error(16)) } else { Ok(()) }
    }
    fn control(&self, message: &[u8]) -> io::Result<()> {
        self.written.lock().unwrap().0.extend(message);
        Ok(())
    }
    fn let_go(&mut self) {
        self.written.lock().unwrap().1 = true;
    }
}

fn tree() -> Option<(Tree, Written)> {
    let root = fixture("illumos/user/proc")?;
    let written = Arc::new(Mutex::new((Vec::new(), false)));
    let mut replaced = HashMap::new();
    let files = Files::new(&root, 101);
    // Stopped, but on nobody's request before this one.
    let mut status = files.read("status").unwrap();
    status[0] |= 1;
    replaced.insert("status".to_owned(), Ok(status));
    Some((Tree { files, replaced, busy: false, written: written.clone() }, written))
}

fn words(bytes: &[u8]) -> Vec<i64> {
    bytes.chunks_exact(8).map(|c| i64::from_le_bytes(c.try_into().unwrap())).collect()
}

fn options() -> Options {
    Options { stop_wait: Duration::from_millis(250), ..Options::default() }
}

#[test]
fn what_the_tree_says() {
    let Some((tree, written)) = tree() else { return };
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("illumos/user/expected.json").unwrap()).unwrap())
            .unwrap();
    let stop = attach_to(101, Box::new(tree), &options()).unwrap();
    let target = stop.shared();
    let number = |v: &serde_json::Value| u64::from_str_radix(v.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let threads = expected["threads"].as_array().unwrap();
    assert_eq!(target.threads().len(), threads.len());
    for (thread, truth) in target.threads().iter().zip(threads) {
        assert_eq!(thread.id.0, truth["lwp"].as_u64().unwrap());
        assert_eq!(thread.name.as_deref(), truth["name"].as_str());
        let registers = &thread.registers;
        let found = [registers.pc(), registers.sp(), registers.fp()].map(|a| a.unwrap().0);
        assert_eq!(found, [number(&truth["rip"]), number(&truth["rsp"]), number(&truth["rbp"])]);
    }
    let event = target.event().unwrap();
    let signal = event.signal.unwrap();
    assert_eq!(u64::try_from(signal.number).unwrap(), expected["signo"].as_u64().unwrap());
    assert_eq!(signal.address, Some(Addr(number(&expected["fault"]))));
    let mappings: Vec<_> = target.mappings().iter().map(|m| (m.range.start.0, m.path.as_deref())).collect();
    assert_eq!(mappings[0], (0x40_0000, Some("/opt/bin/server")));
    assert_eq!(mappings[1], (0x50_0000, Some("[heap]")));
    assert_eq!(mappings[2].1, Some("[stack]"));
    assert_eq!(target.notes().first().map(|n| n.kind), Some(6));
    // Memory: what is there, what is nobody's, and nothing at all behind the release.
    let mut bytes = [0; 4];
    assert_eq!(target.memory().read(Addr(0x40_0000), &mut bytes), (4, None));
    assert_eq!(target.memory().read(Addr(0x90_0000_0000), &mut bytes), (0, Some(Absent::Unmapped)));
    // PCSET PR_RLC, PCDSTOP, PCTWSTOP.
    assert_eq!(words(&written.lock().unwrap().0), [15, 0x20_0000, 2, 4, 250]);
    let released = stop.release();
    assert!(!released.out_of_time);
    let (all, closed) = written.lock().unwrap().clone();
    assert_eq!((words(&all)[5..].to_vec(), closed), (vec![5, 0], true));
    assert_eq!(target.memory().read(Addr(0x40_0000), &mut bytes), (0, Some(Absent::Released)));
}

/// A process that someone else stopped stays stopped.
#[test]
fn stopped_before() {
    let Some((mut tree, written)) = tree() else { return };
    let mut status = tree.files.read("status").unwrap();
    status[0] |= 3;
    tree.replaced.insert("status".into(), Ok(status));
    drop(attach_to(101, Box::new(tree), &options()).unwrap());
    let (all, closed) = written.lock().unwrap().clone();
    assert_eq!((words(&all), closed), (vec![15, 0x20_0000], true));
}

#[test]
fn larger_entries_zombies_and_vanished_lwps() {
    let Some((mut tree, _)) = tree() else { return };
    let status = tree.files.read("lstatus").unwrap();
    // Every entry 64 bytes longer than known; the second LWP has no status: it is a zombie.
    let mut larger = [1_u64, 1296 + 64].map(u64::to_le_bytes).concat();
    larger.extend(&status[16..16 + 1296]);
    larger[16] |= 1;
    larger.extend([0xaa; 64]);
    tree.replaced.insert("lstatus".into(), Ok(larger));
    let mut infos = tree.files.read("lpsinfo").unwrap();
    infos[16 + 128 + 26] = b'Z';
    tree.replaced.insert("lpsinfo".into(), Ok(infos));
    tree.replaced.insert("lwp/1/lwpname".into(), Err(2));
    let stop = attach_to(101, Box::new(tree), &options()).unwrap();
    let target = stop.shared();
    let [first, second] = target.threads() else { panic!("{:?}", target.threads()) };
    assert!(first.registers.pc().is_some() && first.name.is_none());
    assert_eq!((second.registers.known(), &*second.state.as_ref().unwrap().word), (0, "zombie"));
    assert!(target.gaps().doubts.iter().any(|d| d.why.contains("LWP 2 has no registers")), "{:?}", target.gaps());
}

#[test]
fn the_agent_and_those_that_do_not_stop() {
    let Some((mut tree, _)) = tree() else { return };
    let Some(Ok(status)) = tree.replaced.get_mut("status") else { panic!() };
    status[0] &= !1;
    status[28] = 2;
    let mut list = tree.files.read("lstatus").unwrap();
    list[16] &= !1;
    list[16 + 1296] |= 1;
    tree.replaced.insert("lstatus".into(), Ok(list));
    let stop = attach_to(101, Box::new(tree), &options()).unwrap();
    let target = stop.shared();
    let doubts: String = target.gaps().doubts.iter().map(|d| format!("{}\n", d.why)).collect();
    assert!(doubts.contains("LWP 1 did not stop in time") && doubts.contains("not all LWPs stopped"), "{doubts}");
    assert!(doubts.contains("LWP 2 is an agent"), "{doubts}");
    assert_eq!((target.threads()[0].registers.known(), target.threads()[1].name.as_deref()), (0, Some("agent lwp")));
}

#[test]
fn refusals_help() {
    let check = |change: &dyn Fn(&mut Tree), word: &str| {
        let Some((mut tree, written)) = tree() else { return };
        change(&mut tree);
        let error = attach_to(101, Box::new(tree), &options()).err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
        // Nothing is left stopped: nobody asked, or the control file is closed with its owner.
        assert!(!words(&written.lock().unwrap().0).contains(&2) || word == "64-bit", "{error}");
    };
    check(&|t| t.busy = true, "another program controls it");
    check(&|t| drop(t.replaced.insert("psinfo".into(), Err(2))), "no such process");
    check(&|t| drop(t.replaced.insert("psinfo".into(), Err(13))), "proc_owner");
    check(&|t| drop(t.replaced.insert("lstatus".into(), Err(79))), "64-bit");
    check(
        &|t| {
            let mut about = t.files.read("psinfo").unwrap();
            about[4..8].fill(0);
            t.replaced.insert("psinfo".into(), Ok(about));
        },
        "zombie",
    );
    check(&|t| drop(t.replaced.insert("psinfo".into(), Ok(vec![0; 100]))), "100 bytes");
}

#[test]
fn the_budget_lets_it_go() {
    let Some((tree, written)) = tree() else { return };
    let options = Options { stop_budget: Some(Duration::from_millis(50)), ..options() };
    let stop = attach_to(101, Box::new(tree), &options).unwrap();
    let mut byte = [0];
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while stop.shared().memory().read(Addr(0x40_0000), &mut byte).1 != Some(Absent::Released) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(written.lock().unwrap().1);
    assert!(stop.release().out_of_time);
}

//! Modules of a made FreeBSD kernel of amd64: relocatable objects that gcc wrote, loaded as the kernel does it. Names of
//! functions by the module's file, by its separate debug file, and by what the kernel itself keeps of it in the dump.

mod common;

use common::{arg, json, run};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use testdata::freebsd::full;
use testdata::freebsd::kernel::{self, Has, Port};
use testdata::freebsd::minidump::{Machine, Minidump};

const SOURCE: &str = r#"
extern void sleepq_wait(void *, int);
static int waiting[7];
const char zfs_name[] __attribute__((aligned(64))) = "zfs";
__attribute__((section(".init.text"))) void zfs_init(void) { waiting[0] = 5; }
int zfs_first(int n) { return n * 3 + waiting[1]; }
__attribute__((noinline)) void zfs_wait(void *where)
{
    waiting[2] = zfs_first(waiting[3]);
    sleepq_wait(where, SIZE);
    waiting[4]++;
}
void *zfs_table[] = { zfs_wait, zfs_first };
"#;

fn tool(name: &str, arguments: &[&str]) -> Option<()> {
    match Command::new(name).args(arguments).env("LC_ALL", "C").output() {
        Ok(output) => {
            assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            Some(())
        }
        Err(why) => {
            assert!(!testdata::fixtures::required("POSTFAULT_REQUIRE_TOOLS"), "{name}: {why}");
            eprintln!("skipped: {name}: {why}");
            None
        }
    }
}

/// A module with debug information; `size`: a number in its code.
fn compiled(folder: &Path, name: &str, size: u32) -> Option<Vec<u8>> {
    let (source, out) = (folder.join("module.c"), folder.join(name));
    std::fs::write(&source, SOURCE.replace("SIZE", &size.to_string())).unwrap();
    let flags =
        ["-g", "-O1", "-fno-omit-frame-pointer", "-mcmodel=kernel", "-fno-pic", "-fno-pie", "-fcf-protection=none"];
    let more = ["-fno-stack-protector", "-ffreestanding", "-c", "-o", arg(&out), arg(&source)];
    tool("gcc", &[&flags[..], &more].concat())?;
    Some(std::fs::read(out).unwrap())
}

/// Of the function that waits: what is said of it, and the outcome of the places that were looked at.
fn check(found: &Value, line: bool, what: &str) {
    let threads = found["threads"].as_array().unwrap();
    let frame = &threads[1]["frames"][2];
    assert_eq!(frame["function"], "zfs_wait", "{what}: {frame}");
    assert_eq!(frame["line"].is_u64(), line, "{what}: {frame}");
    if line {
        let line = frame["line"].as_u64().unwrap();
        assert!((7..=10).contains(&line), "{what}: {frame}");
        assert!(frame["file"].as_str().unwrap().ends_with("module.c"), "{what}: {frame}");
    }
    assert_eq!(threads[1]["frames"].as_array().map(Vec::len), Some(3), "{what}");
}

#[test]
fn names_in_modules() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let Some(module) = compiled(dir.path(), "zfs.full", 4) else { return };
    for (layout, ctf) in
        [(kernel::first_layout(), Some(2)), (kernel::second_layout(), Some(3)), (kernel::second_layout(), None)]
    {
        let what = format!("{}, types {ctf:?}", layout.osreldate);
        let has = Has { ctf, module: Some(module.clone()), ..Has::default() };
        let made = kernel::build_with(Port::Amd64, &layout, &has);
        let kernel_base = Port::Amd64.kernel_base();
        let direct = (0xffff_f800_0000_0000, 0xffff_fc00_0000_0000, 0);
        let minidump = Minidump { machine: Machine::Amd64, version: 3, kernel_base, direct, messages: Vec::new() };
        let mut memory = made.memory.clone();
        full::add(&mut memory, full::Tables::Amd64(4));
        for (name, bytes) in [("minidump", minidump.write(&made.memory)), ("full", full::write(&memory))] {
            let what = format!("{what}, {name}");
            let (boot, symbols) = (path("boot"), path("symbols"));
            for folder in [&boot, &symbols] {
                let _ = std::fs::remove_dir_all(folder);
                std::fs::create_dir_all(folder).unwrap();
            }
            let (dump, file) = (path("vmcore.0"), boot.join("kernel"));
            std::fs::write(&dump, bytes).unwrap();
            std::fs::write(&file, &made.file).unwrap();
            let show = |more: &[&str]| json(&[&["show", arg(&dump), "--json", "--kernel", arg(&file)], more].concat());
            // Nothing but the dump.
            let found = show(&[]);
            assert_eq!(found["doubts"].as_array().map(Vec::len), Some(0), "{what}: {}", found["doubts"]);
            check(&found, false, &format!("{what}, no file"));
            let zfs = found["modules"].as_array().unwrap().iter().find(|m| m["path"] == "/boot/kernel/zfs.ko").unwrap();
            assert!(zfs["size"].as_u64().unwrap() > 0x40, "{what}: {zfs}");
            // Another build's file is named and not used.
            let other = compiled(dir.path(), "zfs.other", 70_000).unwrap();
            let moved = compiled(dir.path(), "zfs.moved", 4).unwrap();
            assert_eq!(moved, module);
            std::fs::write(boot.join("zfs.ko"), &other).unwrap();
            check(&show(&[]), other == module, &format!("{what}, another file"));
            // The module's own file, with debug information.
            std::fs::write(boot.join("zfs.ko"), &module).unwrap();
            check(&show(&[]), true, &format!("{what}, its file"));
            // As it is installed: without, and with a link to the file that has it.
            let (stripped, debug) = (boot.join("zfs.ko"), symbols.join("zfs.ko.debug"));
            std::fs::write(&debug, &module).unwrap();
            std::fs::write(path("plain"), &module).unwrap();
            let link = format!("--add-gnu-debuglink={}", arg(&debug));
            tool("objcopy", &["--strip-debug", &link, arg(&path("plain")), arg(&stripped)]).unwrap();
            check(&show(&[]), false, &format!("{what}, stripped"));
            let found = show(&["--symbols", arg(&symbols)]);
            check(&found, true, &format!("{what}, its debug file"));
            let snapshot = path("taken.pfsnap");
            run(&["capture", arg(&dump), "--kernel", arg(&file), "--symbols", arg(&symbols), "-o", arg(&snapshot)], 0);
            check(&json(&["show", arg(&snapshot), "--json"]), true, &format!("{what}, snapshot"));
            std::fs::remove_file(&snapshot).unwrap();
        }
    }
}

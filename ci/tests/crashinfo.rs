//! The program that FreeBSD starts in place of crashinfo(8): which dump and which kernel it takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("freebsd/postfault-crashinfo");
    let mut command = Command::new("sh");
    command.arg(script).args(arguments).env("POSTFAULT", folder.join("postfault")).current_dir(folder);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap().trim()
}

#[test]
fn the_last_dump_is_taken_with_its_kernel() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("postfault"), "#!/bin/sh\necho called \"$@\" >&2\n").unwrap();
    std::fs::set_permissions(at("postfault"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(at("crash")).unwrap();
    let none = run(folder.path(), &["-b", "-d", "crash"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("was a dump ever saved here"), "{none:?}");
    std::fs::write(at("crash/bounds"), "3\n").unwrap();
    std::fs::write(at("crash/vmcore.2.zst"), "").unwrap();
    std::fs::write(at("kernel"), "").unwrap();
    let last = run(folder.path(), &["-b", "-d", "crash", "-k", "kernel"]);
    assert!(last.status.success(), "{last:?}");
    assert_eq!(text(&last.stdout), "crash/vmcore.2.zst.pfsnap");
    assert_eq!(text(&last.stderr), "called capture crash/vmcore.2.zst -o crash/vmcore.2.zst.pfsnap --kernel kernel");
    let other = run(folder.path(), &["-d", "crash", "-n", "7"]);
    assert_eq!((other.status.code(), text(&other.stderr)), (Some(1), "crash: no kernel dump with the number 7"));
    let wrong = run(folder.path(), &["-z"]);
    assert!(wrong.status.code() == Some(1) && text(&wrong.stderr).contains("usage:"), "{wrong:?}");
}

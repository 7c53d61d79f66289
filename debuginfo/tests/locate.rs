//! Debug files are found where they may be, and files of another build are named and not used.

use debuginfo::images::{Outcome, SymbolKind};
use debuginfo::{Locator, Modules};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use testdata::victims::{build, separate_debug_dir};

fn of(program: &Path, locator: &Locator) -> Modules {
    Modules::of_file(program, None, None, locator).unwrap()
}

#[test]
fn by_debug_link_with_its_checksum() {
    let program = build("null_deref", "debuglink").unwrap();
    let modules = of(&program, &Locator::default());
    let report = modules.list()[0].report();
    assert_eq!(report.kind, SymbolKind::Dwarf);
    assert_eq!(report.debug.as_deref(), Some(program.with_extension("debug").as_path()));

    // Without build-ids the checksum alone decides.
    let folder = tempfile::tempdir().unwrap();
    let strip = |from: &Path, to: &Path| {
        let status = std::process::Command::new("objcopy")
            .args(["--remove-section", ".note.gnu.build-id"])
            .args([from, to])
            .status();
        assert!(status.unwrap().success());
    };
    let copy = folder.path().join("null_deref");
    strip(&program, &copy);
    std::fs::create_dir(folder.path().join(".debug")).unwrap();
    let debug = folder.path().join(".debug/null_deref.debug");
    std::fs::copy(program.with_extension("debug"), &debug).unwrap();
    let modules = of(&copy, &Locator::default());
    assert_eq!(modules.list()[0].report().debug.as_deref(), Some(debug.as_path()));
    let mut bytes = std::fs::read(&debug).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&debug, bytes).unwrap();
    let modules = of(&copy, &Locator::default());
    let report = modules.list()[0].report();
    assert_eq!(report.debug, None);
    let outcome = &report.searched.iter().find(|(p, _)| *p == debug).unwrap().1;
    assert!(matches!(outcome, Outcome::Mismatch { found, .. } if found.contains("CRC")), "{outcome:?}");
    assert!(report.problem.unwrap().contains("CRC"));
}

#[test]
fn by_build_id_in_given_folders() {
    let program = build("null_deref", "build-id").unwrap();
    let symbols = separate_debug_dir(&program);
    let report = |dir: &Path| {
        let modules = of(&program, &Locator { symbols: vec![dir.to_owned()], ..Locator::default() });
        modules.list()[0].report()
    };
    let found = report(&symbols);
    assert_eq!(found.kind, SymbolKind::Dwarf);
    let debug = found.debug.unwrap();
    assert!(debug.starts_with(&symbols));
    // By name, by name and `.debug`, by path.
    for name in ["null_deref", "null_deref.debug"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(&debug, folder.path().join(name)).unwrap();
        assert_eq!(report(folder.path()).debug, Some(folder.path().join(name)));
        let deep = folder.path().join(program.parent().unwrap().strip_prefix("/").unwrap());
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::rename(folder.path().join(name), deep.join(name)).unwrap();
        assert_eq!(report(folder.path()).debug, Some(deep.join(name)));
    }
    let nothing = report(Path::new("/nonexistent"));
    assert_eq!(nothing.debug, None);
    assert!(nothing.problem.is_some() && nothing.remedy.is_some());
}

#[test]
fn a_file_of_another_build_is_named_and_not_used() {
    let program = build("null_deref", "build-id").unwrap();
    let other = build("abort", "gcc-O0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(other, folder.path().join("null_deref")).unwrap();
    let modules = of(&program, &Locator { symbols: vec![folder.path().to_owned()], ..Locator::default() });
    let module = &modules.list()[0];
    assert_eq!(module.report().debug, None);
    let id = module.build_id.as_ref().unwrap().to_string();
    assert!(module.doubts().iter().any(|d| d.what == "build-id" && d.why.contains(&id)), "{:?}", module.doubts());
}

#[test]
fn the_dwz_alternate_file_is_found() {
    let program = build("null_deref", "dwz").unwrap();
    let modules = of(&program, &Locator::default());
    let report = modules.list()[0].report();
    assert!(report.supplementary.is_some(), "{report:?}");
    assert_eq!(report.problem, None);
}

/// Answers requests with the file for its path, else with 404, as often as told.
fn serve(path: String, body: Vec<u8>, times: usize) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for stream in listener.incoming().take(times) {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut part = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                let n = stream.read(&mut part).unwrap();
                request.extend_from_slice(&part[..n]);
            }
            let text = String::from_utf8(request).unwrap();
            let wanted = text.split(' ').nth(1).unwrap().to_owned();
            let (status, body) = if wanted == path { ("200 OK", &body[..]) } else { ("404 Not Found", &b"no"[..]) };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).unwrap();
            stream.write_all(body).unwrap();
            asked.push(wanted);
        }
        asked
    });
    (url, thread)
}

#[test]
fn debuginfod_is_asked_once_and_its_answer_is_kept_and_verified() {
    let program = build("null_deref", "build-id").unwrap();
    let symbols = separate_debug_dir(&program);
    let modules = of(&program, &Locator { symbols: vec![symbols], ..Locator::default() });
    let debug = std::fs::read(modules.list()[0].report().debug.unwrap()).unwrap();
    let id = modules.list()[0].build_id.clone().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let locator =
        |url: String| Locator { debuginfod: vec![url], cache: Some(cache.path().to_owned()), ..Locator::default() };

    let (url, server) = serve("/elsewhere".into(), Vec::new(), 1);
    let modules = of(&program, &locator(url));
    let report = modules.list()[0].report();
    assert_eq!((report.debug, modules.list()[0].doubts()), (None, vec![]));
    assert_eq!(server.join().unwrap(), vec![format!("/buildid/{id}/debuginfo")]);

    let wrong = std::fs::read(build("abort", "gcc-O0").unwrap()).unwrap();
    let (url, server) = serve(format!("/buildid/{id}/debuginfo"), wrong, 1);
    let modules = of(&program, &locator(url));
    let report = modules.list()[0].report();
    assert_eq!(report.debug, None);
    assert!(matches!(report.searched.last().unwrap().1, Outcome::Mismatch { .. }));
    server.join().unwrap();

    let (url, server) = serve(format!("/buildid/{id}/debuginfo"), debug, 1);
    let modules = of(&program, &locator(url));
    assert_eq!(modules.list()[0].report().kind, SymbolKind::Dwarf);
    server.join().unwrap();
    // The server is gone; the kept file serves.
    let modules = of(&program, &locator("http://127.0.0.1:9".into()));
    assert_eq!(modules.list()[0].report().kind, SymbolKind::Dwarf);
}

#[test]
fn the_debian_package_is_named_by_the_lists_of_dpkg() {
    let list = Path::new("/var/lib/dpkg/info/bash.list");
    if !list.exists() {
        println!("skipped: no dpkg here");
        return;
    }
    let modules = of(Path::new("/bin/bash"), &Locator::default());
    assert_eq!(modules.list()[0].debug_package().as_deref(), Some("bash-dbgsym"));
}

// What every Rust victim shares; included with `include!`.
use std::io::Write as _;

/// The point at which a victim is looked at: prints "ready", then waits (first argument `wait`) or returns.
#[inline(never)]
fn reached() {
    let mut out = std::io::stdout();
    out.write_all(b"ready\n").unwrap();
    out.flush().unwrap();
    while std::env::args().nth(1).is_some_and(|a| a == "wait") {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

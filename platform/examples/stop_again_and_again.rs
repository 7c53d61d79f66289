//! Stops a process again and again, until it is gone or until this program is killed: a hundred stops of a program must
//! leave no trace in it, and neither must the death of whoever stops it.
//!
//! `stop_again_and_again PID [TIMES]`

#[cfg(target_os = "linux")]
fn main() {
    use evidence::{Addr, Paged, Target};
    use platform::live::{Options, attach};
    use std::process::exit;
    let number = |n: usize| std::env::args().nth(n).and_then(|a| a.parse::<u64>().ok());
    let Some(pid) = number(1) else {
        eprintln!("usage: stop_again_and_again PID [TIMES]");
        exit(2)
    };
    for _ in 0..number(2).unwrap_or(u64::MAX) {
        let stop = match attach(pid, &Options { resident: false, open_files: false, ..Options::default() }) {
            Ok(stop) => stop,
            Err(error) => {
                eprintln!("{error}");
                exit(3)
            }
        };
        let target = stop.shared();
        let stacks: Vec<_> = target
            .threads()
            .iter()
            .filter_map(|t| t.registers.sp())
            .map(|sp| sp..Addr(sp.0.saturating_add(16384)))
            .collect();
        let memory = Paged::new(target.memory());
        memory.fetch(&stacks);
        let released = stop.release();
        println!(
            "{} threads, {} us, {} doubts",
            target.threads().len(),
            released.stopped_for_us,
            target.gaps().doubts.len()
        );
        for doubt in &target.gaps().doubts {
            println!("  {}: {}", doubt.what, doubt.why);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this example stops Linux processes only");
}

//! Backtraces of the same process by postfault and by others, in turn.

use super::sample::{Sample, once, spread};
use std::path::Path;
use testdata::victims;

/// A tool and how it is asked for all backtraces of a process.
struct Contender {
    name: &'static str,
    words: Vec<String>,
}

fn contenders(postfault: &Path, pid: &str) -> Vec<Contender> {
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
    let ours = postfault.display().to_string();
    vec![
        Contender { name: "postfault bt", words: words(&[&ours, "bt", "--pid", pid]) },
        Contender { name: "postfault bt --locals", words: words(&[&ours, "bt", "--locals", "--pid", pid]) },
        Contender { name: "gdb bt", words: words(&["gdb", "-nx", "-batch", "-p", pid, "-ex", "thread apply all bt"]) },
        Contender {
            name: "gdb bt full",
            words: words(&["gdb", "-nx", "-batch", "-p", pid, "-ex", "thread apply all bt full"]),
        },
        Contender { name: "lldb bt all", words: words(&["lldb", "--batch", "-p", pid, "-o", "bt all"]) },
        Contender { name: "eu-stack -i -s", words: words(&["eu-stack", "-i", "-s", "-p", pid]) },
    ]
}

/// Measures programs with few and with many threads.
pub fn measure(postfault: &Path, runs: usize) -> Result<(), String> {
    for (victim, arguments, what) in
        [("inlines", vec![], "C++, 1 thread"), ("checksum", vec!["200"], "C, 200 busy threads")]
    {
        let variant = victims::find(victim).map_err(|e| e.to_string())?.variants.first().copied().unwrap_or("gcc-O2");
        let live = victims::run_live(victim, variant, &arguments).map_err(|e| e.to_string())?;
        let contenders = contenders(postfault, &live.pid().to_string());
        let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
        // The first round warms the page cache and is not counted; then all take turns.
        for round in 0..=runs {
            for (contender, list) in contenders.iter().zip(&mut samples) {
                match once(&contender.words) {
                    Ok(sample) if round > 0 => list.push(sample),
                    Ok(_) => {}
                    Err(e) if round == 0 => println!("{}: left out: {e}", contender.name),
                    Err(_) => {}
                }
            }
        }
        table(what, &contenders, &samples);
    }
    Ok(())
}

fn table(what: &str, contenders: &[Contender], samples: &[Vec<Sample>]) {
    println!("backtraces of a live process, {what}; median (least to most), and how many times ours");
    let ours = samples.first().map(|s| (spread(s, |s| s.wall).median, spread(s, |s| s.peak).median));
    let (wall, peak) = ours.unwrap_or((f64::NAN, f64::NAN));
    for (contender, list) in contenders.iter().zip(samples).filter(|(_, s)| !s.is_empty()) {
        let (w, c, p) = (spread(list, |s| s.wall), spread(list, |s| s.cpu), spread(list, |s| s.peak));
        println!(
            "  {:<22} wall {:.3} s ({:.3} to {:.3}), x{:.1}; cpu {:.3} s; peak {:.0} MiB, x{:.1}; {} runs",
            contender.name,
            w.median,
            w.least,
            w.most,
            w.median / wall,
            c.median,
            p.median / 1024.0,
            p.median / peak,
            list.len()
        );
    }
}

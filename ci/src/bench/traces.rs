//! Backtraces of the same process by postfault and by others, in turn.

use super::sample::{Sample, spread};
use super::tools::{self, Tool};
use std::path::Path;
use testdata::victims;

/// Measures programs with few and with many threads.
pub fn measure(postfault: &Path, runs: usize) -> Result<(), String> {
    for (victim, arguments, what) in
        [("inlines", vec![], "C++, 1 thread"), ("checksum", vec!["200"], "C, 200 busy threads")]
    {
        let variant = victims::find(victim).map_err(|e| e.to_string())?.variants.first().copied().unwrap_or("gcc-O2");
        let live = victims::run_live(victim, variant, &arguments).map_err(|e| e.to_string())?;
        let (cache, pid) = (super::scratch()?, live.pid().to_string());
        let contenders: Vec<Tool> =
            [false, true].iter().flat_map(|values| tools::live(postfault, cache.path(), &pid, *values)).collect();
        let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
        // The first round warms the page cache and is not counted; then all take turns.
        let mut left_out = vec![false; contenders.len()];
        for round in 0..=runs {
            for ((contender, list), left_out) in contenders.iter().zip(&mut samples).zip(&mut left_out) {
                if *left_out {
                    continue;
                }
                match contender.limited() {
                    Ok(sample) if round > 0 => list.push(sample),
                    Ok(_) => {}
                    Err(e) => {
                        println!("{}: left out: {e}", contender.name);
                        *left_out = true;
                    }
                }
            }
        }
        table(what, &contenders, &samples);
    }
    Ok(())
}

fn table(what: &str, contenders: &[Tool], samples: &[Vec<Sample>]) {
    println!("backtraces of a live process, {what}; median (least to most), and how many times ours");
    let ours = samples.first().map(|s| (spread(s, |s| s.wall).median, spread(s, |s| s.peak).median));
    let (wall, peak) = ours.unwrap_or((f64::NAN, f64::NAN));
    for (contender, list) in contenders.iter().zip(samples).filter(|(_, s)| !s.is_empty()) {
        let (w, c, p) = (spread(list, |s| s.wall), spread(list, |s| s.cpu), spread(list, |s| s.peak));
        println!(
            "  {:<32} wall {:.3} s ({:.3} to {:.3}), x{:.1}; cpu {:.3} s; peak {:.0} MiB, x{:.1}; {} runs",
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

//! One command, several runs: wall time, processor time and peak memory of the whole process.

use std::process::{Command, Stdio};
use std::time::Instant;

/// The figures of one run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Wall seconds.
    pub wall: f64,
    /// Peak resident memory, KiB (GNU time's `%M`: the largest single process).
    pub peak: f64,
    /// User and system seconds.
    pub cpu: f64,
    /// Longest gap that the target saw in the clock, seconds; 0 where it does not look.
    pub stop: f64,
}

/// Least, median and most of a figure.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

/// Runs a command once under GNU time, its output thrown away. It may end with 0, or with `also`.
pub fn once(words: &[String], also: Option<i32>) -> Result<Sample, String> {
    let temporary = || tempfile::NamedTempFile::new().map_err(|e| e.to_string());
    let (figures, said) = (temporary()?, temporary()?);
    let begun = Instant::now();
    let status = Command::new("/usr/bin/time")
        .args(["--quiet", "-f", "%M %U %S", "-o"])
        .arg(figures.path())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.reopen().map_err(|e| e.to_string())?)
        .status()
        .map_err(|e| format!("/usr/bin/time (Debian package time): {e}"))?;
    let wall = begun.elapsed().as_secs_f64();
    let text = std::fs::read_to_string(figures.path()).map_err(|e| e.to_string())?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    let [peak, user, system] = numbers[..] else { return Err(format!("{}: {status}: {text}", words.join(" "))) };
    if !status.success() && (also.is_none() || status.code() != also) {
        let said = std::fs::read_to_string(said.path()).unwrap_or_default();
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
        return Err(format!("{}: {status}: {last}", words.join(" ")));
    }
    Ok(Sample { wall, peak, cpu: user + system, stop: 0.0 })
}

/// The spread of one figure over all samples.
pub fn spread(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> Spread {
    let mut values: Vec<f64> = samples.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    let at = |n: usize| values.get(n).copied().unwrap_or(f64::NAN);
    Spread { least: at(0), median: at(values.len() / 2), most: at(values.len().saturating_sub(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let samples: Vec<Sample> = [5.0, 1.0, 3.0].iter().map(|w| Sample { wall: *w, ..Sample::default() }).collect();
        let s = spread(&samples, |s| s.wall);
        assert_eq!((s.least, s.median, s.most), (1.0, 3.0, 5.0));
    }
}

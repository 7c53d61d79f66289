//! A process of somebody else's, as it runs: its size, its number of threads and the form of its debug information are
//! what distributions make them.

use super::page::{self, Chapter, Point, in_turn};
use super::{scratch, tools};
use std::path::Path;

/// Which processes, and what they are.
#[derive(clap::Args)]
pub struct Processes {
    /// A process to measure, with PART `process`; may be given more than once.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// What it is, for the page: program and version, and how its debug information comes; once for each `--pid`.
    #[arg(long, value_name = "TEXT")]
    named: Vec<String>,
}

/// Measures the backtraces of each, and writes their chapter of the page.
pub fn measure(postfault: &Path, runs: usize, processes: &Processes) -> Result<(), String> {
    if processes.pid.is_empty() || processes.pid.len() != processes.named.len() {
        return Err("give --pid and --named, as many of one as of the other".to_owned());
    }
    let mut points = Vec::new();
    for (pid, name) in processes.pid.iter().zip(&processes.named) {
        let folder = scratch()?;
        let threads =
            std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| format!("process {pid}: {e}"))?.count();
        let tools = tools::live(postfault, folder.path(), &pid.to_string(), false);
        let mut left_out = vec![None; tools.len()];
        let samples = in_turn(&tools, runs, &mut left_out, || Ok(()), || 0.0)?;
        let what = format!("{name}, {threads} thread{}", if threads == 1 { "" } else { "s" });
        println!("measured {what}");
        points.push(Point { what, x: 0.0, names: tools.iter().map(|t| t.name).collect(), samples, left_out });
    }
    page::write(
        runs,
        &Chapter {
            title: "Other programs",
            about: "Programs that were not made for this page, waiting for work. Their longest stop is not seen.",
            plot: None,
            commands: tools::live(Path::new("postfault"), Path::new("DIR"), "PID", false),
            points,
        },
    )
}

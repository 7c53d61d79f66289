//! A sign of life on long work, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;

/// A spinner on stderr that appears after a second.
pub struct Spinner(Option<ProgressBar>);

impl Spinner {
    /// Starts waiting.
    pub fn start(what: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::default_spinner());
        bar.set_message(format!("{what} ..."));
        // Drawn from its own thread, first after this interval: short work stays silent.
        bar.enable_steady_tick(Duration::from_secs(1));
        Self(Some(bar))
    }

    /// Removes it.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

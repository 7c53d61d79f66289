//! The result of a cross-check for people and for programs.

use super::align::{Comparison, Difference};
use super::reason::Reason;
use super::{Outcome, Subject};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How many differences the text shows for one peer; the JSON has them all.
const LIMIT_SHOWN: usize = 200;

/// 0 when every peer that answered agrees, 1 when one does not, 3 when none answered.
///
/// With `strict`, what only the peer does not know counts as well.
#[must_use]
pub fn exit_code(outcomes: &[Outcome], strict: bool) -> u8 {
    let mut answered = false;
    for outcome in outcomes {
        if let Outcome::Compared(comparison) = outcome {
            answered = true;
            if !comparison.same(strict) {
                return 1;
            }
        }
    }
    if answered { 0 } else { 3 }
}

/// The report as text.
#[must_use]
pub fn text(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        match outcome {
            Outcome::Compared(comparison) => one(&mut text, comparison),
            Outcome::Unavailable { peer, why } => {
                let _ = writeln!(text, "{}: not compared: {why}", peer.program());
            }
        }
    }
    text
}

fn one(text: &mut String, comparison: &Comparison) {
    let totals = &comparison.totals;
    let name = comparison.peer.program();
    let verdict = if totals.differences == 0 { "same" } else { "different" };
    let _ = write!(
        text,
        "{name} ({}): {verdict}; {} threads, {} of {} frames agree",
        comparison.version, totals.threads, totals.frames_same, totals.frames
    );
    if totals.variables > 0 {
        let _ = write!(text, ", {} of {} variables agree", totals.variables_same, totals.variables);
    }
    if totals.facts > 0 {
        let _ = write!(text, ", {} of {} facts agree", totals.facts_same, totals.facts);
    }
    text.push('\n');
    if let Some(why) = &comparison.incomplete {
        let _ = writeln!(text, "  {name} did not finish: {why}");
    }
    for (reason, count) in &totals.reasons {
        let _ = writeln!(text, "  {count:6}  {reason}");
    }
    let disagreements = comparison.differences.iter().filter(|d| !d.reason.is_peer_limit());
    for difference in disagreements.clone().take(LIMIT_SHOWN) {
        line(text, name, difference);
    }
    let hidden = totals.differences.saturating_sub(u64::try_from(disagreements.take(LIMIT_SHOWN).count()).unwrap_or(0));
    if hidden > 0 {
        let _ = writeln!(text, "  ... {hidden} more differences (--json has them)");
    }
}

fn line(text: &mut String, name: &str, difference: &Difference) {
    let fact = matches!(difference.reason, Reason::FactDiffers | Reason::OursMissingFact | Reason::PeerMissingFact);
    if fact {
        text.push_str("  kernel");
    } else {
        let _ = write!(text, "  thread {}", difference.thread);
    }
    if let Some(frame) = difference.frame {
        let _ = write!(text, " #{frame}");
    }
    if let Some(frame) = difference.peer_frame {
        let _ = write!(text, " ({name} #{frame})");
    }
    if let Some(variable) = &difference.variable {
        let _ = write!(text, " `{variable}`");
    }
    let say = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".to_string());
    let _ = writeln!(
        text,
        ": {}: ours {}, {name} {}",
        difference.reason.code(),
        say(&difference.ours),
        say(&difference.peer)
    );
}

/// The report as JSON: `{"subject", "same", "peers": [...]}`.
#[must_use]
pub fn json(subject: &Subject, outcomes: &[Outcome], strict: bool) -> Value {
    let subject = match subject {
        Subject::Pid(pid) => json!({ "pid": pid }),
        Subject::Core(path) => json!({ "core": path.display().to_string() }),
    };
    let peers: Vec<Value> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Compared(c) => json!({
                "peer": c.peer.program(),
                "version": c.version,
                "same": c.same(strict),
                "incomplete": c.incomplete,
                "totals": c.totals,
                "differences": c.differences,
            }),
            Outcome::Unavailable { peer, why } => json!({ "peer": peer.program(), "unavailable": why }),
        })
        .collect();
    json!({ "subject": subject, "same": exit_code(outcomes, strict) == 0, "peers": peers })
}

//! A finding while it is being argued.

use crate::case::Case;
use snapshot_format::schema::{Evidence, Finding};

/// How much an attacker might make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Security {
    None,
    Low,
    Medium,
    High,
}

impl Security {
    const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A finding with its grounds.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    finding: Finding,
    grounds: Vec<Evidence>,
}

impl Verdict {
    /// A fatal finding about the context frame, to be filled.
    pub(crate) fn new(case: &Case<'_>, class: &str, confidence: f64) -> Self {
        let frame = (!case.view.frames.is_empty()).then(|| case.view.first_inline());
        Self {
            finding: Finding {
                class: class.to_owned(),
                severity: "fatal".to_owned(),
                security: Security::None.word().to_owned(),
                confidence,
                thread: case.view.thread.map(|t| t.id),
                frame: frame.and_then(|f| u32::try_from(f).ok()),
                text: String::new(),
            },
            grounds: Vec::new(),
        }
    }

    /// A fatal finding about a thread, to be filled.
    pub(crate) fn about(thread: Option<u64>, class: &str, confidence: f64) -> Self {
        Self {
            finding: Finding {
                class: class.to_owned(),
                severity: "fatal".to_owned(),
                security: Security::None.word().to_owned(),
                confidence,
                thread,
                frame: None,
                text: String::new(),
            },
            grounds: Vec::new(),
        }
    }

    pub(crate) fn class(&self) -> &str {
        &self.finding.class
    }

    pub(crate) const fn confidence(&self) -> f64 {
        self.finding.confidence
    }

    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        self.finding.text = text.into();
        self
    }

    pub(crate) fn severity(mut self, word: &str) -> Self {
        word.clone_into(&mut self.finding.severity);
        self
    }

    /// The frame to look at, when it is not the innermost.
    pub(crate) fn frame(mut self, frame: Option<usize>) -> Self {
        if let Some(frame) = frame.and_then(|f| u32::try_from(f).ok()) {
            self.finding.frame = Some(frame);
        }
        self
    }

    /// The security relevance and its reason, which becomes a row of its own.
    pub(crate) fn security(mut self, level: Security, reason: &str) -> Self {
        level.word().clone_into(&mut self.finding.security);
        self.because(format!("security: {} ({reason})", level.word()))
    }

    /// An observation for it.
    pub(crate) fn because(self, text: impl Into<String>) -> Self {
        self.ground(false, text.into())
    }

    /// An observation against it.
    pub(crate) fn but(self, text: impl Into<String>) -> Self {
        self.ground(true, text.into())
    }

    pub(crate) fn because_if(self, text: Option<String>) -> Self {
        match text {
            Some(text) => self.because(text),
            None => self,
        }
    }

    pub(crate) fn but_if(self, text: Option<String>) -> Self {
        match text {
            Some(text) => self.but(text),
            None => self,
        }
    }

    /// Takes some confidence away (or adds some).
    pub(crate) fn adjust(mut self, by: f64) -> Self {
        self.finding.confidence = (self.finding.confidence + by).clamp(0.01, 0.99);
        self
    }

    fn ground(mut self, counter: bool, text: String) -> Self {
        self.grounds.push(Evidence { finding: 0, counter, text });
        self
    }

    /// The rows.
    pub(crate) fn rows(mut self) -> (Finding, Vec<Evidence>) {
        // Sums of confidences would show as 0.8500000000000001.
        self.finding.confidence = (self.finding.confidence * 100.0).round() / 100.0;
        (self.finding, self.grounds)
    }
}

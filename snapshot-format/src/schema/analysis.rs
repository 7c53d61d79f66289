//! What the analysis concluded, and what is doubtful.

/// A verdict with its grounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// One of the classes of the command line's contract, such as `null-deref`.
    pub class: String,
    /// `fatal`, `error`, `warning` or `info`.
    pub severity: String,
    /// `none`, `low`, `medium` or `high`.
    pub security: String,
    /// From 0 to 1.
    pub confidence: f64,
    /// Thread id.
    pub thread: Option<u64>,
    /// Frame index within the thread's stack.
    pub frame: Option<u32>,
    /// One or two sentences for a person.
    pub text: String,
}

/// A ground for or against a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Row of the finding.
    pub finding: u32,
    /// Whether it speaks against the finding.
    pub counter: bool,
    /// The observation.
    pub text: String,
}

/// Identifies the bug.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Hexadecimal digest.
    pub value: String,
    /// The normalised frames it was made from.
    pub frames: Vec<String>,
}

/// Something failed or looked wrong, and the capture went on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// Short stable key.
    pub what: String,
    /// Address it is about.
    pub address: Option<u64>,
    /// Explanation.
    pub why: String,
}

//! Linux: what the log reports, and what it adds up to.

mod arm;
mod memory;
mod parse;
mod report;
mod title;
mod verdict;

pub(crate) use memory::CHANGED_BY_MEMORY;
pub(crate) use parse::reports;
pub(crate) use report::{Kind, Report, TraceLine};
pub(crate) use verdict::{culprit_of, judge, logged_class};

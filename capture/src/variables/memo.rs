//! Answers that depend on the program alone, kept for the other threads and frames that ask the same.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

/// Most answers of one kind: what a program is asked about is bounded by its code, not by its threads.
const LIMIT_ANSWERS: usize = 100_000;

/// Answers by question.
#[derive(Debug)]
pub(super) struct Memo<K, V>(RwLock<HashMap<K, V>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    /// The known answer, or that of `find`. Two who ask at once both find it.
    pub(super) fn get(&self, question: K, find: impl FnOnce() -> V) -> V {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&question) {
            return known.clone();
        }
        let answer = find();
        let mut answers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if answers.len() < LIMIT_ANSWERS {
            answers.insert(question, answer.clone());
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_once() {
        let memo = Memo::default();
        assert_eq!(memo.get(1, || "one"), "one");
        assert_eq!(memo.get(1, || "two"), "one");
        assert_eq!(memo.get(2, || "two"), "two");
    }
}

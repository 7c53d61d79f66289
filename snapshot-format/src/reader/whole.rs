//! A whole snapshot, table by table, with its references checked.

use std::io::{Read, Seek};

use super::assemble::{Loaded, Numbers};
use super::groups::Budget;
use super::references::{fix, fix_evidence, fix_frames, fix_stacks, fix_variables, mark_threads};
use super::{ReadOptions, Reader};
use crate::doubts::INVALID;
use crate::row::Row;
use crate::schema::{Fingerprint, MemoryExtent, Snapshot};
use crate::tables::{FingerprintFrame, FingerprintValue};

impl<R: Read + Seek> Reader<R> {
    /// Reads what the options ask for. What is missing or wrong is among the [`doubts`](Self::doubts) afterwards.
    pub fn snapshot(&mut self, options: &ReadOptions) -> Snapshot {
        let mut rows = Budget::new(options.row_budget);
        let mut blobs = Budget::new(options.memory_budget);
        let mut snapshot = Snapshot::default();
        if let Some(identity) = self.single(options, &mut rows) {
            snapshot.identity = identity;
        }
        snapshot.event = self.single(options, &mut rows);
        snapshot.fingerprint = self.fingerprint(options, &mut rows);

        let findings;
        (snapshot.findings, findings) = self.numbered(options, &mut rows);
        snapshot.evidence = self.plain(options, &mut rows);
        fix_evidence(&mut snapshot.evidence, findings.as_ref(), &mut self.doubts);

        let (modules, frames, stacks);
        (snapshot.modules, modules) = self.numbered(options, &mut rows);
        (snapshot.frames, frames) = self.numbered(options, &mut rows);
        (snapshot.stacks, stacks) = self.numbered(options, &mut rows);
        snapshot.threads = self.plain(options, &mut rows);
        fix_frames(&mut snapshot.frames, modules.as_ref(), &mut self.doubts);
        let cut = fix_stacks(&mut snapshot.stacks, frames.as_ref(), &mut self.doubts);
        for (row, thread) in snapshot.threads.iter_mut().enumerate() {
            fix(&mut thread.stack, stacks.as_ref(), "threads.stack", row, &mut self.doubts);
        }
        mark_threads(&mut snapshot.threads, &cut);

        snapshot.doubts = self.plain(options, &mut rows);
        snapshot.attributes = self.plain(options, &mut rows);
        snapshot.registers = self.plain(options, &mut rows);
        let variables;
        (snapshot.variables, variables) = self.numbered(options, &mut rows);
        if let Some(variables) = variables {
            fix_variables(&mut snapshot.variables, &variables, &mut self.doubts);
        }
        snapshot.mappings = self.plain(options, &mut rows);
        snapshot.log = self.plain(options, &mut rows);
        snapshot.files = self.plain(options, &mut rows);
        snapshot.tasks = self.plain(options, &mut rows);
        for (row, task) in snapshot.tasks.iter_mut().enumerate() {
            fix(&mut task.stack, stacks.as_ref(), "tasks.stack", row, &mut self.doubts);
        }
        snapshot.notes = self.with_blobs(options, &mut rows, &mut blobs);
        snapshot.attachments = self.with_blobs(options, &mut rows, &mut blobs);
        if options.wants(MemoryExtent::NAME) {
            snapshot.memory = self.load_memory(options.memory, &mut rows, &mut blobs);
        }
        snapshot
    }

    fn loaded<T: Row>(&mut self, options: &ReadOptions, budget: &mut Budget) -> Option<Loaded<T>> {
        options.wants(T::NAME).then(|| self.load(true, budget))
    }

    fn plain<T: Row>(&mut self, options: &ReadOptions, budget: &mut Budget) -> Vec<T> {
        self.loaded(options, budget).unwrap_or_default().rows
    }

    fn numbered<T: Row>(&mut self, options: &ReadOptions, budget: &mut Budget) -> (Vec<T>, Option<Numbers>) {
        match self.loaded(options, budget).map(Loaded::split) {
            Some((rows, numbers)) => (rows, Some(numbers)),
            None => (Vec::new(), None),
        }
    }

    fn with_blobs<T: Row>(&mut self, options: &ReadOptions, rows: &mut Budget, blobs: &mut Budget) -> Vec<T> {
        let mut loaded = self.loaded(options, rows).unwrap_or_default();
        self.fill_blobs(&mut loaded, blobs);
        loaded.rows
    }

    /// The row of a table that has at most one.
    fn single<T: Row>(&mut self, options: &ReadOptions, budget: &mut Budget) -> Option<T> {
        let rows = self.plain::<T>(options, budget);
        if rows.len() > 1 {
            self.doubts
                .push(INVALID, format!("{} has {} rows where one is expected: the first is used", T::NAME, rows.len()));
        }
        rows.into_iter().next()
    }

    fn fingerprint(&mut self, options: &ReadOptions, budget: &mut Budget) -> Option<Fingerprint> {
        let value = self.single::<FingerprintValue>(options, budget)?.value;
        let frames = options.wants(FingerprintValue::NAME).then(|| self.load::<FingerprintFrame>(true, budget));
        let frames = frames.unwrap_or_default().rows.into_iter().map(|frame| frame.text).collect();
        Some(Fingerprint { value, frames })
    }
}

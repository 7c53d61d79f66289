//! Fakes for tests: a memory and a target built in the test, and a decorator that fails the n-th read.

mod fake;
mod faulty;

pub use fake::{FakeMemory, FakeTarget};
pub use faulty::{Faulty, FaultyTarget};

//! Real processes, stopped and let go.
#![cfg(target_os = "linux")]

mod common;
mod shapes;
mod stress;

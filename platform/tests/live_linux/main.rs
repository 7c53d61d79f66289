//! Real processes, stopped and let go.
#![cfg(target_os = "linux")]

mod common;
#[cfg(target_arch = "x86_64")]
mod fork;
mod shapes;
mod stress;

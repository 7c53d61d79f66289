//! Minidumps through the whole pipeline: every shared dump against two other tools, the defects of those tools, the
//! security table of the documentation, and damaged files.

#[allow(dead_code, reason = "it is for tests of unwinding too")]
#[path = "../../unwind/tests/machine/mod.rs"]
mod machine;
#[path = "minidumps/support.rs"]
mod support;
#[path = "minidumps/synth.rs"]
mod synth;

#[path = "minidumps/damage.rs"]
mod damage;
#[path = "minidumps/defects.rs"]
mod defects;
#[path = "minidumps/exceptions.rs"]
mod exceptions;
#[path = "minidumps/frames.rs"]
mod frames;
#[path = "minidumps/native.rs"]
mod native;
#[path = "minidumps/processors.rs"]
mod processors;
#[path = "minidumps/reasons.rs"]
mod reasons;
#[path = "minidumps/security.rs"]
mod security;
#[path = "minidumps/shadow_stack.rs"]
mod shadow_stack;
#[path = "minidumps/speed.rs"]
mod speed;

//! Our variables of a core, without any backend.

use super::core;
use capture::VariableOptions;
use capture::variables::{Collector, FrameContext, Variable};
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Doubts, Target as _};
use std::path::Path;

/// A source frame of ours: pc, function, variables.
pub type OurFrame = (u64, Option<String>, Vec<Variable>);

/// Our variables: per thread (id), per source frame.
pub fn variables(core: &Path, options: &VariableOptions) -> Vec<(u64, Vec<OurFrame>)> {
    let target = core::read(core);
    let doubts = Doubts::new();
    let modules = Modules::outline(&target, target.memory(), &Locator::default(), &doubts);
    let info = DebugInfo::new(&modules, &doubts);
    let collector = Collector::new(&info, target.memory(), options.clone());
    let mut threads = Vec::new();
    for thread in &target.threads {
        let stack = unwind::unwind(&thread.registers, target.memory(), &info, &unwind::Limits::default());
        let mut frames = Vec::new();
        for (index, frame) in stack.frames.iter().enumerate() {
            let found = modules.find(frame.lookup());
            let sources = found.map_or_else(Vec::new, |(m, image)| info.resolve(m, image.to_svma(frame.lookup())));
            if sources.is_empty() {
                frames.push((frame.pc.0, None, Vec::new()));
            }
            for (source, s) in sources.iter().enumerate() {
                let module = found.map_or(0, |(m, _)| m);
                let at = FrameContext { frames: &stack.frames, index, sources: &sources, source, module };
                frames.push((frame.pc.0, s.function.as_deref().map(str::to_owned), collector.frame(&at)));
            }
        }
        threads.push((thread.id.0, frames));
    }
    threads
}

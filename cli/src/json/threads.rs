//! Threads, frames and registers of the document.

use super::variables::{VariableJson, root_variables};
use super::{Hex, HexBytes};
use crate::view::View;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use snapshot_format::schema;

pub(super) struct Threads<'v>(pub &'v View<'v>);

impl Serialize for Threads<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.snapshot.threads.iter().map(|t| Thread::new(self.0, t)))
    }
}

#[derive(Serialize)]
struct Thread<'v> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'v str>,
    faulting: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_channel: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_call: Option<u64>,
    context: &'v str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    same_stack_as: Option<u64>,
    registers: RegisterMap<'v>,
    frames: Vec<Frame<'v>>,
}

impl<'v> Thread<'v> {
    fn new(view: &'v View<'v>, t: &'v schema::Thread) -> Self {
        let frames = view.frames(t);
        Self {
            id: t.id,
            name: t.name.as_deref(),
            faulting: t.faulting,
            state: t.state.as_deref(),
            wait_channel: t.wait_channel.as_deref(),
            system_call: t.system_call,
            context: &t.context,
            cpu: t.cpu,
            pid: t.process.or(view.snapshot.identity.pid),
            truncated: t.truncated.as_deref(),
            same_stack_as: view.same_stack_as(t),
            registers: RegisterMap(view.registers(t.id, view.first_physical(frames))),
            frames: (0_u32..).zip(frames).map(|(index, f)| Frame::new(view, t.id, index, f)).collect(),
        }
    }
}

/// Register values in the order of their rows, as an object.
struct RegisterMap<'v>(&'v [schema::RegisterValue]);

impl Serialize for RegisterMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for r in self.0 {
            map.serialize_entry(&r.name, &Hex(r.value))?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Frame<'v> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pc: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linkage_name: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<HexBytes<'v>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module_offset: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'v str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u64>,
    inline: bool,
    trust: &'static str,
    suspect: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    signal_frame: bool,
    variables: Vec<VariableJson<'v>>,
}

impl<'v> Frame<'v> {
    fn new(view: &'v View<'v>, thread: u64, index: u32, f: &'v schema::Frame) -> Self {
        let module = view.module(f);
        Self {
            index,
            pc: view.knows_addresses().then_some(Hex(f.pc)),
            function: f.function.as_deref(),
            linkage_name: f.linkage_name.as_deref(),
            offset: f.offset,
            module: module.map(|m| m.path.as_str()),
            build_id: module.and_then(|m| m.build_id.as_deref()).map(HexBytes),
            module_offset: f.module_offset.map(Hex),
            file: f.file.as_deref(),
            line: f.line,
            column: f.column,
            inline: f.inline,
            trust: f.trust.word(),
            suspect: f.suspect,
            signal_frame: f.signal_frame,
            variables: root_variables(view, Some(thread), Some(index)),
        }
    }
}

//! What CTF gives: variables by their names, and arguments that were saved when a function was entered.

use super::build::Builder;
use super::{Collector, Variable};
use debuginfo::ctf::type_id;
use debuginfo::eval::Place;
use evidence::{Addr, Svma};
use snapshot_format::schema::VariableKind;

/// Most variables of one name: statics of different files may share it.
const LIMIT_OBJECTS: usize = 256;

/// The variables of a module that have this name.
pub(super) fn objects(collector: &Collector<'_, '_>, module: usize, name: &str) -> Vec<Variable> {
    let info = collector.types.info();
    let Some((image, types)) = info.module(module).and_then(|m| Some((m, m.types()?))) else { return Vec::new() };
    let found = types.objects(name).take(LIMIT_OBJECTS);
    found
        .map(|(at, id)| {
            let place = Place::Memory(image.to_addr(at).0);
            Builder::new(collector, None, module).stated(name, VariableKind::Global, type_id(module, id), &place)
        })
        .collect()
}

/// The arguments of the function at `start` of `module`, by where they were saved. Their order is that of the registers
/// only where each takes one of those for integers, and none is there for the result.
pub(super) fn arguments(
    collector: &Collector<'_, '_>,
    (module, start): (usize, Svma),
    saved: &[(Addr, u64)],
) -> Vec<Variable> {
    let Some(types) = collector.types.info().module(module).and_then(|m| m.types()) else { return Vec::new() };
    let Some(prototype) = types.prototype(start) else { return Vec::new() };
    let plain = prototype.arguments.iter().all(|id| types.ctf().is_integral(*id));
    // More saved than there are is another function's, or the prototype is.
    let too_many = saved.len() > prototype.arguments.len() && !prototype.variadic;
    if !plain || too_many || !types.ctf().is_returned_in_registers(prototype.returns) {
        return Vec::new();
    }
    let known = prototype.arguments.iter().zip(saved).enumerate();
    let argument = |(n, (id, (at, _))): (usize, (&debuginfo::ctf::CtfId, &(Addr, u64)))| {
        let name = format!("arg{}", n.saturating_add(1));
        let place = Place::Memory(at.0);
        Builder::new(collector, None, module).stated(&name, VariableKind::Parameter, type_id(module, *id), &place)
    };
    known.map(argument).collect()
}

//! Addresses of thread-local variables.

use super::Collector;
use debuginfo::eval::Missing;
use evidence::Addr;

pub(super) fn address(
    collector: &Collector<'_, '_>,
    module: usize,
    thread_pointer: Option<Addr>,
    offset: u64,
) -> Result<u64, Missing> {
    let _ = (collector, module, thread_pointer, offset);
    Err(Missing::Tls("the module's TLS block is not located"))
}

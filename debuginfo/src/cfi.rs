//! Call frame information of one module.

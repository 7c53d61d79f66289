//! What a source holds, worked out with debug information where evidence alone does not say.

pub(crate) mod kernel;

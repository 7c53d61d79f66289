//! Running Linux processes, stopped through `ptrace`, read through `process_vm_readv` and described by `/proc`.

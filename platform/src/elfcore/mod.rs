//! ELF cores of user programs, in the dialects of the systems that write them.

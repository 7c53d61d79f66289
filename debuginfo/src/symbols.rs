//! ELF symbol tables: which function an address lies in when there is no DWARF.

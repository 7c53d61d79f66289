//! A writer of CTF containers, versions 2 and 3.
//!
//! It writes what it is told, field by field, as `sys/ctf.h` lays it out: type ids are handed out in order, and a
//! container with a parent numbers its own from the upper half.

use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::io::Write as _;

/// A type's id.
pub type Id = u32;

/// A container in the making.
#[derive(Debug, Clone)]
pub struct CtfWriter {
    version: u8,
    parent: Option<String>,
    compress: bool,
    big_endian: bool,
    objects: Vec<u8>,
    functions: Vec<u8>,
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl CtfWriter {
    /// An empty container of version 2 or 3, little-endian and not compressed.
    #[must_use]
    pub fn new(version: u8) -> Self {
        Self {
            version,
            parent: None,
            compress: false,
            big_endian: false,
            objects: Vec::new(),
            functions: Vec::new(),
            types: Vec::new(),
            strings: vec![0],
            count: 0,
        }
    }

    /// With a parent of this name. Before the first type.
    #[must_use]
    pub fn child_of(mut self, parent: &str) -> Self {
        self.parent = Some(parent.to_owned());
        self
    }

    /// With zlib compression after the header.
    #[must_use]
    pub fn compressed(mut self) -> Self {
        self.compress = true;
        self
    }

    /// In big-endian order. Before the first type.
    #[must_use]
    pub fn big_endian(mut self) -> Self {
        self.big_endian = true;
        self
    }

    fn put16(&self, to: &mut Vec<u8>, value: u32) {
        let value = value as u16;
        to.extend(if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn put32(&self, to: &mut Vec<u8>, value: u32) {
        to.extend(if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn put_id(&self, to: &mut Vec<u8>, value: u32) {
        if self.version == 2 { self.put16(to, value) } else { self.put32(to, value) }
    }

    /// A name's place in the string table.
    pub fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn info(&self, kind: u32, root: bool, count: usize) -> u32 {
        let count = count as u32;
        let (shift, root_bit) = if self.version == 2 { (11, 10) } else { (26, 25) };
        kind << shift | u32::from(root) << root_bit | count
    }

    /// A record: `size` is a size or the id of another type.
    fn record(&mut self, name: u32, kind: u32, root: bool, count: usize, size: u64, data: &[u8]) -> Id {
        let mut out = Vec::new();
        self.put32(&mut out, name);
        let info = self.info(kind, root, count);
        self.put_id(&mut out, info);
        let most = if self.version == 2 { 0xfffe } else { 0xffff_fffe };
        if size > most {
            self.put_id(&mut out, u32::MAX);
            self.put32(&mut out, (size >> 32) as u32);
            self.put32(&mut out, size as u32);
        } else {
            self.put_id(&mut out, size as u32);
        }
        out.extend(data);
        self.types.extend(out);
        self.count += 1;
        let bit = if self.version == 2 { 0x8000 } else { 0x8000_0000 };
        if self.parent.is_some() { self.count | bit } else { self.count }
    }

    /// An integer type of so many bits in so many bytes.
    pub fn integer(&mut self, name: &str, signed: bool, bits: u32, size: u64) -> Id {
        self.number(1, name, u32::from(signed), bits, size)
    }

    /// A `char`, as illumos writes it.
    pub fn character(&mut self, name: &str, signed: bool) -> Id {
        self.number(1, name, u32::from(signed) | 2, 8, 1)
    }

    /// A floating-point type of one of the formats `CTF_FP_*`.
    pub fn float(&mut self, name: &str, format: u32, size: u64) -> Id {
        self.number(2, name, format, size as u32 * 8, size)
    }

    fn number(&mut self, kind: u32, name: &str, format: u32, bits: u32, size: u64) -> Id {
        let mut data = Vec::new();
        self.put32(&mut data, format << 24 | bits);
        let name = self.name(name);
        // Types of bit fields have the name of their integer and are hidden.
        self.record(name, kind, u64::from(bits) == size * 8, 0, size, &data)
    }

    /// A pointer.
    pub fn pointer(&mut self, to: Id) -> Id {
        self.record(0, 3, true, 0, u64::from(to), &[])
    }

    /// An array of `count` elements.
    pub fn array(&mut self, of: Id, index: Id, count: u32) -> Id {
        let mut data = Vec::new();
        self.put_id(&mut data, of);
        self.put_id(&mut data, index);
        self.put32(&mut data, count);
        self.record(0, 4, true, 0, 0, &data)
    }

    /// A structure: members with their types and offsets in bits.
    pub fn structure(&mut self, name: &str, size: u64, members: &[(&str, Id, u64)]) -> Id {
        self.compound(6, name, true, size, members)
    }

    /// A structure that only its own unit sees.
    pub fn hidden_structure(&mut self, name: &str, size: u64, members: &[(&str, Id, u64)]) -> Id {
        self.compound(6, name, false, size, members)
    }

    /// A union: as a structure.
    pub fn union(&mut self, name: &str, size: u64, members: &[(&str, Id, u64)]) -> Id {
        self.compound(7, name, true, size, members)
    }

    fn compound(&mut self, kind: u32, name: &str, root: bool, size: u64, members: &[(&str, Id, u64)]) -> Id {
        let large = size >= if self.version == 2 { 1 << 13 } else { 1 << 29 };
        let mut data = Vec::new();
        for (name, ty, offset) in members {
            let name = self.name(name);
            self.put32(&mut data, name);
            self.put_id(&mut data, *ty);
            if large {
                if self.version == 2 {
                    self.put16(&mut data, 0);
                }
                self.put32(&mut data, (offset >> 32) as u32);
                self.put32(&mut data, *offset as u32);
            } else {
                self.put_id(&mut data, *offset as u32);
            }
        }
        let name = self.name(name);
        self.record(name, kind, root, members.len(), size, &data)
    }

    /// An enumeration.
    pub fn enumeration(&mut self, name: &str, values: &[(&str, i32)]) -> Id {
        let mut data = Vec::new();
        for (name, value) in values {
            let name = self.name(name);
            self.put32(&mut data, name);
            self.put32(&mut data, value.cast_unsigned());
        }
        let name = self.name(name);
        self.record(name, 8, true, values.len(), 4, &data)
    }

    /// A declaration without a definition.
    pub fn forward(&mut self, name: &str) -> Id {
        let name = self.name(name);
        self.record(name, 9, true, 0, 0, &[])
    }

    /// A typedef.
    pub fn typedef(&mut self, name: &str, to: Id) -> Id {
        let name = self.name(name);
        self.record(name, 10, true, 0, u64::from(to), &[])
    }

    /// A `const`.
    pub fn constant(&mut self, to: Id) -> Id {
        self.record(0, 12, true, 0, u64::from(to), &[])
    }

    /// The type of a function.
    pub fn function(&mut self, returns: Id, arguments: &[Id]) -> Id {
        let mut data = Vec::new();
        for argument in arguments {
            self.put_id(&mut data, *argument);
        }
        data.resize(data.len().next_multiple_of(4), 0);
        self.record(0, 5, true, arguments.len(), u64::from(returns), &data)
    }

    /// A record as it is, for what nobody should write.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.types.extend(bytes);
        self.count += 1;
    }

    /// The row of the next function symbol; `None`: nobody knows its type. A last argument 0 says "and more".
    pub fn function_row(&mut self, prototype: Option<(Id, &[Id])>) {
        let mut row = Vec::new();
        match prototype {
            None => self.put_id(&mut row, 0),
            Some((returns, arguments)) => {
                self.put_id(&mut row, self.info(5, true, arguments.len()));
                self.put_id(&mut row, returns);
                for argument in arguments {
                    self.put_id(&mut row, *argument);
                }
            }
        }
        self.functions.extend(row);
    }

    /// The row of the next object symbol.
    pub fn object_row(&mut self, ty: Id) {
        let mut row = Vec::new();
        self.put_id(&mut row, ty);
        self.objects.extend(row);
    }

    /// The container's bytes.
    ///
    /// # Panics
    /// Never: it writes to memory.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let parent = match self.parent.clone() {
            Some(parent) => self.name(&parent),
            None => 0,
        };
        self.objects.resize(self.objects.len().next_multiple_of(4), 0);
        self.functions.resize(self.functions.len().next_multiple_of(4), 0);
        let mut out = Vec::new();
        self.put16(&mut out, 0xcff1);
        out.extend([self.version, u8::from(self.compress)]);
        let functions = self.objects.len();
        let types = functions + self.functions.len();
        let strings = types + self.types.len();
        for field in [0, parent as usize, 0, 0, functions, types, strings, self.strings.len()] {
            self.put32(&mut out, field as u32);
        }
        let body = [self.objects, self.functions, self.types, self.strings].concat();
        if self.compress {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&body).expect("memory takes everything");
            out.extend(encoder.finish().expect("memory takes everything"));
        } else {
            out.extend(body);
        }
        out
    }
}

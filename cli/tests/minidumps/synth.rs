//! Minidumps made from nothing: only what a test needs, in the layouts of minidumpapiset.h.

pub const X86: u16 = 0;
pub const AMD64: u16 = 9;
pub const ARM64: u16 = 12;
pub const WINDOWS: u32 = 2;
pub const MACOS: u32 = 0x8101;
pub const LINUX: u32 = 0x8201;

pub struct SynthThread {
    pub id: u32,
    pub context: Vec<u8>,
    pub stack: (u64, Vec<u8>),
}

#[derive(Default)]
pub struct Exception {
    pub thread: u32,
    pub code: u32,
    pub flags: u32,
    pub address: u64,
    pub parameters: Vec<u64>,
}

#[derive(Default)]
pub struct Synth {
    pub processor: u16,
    pub platform: u32,
    pub version: [u32; 3],
    pub threads: Vec<SynthThread>,
    pub exception: Option<Exception>,
    pub memory: Vec<(u64, Vec<u8>)>,
    pub modules: Vec<(u64, u32, &'static str)>,
    /// Time stamp and CodeView record of each module, where it has them.
    pub identities: Vec<(u32, Vec<u8>)>,
    pub maps: Option<String>,
}

struct Out {
    bytes: Vec<u8>,
    directory: Vec<(u32, u32, u32)>,
}

impl Out {
    fn here(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap()
    }
    fn blob(&mut self, bytes: &[u8]) -> (u32, u32) {
        let at = self.here();
        self.bytes.extend(bytes);
        (u32::try_from(bytes.len()).unwrap(), at)
    }
    fn stream(&mut self, kind: u32, bytes: &[u8]) {
        let (size, rva) = self.blob(bytes);
        self.directory.push((kind, size, rva));
    }
    fn string(&mut self, text: &str) -> u32 {
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let at = self.here();
        self.bytes.extend(u32::try_from(units.len()).unwrap().to_le_bytes());
        self.bytes.extend(units);
        at
    }
}

fn words(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|w| w.to_le_bytes()).collect()
}

impl Synth {
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Out { bytes: vec![0; 32 + 12 * 8], directory: Vec::new() };
        let mut system = vec![0_u8; 56];
        system[..2].copy_from_slice(&self.processor.to_le_bytes());
        system[8..20].copy_from_slice(&words(&self.version));
        system[20..24].copy_from_slice(&self.platform.to_le_bytes());
        out.stream(7, &system);

        let mut threads = words(&[u32::try_from(self.threads.len()).unwrap()]);
        let mut memory: Vec<(u64, u32, u32)> = Vec::new();
        for t in &self.threads {
            let (stack_size, stack_at) = out.blob(&t.stack.1);
            let (context_size, context_at) = out.blob(&t.context);
            memory.push((t.stack.0, stack_size, stack_at));
            threads.extend(words(&[t.id, 0, 0, 0, 0, 0]));
            threads.extend(t.stack.0.to_le_bytes());
            threads.extend(words(&[stack_size, stack_at, context_size, context_at]));
        }
        out.stream(3, &threads);
        for (start, bytes) in &self.memory {
            let (size, at) = out.blob(bytes);
            memory.push((*start, size, at));
        }
        let mut list = words(&[u32::try_from(memory.len()).unwrap()]);
        for (start, size, at) in memory {
            list.extend(start.to_le_bytes());
            list.extend(words(&[size, at]));
        }
        out.stream(5, &list);
        let mut modules = words(&[u32::try_from(self.modules.len()).unwrap()]);
        for (n, (base, size, name)) in self.modules.iter().enumerate() {
            let name = out.string(name);
            let (time, record) = self.identities.get(n).cloned().unwrap_or_default();
            let (record_size, record_at) = out.blob(&record);
            modules.extend(base.to_le_bytes());
            modules.extend(words(&[*size, 0, time, name]));
            modules.extend(vec![0; 52]);
            modules.extend(words(&[record_size, record_at]));
            modules.extend(vec![0; 24]);
        }
        out.stream(4, &modules);
        if let Some(e) = &self.exception {
            let mut s = words(&[e.thread, 0, e.code, e.flags, 0, 0]);
            s.extend(e.address.to_le_bytes());
            s.extend(words(&[u32::try_from(e.parameters.len()).unwrap(), 0]));
            for n in 0..15 {
                s.extend(e.parameters.get(n).copied().unwrap_or(0).to_le_bytes());
            }
            s.extend([0; 8]);
            out.stream(6, &s);
        }
        if let Some(maps) = &self.maps {
            out.stream(0x4767_0009, maps.as_bytes());
        }
        let count = u32::try_from(out.directory.len()).unwrap();
        out.bytes[..16].copy_from_slice(&words(&[0x504d_444d, 0xa793, count, 32]));
        for (n, (kind, size, rva)) in out.directory.iter().enumerate() {
            out.bytes[32 + 12 * n..44 + 12 * n].copy_from_slice(&words(&[*kind, *size, *rva]));
        }
        out.bytes
    }

    pub fn write(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.bytes()).unwrap();
        file
    }
}

/// A CodeView record of a debug id (GUID and age) and a file's name.
pub fn codeview(id: &str, name: &str) -> Vec<u8> {
    let byte = |n: usize| u8::from_str_radix(&id[2 * n..2 * n + 2], 16).unwrap();
    let mut record = b"RSDS".to_vec();
    record.extend([3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map(byte));
    record.extend(u32::from_str_radix(&id[32..], 16).unwrap().to_le_bytes());
    record.extend(name.as_bytes());
    record.push(0);
    record
}

/// An x86-64 context of `size` bytes: (offset, value) pairs of winnt.h's CONTEXT.
pub fn amd64(size: usize, values: &[(usize, u64)]) -> Vec<u8> {
    let mut bytes = vec![0_u8; size];
    bytes[0x30..0x34].copy_from_slice(&0x10_000f_u32.to_le_bytes());
    for (at, value) in values {
        bytes[*at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

pub const RBX: usize = 0x90;
pub const RSP: usize = 0x98;
pub const RBP: usize = 0xa0;
pub const RIP: usize = 0xf8;

/// An ARM64 context: x0 to x30, sp, pc by number.
pub fn arm64(values: &[(usize, u64)]) -> Vec<u8> {
    let mut bytes = vec![0_u8; 912];
    bytes[..4].copy_from_slice(&0x40_0007_u32.to_le_bytes());
    for (number, value) in values {
        bytes[8 + number * 8..16 + number * 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// An x86 context: (offset, value).
pub fn x86(values: &[(usize, u32)]) -> Vec<u8> {
    let mut bytes = vec![0_u8; 716];
    bytes[..4].copy_from_slice(&0x1_003f_u32.to_le_bytes());
    for (at, value) in values {
        bytes[*at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

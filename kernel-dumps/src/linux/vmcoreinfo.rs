//! VMCOREINFO: what the dumped kernel says about itself.
//!
//! Source: Documentation/admin-guide/kdump/vmcoreinfo.rst. Lines `KEY=VALUE`; `KERNELOFFSET` is hexadecimal,
//! `NUMBER(..)` decimal and signed (hexadecimal with `0x` for some keys of newer kernels), `SYMBOL(..)` hexadecimal.

/// Largest note accepted. The kernel's own buffer is one page.
pub const LIMIT_VMCOREINFO: usize = 1 << 20;

/// The note's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmcoreInfo {
    lines: Vec<(Box<str>, Box<str>)>,
}

impl VmcoreInfo {
    /// Splits the note's text; lines without `=` are passed over.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let bytes = bytes.get(..bytes.len().min(LIMIT_VMCOREINFO)).unwrap_or_default();
        let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
        let lines = String::from_utf8_lossy(text)
            .lines()
            .filter_map(|l| l.split_once('='))
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        Self { lines }
    }

    /// Whether there are no lines.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The text of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.lines.iter().find(|(k, _)| &**k == key).map(|(_, v)| &**v)
    }

    /// All lines.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|(k, v)| (&**k, &**v))
    }

    /// `SYMBOL(name)`: a kernel virtual address.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.get(&format!("SYMBOL({name})"))?, 16).ok()
    }

    /// `NUMBER(name)`, signed decimal or `0x` hexadecimal, as 64 bits.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        let text = self.get(&format!("NUMBER({name})"))?;
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse::<i64>().map(i64::cast_unsigned).or_else(|_| text.parse()).ok(),
        }
    }

    /// `OFFSET(structure.member)`.
    #[must_use]
    pub fn offset(&self, member: &str) -> Option<u64> {
        self.get(&format!("OFFSET({member})"))?.parse().ok()
    }

    /// `SIZE(structure)`.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.get(&format!("SIZE({name})"))?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_value_has_its_base() {
        let info = VmcoreInfo::parse(
            b"OSRELEASE=6.1.0-56-amd64\nNUMBER(phys_base)=-241172480\nSYMBOL(init_top_pgt)=ffffffffb6a10000\n\
              NUMBER(VMALLOC_START)=0xffff800000000000\nOFFSET(list_head.next)=0\nno equals sign\n\0rest=1\n",
        );
        assert_eq!(info.get("OSRELEASE"), Some("6.1.0-56-amd64"));
        assert_eq!(info.number("phys_base"), Some((-241_172_480_i64).cast_unsigned()));
        assert_eq!(info.number("VMALLOC_START"), Some(0xffff_8000_0000_0000));
        assert_eq!(info.symbol("init_top_pgt"), Some(0xffff_ffff_b6a1_0000));
        assert_eq!(info.offset("list_head.next"), Some(0));
        assert_eq!(info.get("rest"), None);
        assert_eq!(info.iter().count(), 5);
    }
}

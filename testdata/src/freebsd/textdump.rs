//! Text dumps: a ustar archive, and the same as it stands on a device.

/// The archive of these members.
#[must_use]
pub fn archive(members: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, body) in members {
        let mut header = vec![0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, "0000600");
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", body.len()));
        put(136, "14524770000");
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\u{0}00");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(header);
        out.extend(body.as_bytes());
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend([0; 1024]);
    out
}

/// The blocks of an archive in the order of a device: the first one last.
#[must_use]
pub fn on_device(archive: &[u8]) -> Vec<u8> {
    archive.chunks(512).rev().flatten().copied().collect()
}

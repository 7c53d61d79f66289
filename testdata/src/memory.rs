//! How much memory a test has taken.

/// The most memory that this process has had resident so far, in kilobytes (proc(5), `VmHWM`).
///
/// # Panics
/// Where the kernel does not say: a bound that was not looked at must not pass.
#[must_use]
pub fn peak_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status can be read");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("it has VmHWM");
    line.trim().trim_end_matches(" kB").trim().parse().expect("VmHWM is a number of kilobytes")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_touched_counts() {
        let before = super::peak_kilobytes();
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(super::peak_kilobytes() >= (64 << 10).max(before), "{}", touched.len());
    }
}

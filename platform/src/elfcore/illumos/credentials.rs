//! What a process was allowed to do: its saved ids and groups, its privileges, its security flags.
//!
//! Layouts: sys/procfs.h (`prcred_t`, `prpriv_t`, `prsecflags_t`), sys/secflags.h, sys/priv.h; the same in 32-bit programs.

use super::kind;
use evidence::bytes::{Endian, u32_at, u64_at};

/// What a note says, as keys and values of attributes.
type Facts = fn(&[u8], Endian) -> Vec<(&'static str, String)>;

/// The notes that are read here.
pub(super) const NOTES: &[(u32, Facts)] =
    &[(kind::PRCRED, credentials), (kind::PRPRIV, privileges), (kind::SECFLAGS, security_flags)];

/// Most supplementary groups: the kernel's `NGROUPS_OLDMAX` times 64, `NGROUPS_UMAX`.
const LIMIT_GROUPS: u32 = 1024;
/// Most chunks of a set of privileges: the kernel has 3 (some 90 privileges).
const LIMIT_CHUNKS: u32 = 64;
/// The sets in the order of their numbers (`PRIV_EFFECTIVE` to `PRIV_LIMIT`).
const SETS: [&str; 4] = ["effective", "inheritable", "permitted", "limit"];
/// `secflag_t`, by bit.
const FLAGS: [&str; 3] = ["aslr", "forbidnullmap", "noexecstack"];
/// `PRSECFLAGS_VERSION_1`.
const VERSION: u32 = 1;

/// Effective, real and saved user id, the same of the group, and the list of groups. The first ones are in `psinfo_t` too.
fn credentials(b: &[u8], e: Endian) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    for (key, at) in [("process.suid", 8), ("process.sgid", 20)] {
        facts.extend(u32_at(b, at, e).map(|id| (key, id.to_string())));
    }
    if let Some(count) = u32_at(b, 24, e).filter(|n| (1..=LIMIT_GROUPS).contains(n)) {
        let places = (28..).step_by(4).zip(0..count);
        let groups: Vec<String> = places.map_while(|(at, _)| Some(u32_at(b, at, e)?.to_string())).collect();
        // A list that is cut would be a wrong one.
        if u32::try_from(groups.len()) == Ok(count) {
            facts.push(("process.groups", groups.join(" ")));
        }
    }
    facts
}

/// The sets, each as the words of its bits: which bit is which privilege differs from release to release.
fn privileges(b: &[u8], e: Endian) -> Vec<(&'static str, String)> {
    let header = (u32_at(b, 0, e), u32_at(b, 4, e));
    let (Some(sets @ 1..), Some(chunks)) = header else { return Vec::new() };
    if !(1..=LIMIT_CHUNKS).contains(&chunks) {
        return Vec::new();
    }
    let mut places = (12..).step_by(4);
    let mut said = Vec::new();
    for (name, _) in SETS.iter().zip(0..sets) {
        let words: Vec<u32> = (0..chunks).zip(places.by_ref()).map_while(|(_, at)| u32_at(b, at, e)).collect();
        if u32::try_from(words.len()) != Ok(chunks) || words.iter().all(|w| *w == 0) && said.is_empty() {
            break;
        }
        let words: Vec<String> = words.iter().map(|w| format!("{w:08x}")).collect();
        said.push(format!("{name}={}", words.join(":")));
    }
    if said.is_empty() { Vec::new() } else { vec![("process.privileges", said.join(" "))] }
}

/// The effective security flags.
fn security_flags(b: &[u8], e: Endian) -> Vec<(&'static str, String)> {
    if u32_at(b, 0, e) != Some(VERSION) {
        return Vec::new();
    }
    let Some(effective) = u64_at(b, 8, e) else { return Vec::new() };
    let named = FLAGS.iter().zip(0..u64::BITS).filter(|(_, n)| effective >> n & 1 != 0);
    let named: Vec<&str> = named.map(|(name, _)| *name).collect();
    let said = if named.is_empty() { "none".to_owned() } else { named.join(" ") };
    vec![("process.security_flags", said)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    #[test]
    fn credentials_have_saved_ids_and_groups() {
        let facts = credentials(&words(&[0, 101, 102, 10, 11, 12, 2, 10, 65]), Endian::Little);
        let expected = [("process.suid", "102"), ("process.sgid", "12"), ("process.groups", "10 65")];
        assert_eq!(facts.iter().map(|(k, v)| (*k, &**v)).collect::<Vec<_>>(), expected);
        // A list that is cut, and one that no process has.
        for count in [3, 0, u32::MAX] {
            let facts = credentials(&words(&[0, 101, 102, 10, 11, 12, count, 10, 65]), Endian::Little);
            assert_eq!(facts.len(), 2);
        }
    }

    #[test]
    fn privileges_and_flags_are_named() {
        let sets = words(&[4, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0x8000_0000]);
        let facts = privileges(&sets, Endian::Little);
        let expected = "effective=00000001:00000002:00000003 inheritable=00000004:00000005:00000006 \
                        permitted=00000007:00000008:00000009 limit=00000000:00000000:80000000";
        assert_eq!(facts, [("process.privileges", expected.to_owned())]);
        assert!(privileges(&words(&[4, u32::MAX, 0]), Endian::Little).is_empty());
        assert!(privileges(&[0; 100], Endian::Little).is_empty());
        let flags = |version, bits| security_flags(&words(&[version, 0, bits, 0, 0, 0, 0, 0, 7, 0]), Endian::Little);
        assert_eq!(flags(1, 5), [("process.security_flags", "aslr noexecstack".to_owned())]);
        assert_eq!(flags(1, 0), [("process.security_flags", "none".to_owned())]);
        assert!(flags(0, 7).is_empty());
    }
}

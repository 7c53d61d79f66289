//! What stands in front of a kernel's own words in consoles, `dmesg`, `/dev/kmsg`, syslog, journald and quoted mail.

/// What was taken off a line.
#[derive(Default)]
struct Head {
    time: Option<u64>,
    level: Option<u8>,
}

/// A line without what comes before the kernel's own words, its time in nanoseconds since the start, and its severity
/// (0 to 7) where the line says them.
pub(crate) fn without_prefix(text: &str) -> (Option<u64>, Option<u8>, &str) {
    let mut head = Head::default();
    let mut rest = quoted(text.trim_end_matches('\r'));
    rest = record(rest, &mut head);
    rest = priority(rest, &mut head);
    rest = decoded(rest, &mut head);
    rest = syslog(rest);
    rest = stamped(rest, &mut head);
    (head.time, head.level, rest)
}

/// `> > text`: mail.
fn quoted(text: &str) -> &str {
    let mut rest = text;
    while let Some(tail) = rest.trim_start().strip_prefix('>') {
        rest = tail;
    }
    if rest.len() == text.len() { text } else { rest.strip_prefix(' ').unwrap_or(rest) }
}

/// `6,1234,5140900,-,caller=T118;text`: a record of `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg), microseconds.
fn record<'t>(text: &'t str, head: &mut Head) -> &'t str {
    let Some((fields, said)) = text.split_once(';') else { return text };
    let mut fields = fields.split(',');
    let mut number = || fields.next().and_then(|f| f.parse::<u64>().ok());
    let (Some(priority), Some(_), Some(time)) = (number(), number(), number()) else { return text };
    head.level = u8::try_from(priority & 7).ok();
    head.time = time.checked_mul(1000);
    said
}

/// `<4>text`.
fn priority<'t>(text: &'t str, head: &mut Head) -> &'t str {
    if let Some((number, tail)) = text.strip_prefix('<').and_then(|t| t.split_once('>'))
        && let Ok(priority) = number.parse::<u16>()
    {
        head.level = u8::try_from(priority & 7).ok();
        return tail;
    }
    text
}

/// Severities as `dmesg -x` prints them.
const DECODED: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];

/// `kern  :warn  : [    8.855583] text` of `dmesg -x`.
fn decoded<'t>(text: &'t str, head: &mut Head) -> &'t str {
    let mut parts = text.splitn(3, ':');
    let (Some(facility), Some(level), Some(tail)) = (parts.next(), parts.next(), parts.next()) else { return text };
    let Some(level) = DECODED.iter().position(|l| *l == level.trim()) else { return text };
    let word = facility.trim();
    if word.is_empty() || !word.chars().all(|c| c.is_ascii_alphanumeric()) {
        return text;
    }
    head.level = u8::try_from(level).ok();
    tail.strip_prefix(' ').unwrap_or(tail)
}

/// `Nov 23 07:00:00 host kernel: ` and `2026-11-23T07:00:00+0000 host kernel: ` of syslog and journald, and the bare
/// date of `dmesg --time-format iso`.
fn syslog(text: &str) -> &str {
    if let Some((head, tail)) = text.split_once("kernel: ")
        && !head.contains('[')
    {
        return tail;
    }
    let Some((date, tail)) = text.split_once(' ') else { return text };
    let digits = |s: Option<&str>| s.is_some_and(|s| s.chars().all(|c| c.is_ascii_digit()));
    let iso = date.get(10..11) == Some("T") && digits(date.get(..4)) && date.get(4..5) == Some("-");
    if iso { tail } else { text }
}

/// `[    8.855583][  T117] host kernel: text`, `[Mon Nov 23 07:00:00 2026] text`, `[  +0.000012] text`.
fn stamped<'t>(text: &'t str, head: &mut Head) -> &'t str {
    let mut rest = text;
    let mut any = false;
    if let Some((stamp, tail)) = rest.trim_start().strip_prefix('[').and_then(|t| t.split_once(']')) {
        let time = nanoseconds(stamp.trim());
        if time.is_some() || is_difference(stamp.trim()) || is_date(stamp) {
            head.time = time.or(head.time);
            rest = tail;
            any = true;
        }
    }
    // CONFIG_PRINTK_CALLER: `[  T117]`, `[   C1]`.
    if let Some((caller, tail)) = rest.trim_start().strip_prefix('[').and_then(|t| t.split_once(']'))
        && let Some(number) = caller.trim_start().strip_prefix(['T', 'C'])
        && !number.is_empty()
        && number.chars().all(|c| c.is_ascii_digit())
    {
        rest = tail;
        any = true;
    }
    if !any {
        return text;
    }
    rest = rest.strip_prefix(' ').unwrap_or(rest);
    // `journalctl -o short-monotonic`: host and source come after the time.
    match rest.split_once(" kernel: ") {
        Some((host, tail)) if !host.is_empty() && !host.contains(char::is_whitespace) => tail,
        _ => rest,
    }
}

/// `8.855583` in nanoseconds.
fn nanoseconds(stamp: &str) -> Option<u64> {
    let (seconds, fraction) = stamp.split_once('.').filter(|(s, _)| s.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits = fraction.len();
    if digits > 9 || fraction.is_empty() {
        return None;
    }
    let scale = 10_u64.checked_pow(u32::try_from(9_usize.checked_sub(digits)?).ok()?)?;
    let part = fraction.parse::<u64>().ok()?.checked_mul(scale)?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(part)
}

/// `+0.000012`: the time since the line before.
fn is_difference(stamp: &str) -> bool {
    stamp.strip_prefix('+').is_some_and(|s| nanoseconds(s).is_some())
}

/// `Mon Nov 23 07:00:00 2026` of `dmesg -T`, `Nov23 07:00` of `dmesg -H`.
fn is_date(stamp: &str) -> bool {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    stamp.contains(':') && MONTHS.iter().any(|m| stamp.contains(m)) && stamp.len() <= 40
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_all_sorts() {
        let text = "BUG: it";
        for (line, time) in [
            ("[    8.855583] BUG: it", Some(8_855_583_000)),
            ("[    8.855583][  T117] BUG: it", Some(8_855_583_000)),
            ("[    8.855583] [  T117] BUG: it", Some(8_855_583_000)),
            ("[  T118] BUG: it", None),
            ("<4>[12.5] BUG: it", Some(12_500_000_000)),
            ("Nov 23 07:00:00 host kernel: [    1.000001] BUG: it\r", Some(1_000_001_000)),
            ("Nov 23 07:00:00 host kernel: BUG: it", None),
            ("2026-11-23T07:00:00+0000 host kernel: BUG: it", None),
            ("2026-11-23T07:00:00,123456+00:00 BUG: it", None),
            ("[    8.855583] host kernel: BUG: it", Some(8_855_583_000)),
            ("[Mon Nov 23 07:00:00 2026] BUG: it", None),
            ("[Mon Nov 23 07:00:00 2026] [  T118] BUG: it", None),
            ("[Nov23 07:00] BUG: it", None),
            ("[  +0.000012] BUG: it", None),
            ("kern  :warn  : [    8.855583] BUG: it", Some(8_855_583_000)),
            ("kern  :warn  : [Mon Nov 23 07:00:00 2026] BUG: it", None),
            ("4,1234,5140900,-;BUG: it", Some(5_140_900_000)),
            ("4,1234,5140900,-,caller=T118;BUG: it", Some(5_140_900_000)),
            ("> > [    8.855583] BUG: it", Some(8_855_583_000)),
            ("> BUG: it", None),
            ("BUG: it", None),
        ] {
            let (found, _, rest) = without_prefix(line);
            assert_eq!((found, rest), (time, text), "{line}");
        }
        assert_eq!(without_prefix("<3>x"), (None, Some(3), "x"));
        assert_eq!(without_prefix("kern  :err   : [1.0] x"), (Some(1_000_000_000), Some(3), "x"));
        assert_eq!(without_prefix("3,9,1,-;x"), (Some(1000), Some(3), "x"));
        for kept in
            [" [<ffffffff81000000>] f+0x1/0x2", "a;b", "CPU: 0 PID: 1 Comm: sh Not tainted", "RIP: 0010:f+0x1/0x2"]
        {
            assert_eq!(without_prefix(kept), (None, None, kept));
        }
    }
}

//! lzjb, compressing: a table of where three bytes were seen last.

/// Compresses `plain`; `None` when it does not become shorter.
pub(super) fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let mut seen = vec![usize::MAX; 1024];
    let mut out: Vec<u8> = Vec::new();
    let (mut at, mut bit, mut flags) = (0, 8, 0);
    while at < plain.len() {
        if bit == 8 {
            (bit, flags) = (0, out.len());
            out.push(0);
        }
        let mut length = 0;
        let mut distance = 0;
        if plain.len() - at > 66 {
            let key = usize::from(plain[at]) * 33 + usize::from(plain[at + 1]) * 7 + usize::from(plain[at + 2]);
            let before = std::mem::replace(&mut seen[key % 1024], at);
            if before != usize::MAX && at - before < 1024 {
                distance = at - before;
                length = (0..66).take_while(|n| plain[before + n] == plain[at + n]).count();
            }
        }
        if length >= 3 {
            out[flags] |= 1 << bit;
            out.push(u8::try_from((length - 3) << 2 | distance >> 8).unwrap_or(0));
            out.push(u8::try_from(distance & 0xff).unwrap_or(0));
            at += length;
        } else {
            out.push(plain[at]);
            at += 1;
        }
        bit += 1;
    }
    (out.len() < plain.len()).then_some(out)
}

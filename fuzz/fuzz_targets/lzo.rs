//! The LZO decompressor on any bytes: what comes out is never longer than was allowed, nor depends on the limit.
#![no_main]

use kernel_dumps::linux::lzo::decompress;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let short = decompress(bytes, 4096);
    let long = decompress(bytes, 1 << 20);
    if let Ok(out) = &short {
        assert!(out.len() <= 4096);
        assert_eq!(short, long);
    }
    if let Ok(out) = &long {
        assert!(out.len() <= 1 << 20);
        // A byte of input makes 255 of output at most, and a last one.
        assert!(out.len() <= bytes.len() * 256 + 256, "{} bytes of {}", out.len(), bytes.len());
    }
});

//! The data section: pages, blocks of streams, the end mark.

use super::dump::{Compression, Dump};
use super::lzjb;
use bzip2::read::BzEncoder;
use std::io::Read as _;

fn block(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((tag << 20 | u32::try_from(bytes.len()).expect("a block has 20 bits of length")).to_le_bytes());
    out.extend(bytes);
}

fn packed(page: &[u8]) -> Vec<u8> {
    lzjb::compress(page).unwrap_or_else(|| page.to_vec())
}

fn range_header(first: usize, pages: usize) -> Vec<u8> {
    let mut h = b"StrmHdr\0".to_vec();
    h.extend((first as u64).to_le_bytes());
    h.extend((pages as u64).to_le_bytes());
    h
}

/// The whole section with its end mark.
pub(super) fn section(dump: &Dump) -> Vec<u8> {
    let mut out = Vec::new();
    let streamed = match dump.compression {
        Compression::Serial | Compression::Old => 0,
        Compression::Lzjb | Compression::Bzip2 => dump.pages.len() - dump.serial_tail,
    };
    let mut streams: Vec<Vec<Vec<u8>>> = vec![Vec::new(); usize::from(dump.streams)];
    let ranges: Vec<(usize, usize)> =
        (0..streamed).step_by(dump.range).map(|first| (first, dump.range.min(streamed - first))).collect();
    for (s, blocks) in streams.iter_mut().enumerate() {
        let own = ranges.iter().enumerate().skip(s).step_by(usize::from(dump.streams));
        let own = own.filter(|(n, _)| !dump.absent.contains(n)).map(|(_, range)| range);
        if dump.compression == Compression::Lzjb {
            lzjb_blocks(dump, own, blocks);
        } else {
            bzip2_blocks(dump, own, blocks);
        }
    }
    let most = streams.iter().map(Vec::len).max().unwrap_or(0);
    for n in 0..most {
        for (s, blocks) in streams.iter().enumerate() {
            if let Some(bytes) = blocks.get(n) {
                block(s as u32 + 1, bytes, &mut out);
            }
        }
    }
    for (_, page) in &dump.pages[streamed..] {
        block(0, &packed(page), &mut out);
    }
    out.extend([0; 4]);
    out
}

/// Objects are never split; a new range begins a new block only when `blocks_per_range` says so.
fn lzjb_blocks<'r>(dump: &Dump, ranges: impl Iterator<Item = &'r (usize, usize)>, blocks: &mut Vec<Vec<u8>>) {
    let mut open: Vec<u8> = Vec::new();
    for (first, pages) in ranges {
        if dump.blocks_per_range && !open.is_empty() {
            blocks.push(std::mem::take(&mut open));
        }
        let mut objects = vec![range_header(*first, *pages)];
        for (_, page) in &dump.pages[*first..first + pages] {
            let data = packed(page);
            let mut object = (data.len() as u32).to_le_bytes().to_vec();
            object.extend(data);
            objects.push(object);
        }
        for object in objects {
            if open.len() + object.len() > dump.block {
                blocks.push(std::mem::take(&mut open));
            }
            open.extend(object);
        }
    }
    if !open.is_empty() {
        blocks.push(open);
    }
}

fn bzip2_blocks<'r>(dump: &Dump, ranges: impl Iterator<Item = &'r (usize, usize)>, blocks: &mut Vec<Vec<u8>>) {
    let mut plain = Vec::new();
    let flush = |plain: &mut Vec<u8>, blocks: &mut Vec<Vec<u8>>| {
        let mut packed = Vec::new();
        BzEncoder::new(&plain[..], bzip2::Compression::new(1)).read_to_end(&mut packed).expect("memory does not fail");
        blocks.extend(packed.chunks(dump.block).map(<[u8]>::to_vec));
        plain.clear();
    };
    for (first, pages) in ranges {
        plain.extend(range_header(*first, *pages));
        for (_, page) in &dump.pages[*first..first + pages] {
            plain.extend(page);
        }
        if dump.blocks_per_range {
            flush(&mut plain, blocks);
        }
    }
    if !plain.is_empty() {
        flush(&mut plain, blocks);
    }
}

//! Dumps of illumos that are in order and still odd: streams with gaps, ranges in any order, kernels built elsewhere.
//!
//! Which tests show what happens to each kind of oddity and damage is listed in docs/illumos.md.

use evidence::{Addr, Machine, PhysAddr, Target};
use kernel_dumps::Options;
use kernel_dumps::illumos::IllumosDump;
use std::path::Path;
use testdata::illumos::{Compression, Dump};

fn opened(bytes: Vec<u8>) -> IllumosDump {
    IllumosDump::from_source(Path::new("dump"), Box::new(bytes), &Options::default()).unwrap()
}

fn doubts(dump: &IllumosDump) -> String {
    dump.gaps().doubts.iter().map(|d| format!("{}: {}\n", d.what, d.why)).collect()
}

/// Every page that is given is right; which are not, is said, and returned.
fn lost(dump: &IllumosDump, truth: &Dump, what: &str) -> Vec<u64> {
    let said: Vec<u64> = dump.lost().into_iter().flat_map(|l| l.pages).collect();
    for (index, (_, bytes)) in (0_u64..).zip(&truth.pages) {
        match dump.page(index) {
            Ok(page) => assert!(&*page == bytes.as_slice() && !said.contains(&index), "{what}: page {index}"),
            Err(_) => assert!(said.contains(&index), "{what}: page {index} is not there and nobody says so"),
        }
    }
    said
}

/// Offsets and lengths of the blocks, their headers included, and each one's stream.
fn blocks(file: &[u8]) -> Vec<(usize, usize, u32)> {
    let mut at = u64::from_le_bytes(file[48..56].try_into().unwrap()) as usize;
    let mut list = Vec::new();
    loop {
        let word = u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        if word == 0 {
            return list;
        }
        let length = (word & 0xf_ffff) as usize + 4;
        list.push((at, length, word >> 20));
        at += length;
    }
}

/// Every range is a block of its own, three streams take turns.
fn ranges(compression: Compression, serial_tail: usize) -> Dump {
    let (range, block) = (4, 64 << 10);
    Dump { compression, blocks_per_range: true, range, block, streams: 3, serial_tail, ..Dump::sample(44, 21) }
}

const STREAMED: [Compression; 2] = [Compression::Lzjb, Compression::Bzip2];

#[test]
fn more_streams_are_announced_than_there_are() {
    for compression in STREAMED {
        for (streams, range) in [(9, 16), (64, 4), (3, 60)] {
            let truth = Dump { compression, streams, range, ..Dump::sample(30, 4) };
            for bytes in [truth.vmdump(), truth.device(None)] {
                let dump = opened(bytes);
                assert_eq!(lost(&dump, &truth, "streams"), [0_u64; 0], "{compression:?} {streams}");
                assert_eq!(doubts(&dump), "", "{compression:?} {streams}");
            }
        }
    }
}

/// The number in a range's header is where its pages belong, not how many came before.
#[test]
fn a_range_that_was_never_written_costs_its_own_pages() {
    for compression in STREAMED {
        for n in 0..11_usize {
            let what = format!("{compression:?}: without range {n}");
            let truth = Dump { absent: vec![n], ..ranges(compression, 0) };
            let dump = opened(truth.vmdump());
            let gone: Vec<u64> = (n as u64 * 4..(n as u64 + 1) * 4).collect();
            assert_eq!(lost(&dump, &truth, &what), gone, "{what}");
            assert!(doubts(&dump).contains(&format!("pages {} to {}", gone[0], gone[3])), "{}", doubts(&dump));
            let (mut byte, frame) = ([0], truth.pages[gone[1] as usize].0);
            assert_eq!(dump.read_physical(PhysAddr(frame << 12), &mut byte).0, 0, "{what}");
        }
    }
}

/// Single pages behind the streams have no number of their own: in a whole dump they are the last ones, in a partial one
/// with ranges missing they are never given for pages that they are not.
#[test]
fn single_pages_behind_a_gap_are_never_taken_for_others() {
    for compression in STREAMED {
        for n in 0..10_usize {
            let truth = Dump { absent: vec![n], ..ranges(compression, 4) };
            let gone: Vec<u64> = (n as u64 * 4..(n as u64 + 1) * 4).collect();
            let what = format!("{compression:?}: without range {n}");
            assert_eq!(lost(&opened(truth.vmdump()), &truth, &what), gone, "{what}");
            let partial = Dump { flags: truth.flags & !2, ..truth };
            let dump = opened(partial.vmdump());
            let also = lost(&dump, &partial, &format!("{what}, partial"));
            let tail: Vec<u64> = (40..44).filter(|_| n == 9).collect();
            assert_eq!(also, [gone, tail].concat(), "{what}, partial");
            assert!(doubts(&dump).contains("partial"), "{}", doubts(&dump));
        }
    }
}

/// A header that states more data than there are, in a dump that says it is whole and lacks a range: single pages are
/// placed where they fill the dump up only.
#[test]
fn single_pages_are_not_placed_by_a_wrong_length() {
    for compression in STREAMED {
        for n in 0..10_usize {
            let truth = Dump { absent: vec![n], ..ranges(compression, 4) };
            let mut bytes = truth.vmdump();
            // data_csize of the data header, which follows the terminal header.
            let at = (bytes.len() - 1) / 65_536 * 65_536 + 1912 + 8;
            let stated = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            bytes[at..at + 8].copy_from_slice(&(stated + 8192).to_le_bytes());
            let what = format!("{compression:?}: without range {n}, too much data stated");
            let dump = opened(bytes);
            let gone: Vec<u64> = (n as u64 * 4..(n as u64 + 1) * 4).collect();
            let tail: Vec<u64> = (40..44).filter(|_| n == 9).collect();
            assert_eq!(lost(&dump, &truth, &what), [gone, tail].concat(), "{what}");
        }
    }
}

/// As far as lzjb goes; what a stream of bzip2 holds is one text.
#[test]
fn ranges_of_a_stream_may_come_in_any_order() {
    let truth = ranges(Compression::Lzjb, 0);
    let whole = truth.vmdump();
    let blocks = blocks(&whole);
    let (first, end) = (blocks[0].0, blocks.last().map(|(at, length, _)| at + length).unwrap());
    let mut order = blocks.clone();
    order.reverse();
    let turned: Vec<u8> = order.iter().flat_map(|(at, length, _)| &whole[*at..at + length]).copied().collect();
    let mut bytes = whole.clone();
    bytes[first..end].copy_from_slice(&turned);
    let dump = opened(bytes);
    assert_eq!(lost(&dump, &truth, "turned"), [0_u64; 0], "{}", doubts(&dump));
}

/// Where `kas` lies is the build's affair: told by the symbol, or by the only space that has kernel addresses.
#[test]
fn the_kernels_own_space_is_found_not_assumed() {
    let (built_in, user, kernel) = Dump::SPACES;
    let read = |dump: &IllumosDump, n: usize| {
        let mut page = vec![0; 4096];
        let got = dump.memory().read(Addr(kernel + (n as u64) * 4096), &mut page);
        (got, page)
    };
    for kas in [0xffff_ffff_fbc4_0ac0, 0xffff_ffff_fbd0_0040, 0xffff_ffff_f7a1_2340_u64] {
        let mut truth = Dump::sample(20, 4);
        truth.map.iter_mut().filter(|m| m.0 == built_in).for_each(|m| m.0 = kas);
        for bytes in [truth.vmdump(), truth.vmcore(), truth.device(None)] {
            let dump = opened(bytes);
            assert_eq!(doubts(&dump), "", "{kas:#x}");
            for n in 0..18 {
                let (got, page) = read(&dump, n);
                assert!(got == (4096, None) && page == truth.pages[n].1, "{kas:#x}: page {n}: {got:?}");
            }
        }
    }
    // Two spaces with addresses of the kernel, and no symbol that tells: neither is taken.
    let mut truth = Dump::sample(20, 4);
    let other: Vec<(u64, u64, u64)> =
        truth.map.iter().filter(|m| m.0 == built_in).map(|m| (user + 0x40, m.1, truth.pages[0].0)).collect();
    truth.map.extend(other);
    let dump = opened(truth.vmdump());
    assert!(
        doubts(&dump).contains("the kernel's address space is unknown: no symbol kas, and 2 candidates"),
        "{}",
        doubts(&dump)
    );
    assert_eq!(read(&dump, 3).0.0, 0);
    // By the address of its `struct as` each is still read.
    let mut page = vec![0; 4096];
    assert_eq!(dump.space(PhysAddr(built_in)).unwrap().read(Addr(kernel + 3 * 4096), &mut page), (4096, None));
    assert!(page == truth.pages[3].1);
}

//! Memory, read in place: only the blocks that hold the bytes asked for.

use std::io::{Read, Seek};

use super::Reader;
use super::groups::Budget;
use crate::convert::{ToU64, ToUsize};
use crate::format::directory::Entry;
use crate::limits::DEFAULT_ROW_BUDGET;
use crate::row::Row;
use crate::schema::MemoryExtent;

/// Where bytes of memory are, in the order of spaces and addresses.
#[derive(Debug, Default)]
pub(super) struct MemoryIndex {
    places: Vec<Place>,
    /// Chunk that was read last, by its offset in the file, and its bytes.
    last: Option<(u64, Vec<u8>)>,
}

#[derive(Debug)]
struct Place {
    space: u64,
    address: u64,
    length: u64,
    content: Content,
    /// Among this place and those before it, the one that reaches furthest.
    furthest: usize,
}

#[derive(Debug)]
enum Content {
    Inline(Vec<u8>),
    Chunk(Entry),
}

impl MemoryIndex {
    fn new(mut places: Vec<Place>) -> Self {
        places.sort_by_key(|place| (place.space, place.address));
        let mut furthest = (0usize, 0u64, 0u64);
        for (index, place) in places.iter_mut().enumerate() {
            let end = place.address.saturating_add(place.length);
            if index == 0 || place.space != furthest.1 || end > furthest.2 {
                furthest = (index, place.space, end);
            }
            place.furthest = furthest.0;
        }
        Self { places, last: None }
    }

    /// A place that holds the address, and the bytes to skip in it.
    fn find(&self, space: u64, address: u64) -> Option<(&Place, u64)> {
        let behind = self.places.partition_point(|place| (place.space, place.address) <= (space, address));
        let nearest = self.places.get(behind.checked_sub(1)?)?;
        [Some(nearest), self.places.get(nearest.furthest)].into_iter().flatten().find_map(|place| {
            let skip = address.checked_sub(place.address)?;
            (place.space == space && skip < place.length).then_some((place, skip))
        })
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads memory without loading the snapshot: fills `buffer` from `address` of `space` on, and says how many bytes
    /// it could fill before the first that the snapshot does not have. The first call reads the table of extents with
    /// the small ones; beyond that, only the blocks are read that hold the bytes.
    ///
    /// Damaged blocks end the reading like bytes that were not kept, and are among the [`doubts`](Self::doubts).
    pub fn read_memory(&mut self, space: u64, address: u64, buffer: &mut [u8]) -> usize {
        let mut index = self.memory.take().unwrap_or_else(|| self.index_memory());
        let mut last = index.last.take();
        let mut filled = 0usize;
        while filled < buffer.len() {
            let at = address.checked_add(filled.to_u64());
            let Some((place, skip)) = at.and_then(|at| index.find(space, at)) else { break };
            let rest = buffer.get_mut(filled..).unwrap_or_default();
            let count = match (&place.content, &mut last) {
                (Content::Inline(bytes), _) => copy(rest, bytes, skip),
                (Content::Chunk(entry), Some((offset, bytes))) if *offset == entry.offset => copy(rest, bytes, skip),
                (Content::Chunk(entry), last) => match self.chunk(entry) {
                    Some(bytes) => copy(rest, &last.insert((entry.offset, bytes)).1, skip),
                    None => 0,
                },
            };
            if count == 0 {
                break;
            }
            filled = filled.saturating_add(count);
        }
        index.last = last;
        self.memory = Some(index);
        filled
    }

    fn index_memory(&mut self) -> MemoryIndex {
        let loaded = self.load::<MemoryExtent>(true, &mut Budget::new(DEFAULT_ROW_BUDGET));
        let inline = |extent: MemoryExtent| Place {
            space: extent.space,
            address: extent.address,
            length: extent.bytes.len().to_u64(),
            content: Content::Inline(extent.bytes),
            furthest: 0,
        };
        let chunk = |entry: Entry| Place {
            space: entry.id.space,
            address: entry.id.address,
            length: entry.id.rows.into(),
            content: Content::Chunk(entry),
            furthest: 0,
        };
        let small = loaded.rows.into_iter().filter(|extent| !extent.bytes.is_empty()).map(inline);
        let large = self.chunks(MemoryExtent::TABLE).into_values().flatten().map(chunk);
        MemoryIndex::new(small.chain(large).collect())
    }
}

/// Copies what fits of `bytes` behind `skip`; how many bytes.
fn copy(to: &mut [u8], bytes: &[u8], skip: u64) -> usize {
    let bytes = bytes.get(skip.to_usize()..).unwrap_or_default();
    to.iter_mut().zip(bytes).map(|(to, from)| *to = *from).count()
}

//! What collectors add: Breakpad's own streams, Crashpad's annotations, Mozilla's, comments.
//!
//! Sources: Breakpad's minidump_format.h; Crashpad's minidump/minidump_extensions.h (`MinidumpCrashpadInfo`,
//! `MinidumpModuleCrashpadInfo`, `MinidumpAnnotation`); rust-minidump's format.rs for the numbers of Mozilla's streams.

use super::modules::{Module, hex};
use super::reader::{Location, Reader};
use evidence::bytes::{c_str_at, slice_at, u16_at, u32_at, u64_at};
use evidence::{Attribute, ToUsize};

/// Annotations that are kept of one dump: Chrome sets some hundred.
const LIMIT_ANNOTATIONS: usize = 65_536;
/// Bytes of all keys and values together: any number of annotations may name the same long text.
const LIMIT_BYTES: usize = 16 << 20;
/// Bytes of one binary annotation that are shown.
const LIMIT_BINARY: usize = 4096;

/// Collects pairs, with a bound.
struct Pairs<'a, 'r> {
    reader: &'a Reader<'r>,
    list: &'a mut Vec<Attribute>,
    left: usize,
    bytes_left: usize,
}

impl Pairs<'_, '_> {
    fn add(&mut self, key: String, value: impl Into<Box<str>>) {
        let value = value.into();
        let Some(left) = self.left.checked_sub(1) else { return };
        let Some(bytes_left) = self.bytes_left.checked_sub(key.len().saturating_add(value.len())) else {
            self.left = 0;
            self.reader.doubt(format!("annotations of more than {LIMIT_BYTES} bytes: the rest is left out"));
            return;
        };
        (self.left, self.bytes_left) = (left, bytes_left);
        self.list.push(Attribute { key: key.into(), thread: None, value });
        if left == 0 {
            self.reader.doubt(format!("more than {LIMIT_ANNOTATIONS} annotations: the rest is left out"));
        }
    }
}

/// All annotations of all collectors.
pub(super) fn read(reader: &Reader<'_>, modules: &[Module], list: &mut Vec<Attribute>) {
    let mut pairs = Pairs { reader, list, left: LIMIT_ANNOTATIONS, bytes_left: LIMIT_BYTES };
    crashpad(&mut pairs, modules);
    assertion(&mut pairs);
    mozilla(&mut pairs);
    comments(&mut pairs);
}

/// `MinidumpCrashpadInfo`.
fn crashpad(pairs: &mut Pairs<'_, '_>, modules: &[Module]) {
    let reader = pairs.reader;
    let Some(s) = reader.first(super::CRASHPAD_INFO, 52) else { return };
    for (key, at) in [("crashpad.report_id", 4), ("crashpad.client_id", 20)] {
        if let Some(id) = slice_at(&s, at, 16).filter(|id| id.iter().any(|b| *b != 0)) {
            pairs.add(key.to_owned(), uuid(id, reader));
        }
    }
    if let Some(place) = Location::at(&s, 36, reader.endian) {
        dictionary(pairs, "crashpad.", place);
    }
    if let Some(place) = Location::at(&s, 44, reader.endian) {
        module_list(pairs, place, modules);
    }
    // Later versions: a reserved word, then the mask that takes tags and signatures out of addresses.
    if let Some(mask) = u64_at(&s, 56, reader.endian).filter(|m| *m != 0) {
        pairs.add("crashpad.address_mask".to_owned(), format!("{mask:#x}"));
    }
}

/// The bits of pointers that are address. Crashpad on macOS writes those that are not, as they are what is taken away;
/// what neither reading makes a number of low bits is no mask.
pub(super) fn address_mask(reader: &Reader<'_>) -> Option<u64> {
    let stated = u64_at(&reader.first(super::CRASHPAD_INFO, 52)?, 56, reader.endian)?;
    let mask = if stated >> 63 == 1 { !stated } else { stated };
    let bits = mask.trailing_ones();
    let low = mask.checked_shr(bits).unwrap_or(0) == 0;
    (low && (32..=56).contains(&bits)).then_some(mask)
}

fn uuid(raw: &[u8], reader: &Reader<'_>) -> String {
    let a = u32_at(raw, 0, reader.endian).unwrap_or(0);
    let (b, c) = (u16_at(raw, 4, reader.endian).unwrap_or(0), u16_at(raw, 6, reader.endian).unwrap_or(0));
    let rest = hex(raw.get(8..).unwrap_or_default());
    let (d, e) = rest.split_at_checked(4).unwrap_or((&rest, ""));
    format!("{a:08x}-{b:04x}-{c:04x}-{d}-{e}")
}

/// `MinidumpSimpleStringDictionary`: pairs of string positions.
fn dictionary(pairs: &mut Pairs<'_, '_>, prefix: &str, place: Location) {
    let reader = pairs.reader;
    if place.size == 0 {
        return;
    }
    let bytes = reader.bytes(place);
    for entry in reader.list("Crashpad's annotations", &bytes, 0, 8) {
        if pairs.left == 0 {
            return;
        }
        let string = |at| reader.utf8(u32_at(entry, at, reader.endian)?.into());
        if let Some(key) = string(0) {
            pairs.add(format!("{prefix}{key}"), string(4).unwrap_or_default());
        }
    }
}

/// `MinidumpModuleCrashpadInfoList`: an index into the list of modules and a place, for each.
fn module_list(pairs: &mut Pairs<'_, '_>, place: Location, modules: &[Module]) {
    let reader = pairs.reader;
    if place.size == 0 {
        return;
    }
    let bytes = reader.bytes(place);
    for entry in reader.list("Crashpad's modules", &bytes, 0, 12) {
        if pairs.left == 0 {
            return;
        }
        let Some(index) = u32_at(entry, 0, reader.endian).map(ToUsize::to_usize) else { continue };
        let Some(info) = Location::at(entry, 4, reader.endian).map(|l| reader.bytes(l)) else { continue };
        let name =
            modules.get(index).and_then(|m| m.name.as_deref()).map(|n| n.rsplit(['/', '\\']).next().unwrap_or(n));
        let prefix = name.map_or_else(|| format!("crashpad.module.{index}."), |n| format!("crashpad.module.{n}."));
        let part = |at| Location::at(&info, at, reader.endian).filter(|l| l.size > 0);
        if let Some(place) = part(4) {
            let bytes = reader.bytes(place);
            for entry in reader.list("a module's annotations", &bytes, 0, 4) {
                let text = u32_at(entry, 0, reader.endian).and_then(|rva| reader.utf8(rva.into()));
                if let Some(text) = text.filter(|_| pairs.left > 0) {
                    pairs.add(format!("{prefix}message"), text);
                }
            }
        }
        if let Some(place) = part(12) {
            dictionary(pairs, &prefix, place);
        }
        if let Some(place) = part(20) {
            objects(pairs, &prefix, place);
        }
    }
}

/// `MinidumpAnnotationList`: name, type, value. Type 1 is a string; the others are the program's own.
fn objects(pairs: &mut Pairs<'_, '_>, prefix: &str, place: Location) {
    let reader = pairs.reader;
    let bytes = reader.bytes(place);
    for entry in reader.list("annotation objects", &bytes, 0, 12) {
        if pairs.left == 0 {
            return;
        }
        let Some(name) = u32_at(entry, 0, reader.endian).and_then(|rva| reader.utf8(rva.into())) else { continue };
        let kind = u16_at(entry, 4, reader.endian).unwrap_or(0);
        let value = u32_at(entry, 8, reader.endian).and_then(|rva| reader.counted(rva.into())).unwrap_or_default();
        match kind {
            1 => pairs.add(format!("{prefix}{name}"), String::from_utf8_lossy(&value).trim_end_matches('\0')),
            _ => {
                let shown = value.get(..value.len().min(LIMIT_BINARY)).unwrap_or_default();
                pairs.add(format!("{prefix}{name}.type_{kind:#x}"), hex(shown));
            }
        }
    }
}

/// Breakpad's assertion stream: 128 UTF-16 units each for expression, function and file; line and kind.
fn assertion(pairs: &mut Pairs<'_, '_>) {
    let reader = pairs.reader;
    let Some(s) = reader.first(super::ASSERTION_INFO, 776) else { return };
    let text = |at| {
        let raw = slice_at(&s, at, 256).unwrap_or_default();
        let units = raw.chunks_exact(2).filter_map(|c| u16_at(c, 0, reader.endian)).take_while(|u| *u != 0);
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>()
    };
    let kind = match u32_at(&s, 772, reader.endian) {
        Some(1) => "an invalid parameter",
        Some(2) => "a pure virtual call",
        _ => "unknown",
    };
    pairs.add("breakpad.assertion.kind".to_owned(), kind);
    for (key, at) in [("expression", 0), ("function", 256), ("file", 512)] {
        let value = text(at);
        if !value.is_empty() {
            pairs.add(format!("breakpad.assertion.{key}"), value);
        }
    }
    if let Some(line) = u32_at(&s, 768, reader.endian).filter(|l| *l != 0) {
        pairs.add("breakpad.assertion.line".to_owned(), line.to_string());
    }
}

/// The sentence of an assertion, for the event.
pub(super) fn assertion_message(list: &[Attribute]) -> Option<String> {
    let value = |key: &str| list.iter().find(|a| &*a.key == key).map(|a| &*a.value);
    let kind = value("breakpad.assertion.kind")?;
    let expression = value("breakpad.assertion.expression").unwrap_or("not recorded");
    let place = match (value("breakpad.assertion.file"), value("breakpad.assertion.line")) {
        (Some(file), Some(line)) => format!(" ({file}:{line})"),
        _ => String::new(),
    };
    Some(format!("the C runtime reported {kind}: {expression}{place}"))
}

/// Mozilla's streams: macOS's `__crash_info` strings, its boot arguments, and the writer's own soft errors (JSON).
fn mozilla(pairs: &mut Pairs<'_, '_>) {
    let reader = pairs.reader;
    if let Some(errors) = reader.all(super::MOZ_SOFT_ERRORS).find(|b| !b.is_empty()) {
        pairs.add("writer.soft_errors".to_owned(), String::from_utf8_lossy(&errors));
    }
    if let Some(s) = reader.first(super::MOZ_MAC_BOOT_ARGUMENTS, 12) {
        // A stream type, then the 64-bit position of a UTF-16 string.
        if let Some(text) = u64_at(&s, 4, reader.endian).and_then(|rva| reader.utf16(rva)) {
            pairs.add("host.boot_arguments".to_owned(), text);
        }
    }
    mac_crash_info(pairs);
}

/// Most `__crash_info` records: the stream's own array has so many places.
const LIMIT_CRASH_INFO: usize = 20;

/// A count, the size of a record's fixed part, then the places of the records, each with its strings behind it.
fn mac_crash_info(pairs: &mut Pairs<'_, '_>) {
    let reader = pairs.reader;
    let Some(s) = reader.first(super::MOZ_MAC_CRASH_INFO, 12) else { return };
    let word = |at| u32_at(&s, at, reader.endian);
    let (count, fixed) = (word(4).unwrap_or(0).to_usize(), word(8).unwrap_or(0).to_usize());
    for n in 0..count.min(LIMIT_CRASH_INFO) {
        let at = n.saturating_mul(8).saturating_add(12);
        let Some(record) = Location::at(&s, at, reader.endian).filter(|l| l.size > 0).map(|l| reader.bytes(l)) else {
            continue;
        };
        // stream type (8 bytes with padding), version, thread, dialog mode; from version 5 on an abort cause; strings.
        let mut text = record.get(fixed..).unwrap_or_default();
        for key in ["module", "message", "signature", "backtrace", "message2"] {
            let Some(value) = c_str_at(text, 0) else { break };
            let length = text.iter().position(|b| *b == 0).unwrap_or(text.len());
            text = text.get(length.saturating_add(1)..).unwrap_or_default();
            if !value.is_empty() {
                pairs.add(format!("macos.crash_info.{n}.{key}"), value);
            }
        }
    }
}

/// Comments of the program that wrote it, narrow and wide.
fn comments(pairs: &mut Pairs<'_, '_>) {
    let reader = pairs.reader;
    if let Some(text) = reader.all(super::COMMENT_A).find(|b| !b.is_empty()) {
        pairs.add("writer.comment".to_owned(), c_str_at(&text, 0).unwrap_or_default());
    }
    if let Some(raw) = reader.all(super::COMMENT_W).find(|b| !b.is_empty()) {
        let units = raw.chunks_exact(2).filter_map(|c| u16_at(c, 0, reader.endian)).take_while(|u| *u != 0);
        let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        pairs.add("writer.comment".to_owned(), text);
    }
}

/// Breakpad's own stream: which thread wrote the dump, and which one asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Breakpad {
    pub(super) dump_thread: Option<u64>,
    pub(super) requesting_thread: Option<u64>,
}

/// `MDRawBreakpadInfo`.
pub(super) fn breakpad(reader: &Reader<'_>) -> Breakpad {
    let Some(s) = reader.first(super::BREAKPAD_INFO, 12) else { return Breakpad::default() };
    let word = |at| u32_at(&s, at, reader.endian).map(u64::from);
    let valid = word(0).unwrap_or(0);
    Breakpad { dump_thread: word(4).filter(|_| valid & 1 != 0), requesting_thread: word(8).filter(|_| valid & 2 != 0) }
}

//! Modules as images: name, code, and the symbols that lie in it.

use super::Illumos;
use debuginfo::images::Image;
use evidence::Addr;

/// Bytes of a module's code; genunix and unix have some megabytes.
const LIMIT_TEXT: u64 = 1 << 30;

/// Every module whose place is known. Without types, all code is one image.
pub(super) fn images(illumos: &Illumos<'_>, modules: &[Addr]) -> Vec<Image> {
    let mut images: Vec<Image> = modules.iter().filter_map(|m| image(illumos, *m)).collect();
    if images.is_empty()
        && let Some(code) = illumos.symbols.code()
    {
        let mut unix = Image::at("unix", Addr(code.start), code.end.saturating_sub(code.start));
        unix.symbols = Some(illumos.symbols.of(code));
        images.push(unix);
    }
    images
}

fn image(illumos: &Illumos<'_>, modctl: Addr) -> Option<Image> {
    let name = illumos
        .pointed(modctl, "modctl", "mod_modname")
        .or_else(|| illumos.pointed(modctl, "modctl", "mod_filename"))?;
    let module = illumos.pointer(modctl, "modctl", "mod_mp");
    let text = illumos.pointer(modctl, "modctl", "mod_text").or_else(|| illumos.pointer(module?, "module", "text"))?;
    let size = illumos
        .number(modctl, "modctl", "mod_text_size")
        .filter(|s| *s > 0)
        .or_else(|| illumos.number(module?, "module", "text_size"))
        .filter(|s| (1..=LIMIT_TEXT).contains(s))?;
    let end = text.0.checked_add(size)?;
    let mut image = Image::at(&name, text, size);
    image.symbols = Some(illumos.symbols.of(text.0..end));
    Some(image)
}

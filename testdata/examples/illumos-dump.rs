//! Writes a dump of the small illumos kernel of the tests: `illumos-dump FILE [first|second]`.

use testdata::illumos::kernel::panicked;
use testdata::illumos::layouts::Layout;

fn main() -> std::io::Result<()> {
    let mut words = std::env::args().skip(1);
    let file = words.next().unwrap_or_else(|| "vmdump.0".into());
    let layout = if words.next().as_deref() == Some("second") { Layout::second() } else { Layout::first() };
    std::fs::write(file, panicked(layout).0.dump().vmdump())
}

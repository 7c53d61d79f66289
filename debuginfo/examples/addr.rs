//! Prints what addresses of a file mean: `addr FILE ADDRESS...`, or addresses from standard input.
use debuginfo::{DebugInfo, Locator, Modules};
use evidence::{Doubts, Svma};
use std::io::{BufRead, Write};

fn main() {
    let mut args = std::env::args().skip(1);
    let file = args.next().expect("a file");
    let mut given: Vec<String> = args.collect();
    if given.is_empty() {
        given = std::io::stdin().lock().lines().map_while(Result::ok).collect();
    }
    let modules = Modules::of_file(file.as_ref(), None, None, &Locator::default()).expect("an ELF file");
    let doubts = Doubts::new();
    let info = DebugInfo::new(&modules, &doubts);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let hexadecimal = |a: &String| u64::from_str_radix(a.trim_start_matches("0x"), 16).expect("hexadecimal");
    let all: Vec<(usize, Svma)> = given.iter().map(|a| (0, Svma(hexadecimal(a)))).collect();
    for ((_, at), frames) in all.iter().zip(info.resolve_batch(&all)) {
        writeln!(out, "{at}").unwrap();
        for f in frames {
            let name = f.function.as_deref().unwrap_or("??");
            let file = f.file.as_deref().unwrap_or("??");
            writeln!(out, "  {name}\t{file}:{}", f.line.unwrap_or(0)).unwrap();
        }
    }
    for d in doubts.sorted() {
        eprintln!("{d:?}");
    }
}

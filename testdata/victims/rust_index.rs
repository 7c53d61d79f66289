// An index out of bounds inside a closure inside an iterator.
include!("victim.rs");

#[inline(never)]
fn pick(table: &[u32], keys: &[usize]) -> u32 {
    keys.iter().map(|key| table[*key]).sum()
}

fn main() {
    let table = vec![1, 2, 3];
    let keys: Vec<usize> = std::hint::black_box(vec![0, 2, 3]);
    reached();
    println!("{}", pick(&table, &keys));
}

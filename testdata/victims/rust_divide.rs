// A division by zero, which Rust turns into a panic.
include!("victim.rs");

#[inline(never)]
fn average(total: i64, count: i64) -> i64 {
    reached();
    total / count
}

fn main() {
    println!("{}", average(100, std::hint::black_box(0)));
}

// Recursion without an end: the runtime's handler recognises the guard page, prints, and the process dies by SIGABRT.
include!("victim.rs");

#[inline(never)]
fn walk(depth: u64, trail: &[u64; 8]) -> u64 {
    let mut here = *trail;
    here[(depth % 8) as usize] = depth;
    walk(std::hint::black_box(depth + 1), &here) + here[0]
}

fn main() {
    reached();
    println!("{}", walk(0, &[0; 8]));
}

// An undefined instruction from inline assembly.
include!("victim.rs");

#[inline(never)]
fn trap(code: u32) -> u32 {
    reached();
    unsafe { std::arch::asm!("ud2") };
    code
}

fn main() {
    println!("{}", trap(7));
}

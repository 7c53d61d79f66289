// A null pointer from unsafe code; built without debug assertions, which would turn it into a panic.
include!("victim.rs");

#[repr(C)]
struct Header {
    kind: [u64; 4],
    length: u64,
}

#[inline(never)]
fn length(header: *const Header) -> u64 {
    reached();
    unsafe { (&raw const (*header).length).read_volatile() }
}

fn main() {
    let header = std::hint::black_box(std::ptr::null::<Header>());
    println!("{} {}", length(header), std::mem::size_of_val(&[0_u64; 4]));
    let _ = std::mem::offset_of!(Header, kind);
}

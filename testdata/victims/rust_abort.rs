// std::process::abort() in a second thread.
include!("victim.rs");

#[inline(never)]
fn worker(id: u32) -> u32 {
    if std::hint::black_box(id) == 3 {
        reached();
        std::process::abort();
    }
    id
}

fn main() {
    let handle = std::thread::Builder::new().name("worker-3".into()).spawn(|| worker(3)).unwrap();
    println!("{:?}", handle.join().map_err(|_| "panicked"));
}

// Rust threads: one in a lock, one in a channel, one parked, one in a loop; the main thread panics or waits.
include!("victim.rs");

use std::sync::{Arc, Barrier, Mutex, mpsc};

#[inline(never)]
fn wait_for_lock(lock: &Mutex<Vec<u32>>, started: &Barrier) -> usize {
    started.wait();
    lock.lock().unwrap().len()
}

#[inline(never)]
fn wait_for_message(inbox: &mpsc::Receiver<String>, started: &Barrier) -> Option<String> {
    started.wait();
    inbox.recv().ok()
}

#[inline(never)]
fn park(started: &Barrier) {
    started.wait();
    loop {
        std::thread::park();
    }
}

fn main() {
    let lock = Arc::new(Mutex::new(vec![1, 2, 3]));
    let started = Arc::new(Barrier::new(4));
    let (sender, inbox) = mpsc::channel::<String>();
    let held = lock.lock().unwrap();
    let (a, b, c) = (started.clone(), started.clone(), started.clone());
    let shared = lock.clone();
    let start = |name: &str| std::thread::Builder::new().name(name.into());
    start("locker").spawn(move || wait_for_lock(&shared, &a)).unwrap();
    start("receiver").spawn(move || wait_for_message(&inbox, &b)).unwrap();
    start("parker").spawn(move || park(&c)).unwrap();
    started.wait();
    std::thread::sleep(std::time::Duration::from_millis(50));
    reached();
    drop(sender);
    panic!("{} items were held", held.len());
}

//! Work spread over all processors, results in the order of the input.

use crossbeam::deque::{Injector, Steal};
use std::sync::{Mutex, PoisonError};

/// Applies `work` to every item on up to `workers` threads (0: one per processor) and returns the results in order.
///
/// A panic in `work` is passed on to the caller.
pub fn for_each_parallel<T: Sync, R: Send>(items: &[T], workers: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    for_each_parallel_with(items, workers, || (), |(), item| work(item))
}

/// The same, with something that each thread makes for itself first.
pub(crate) fn for_each_parallel_with<T: Sync, R: Send, S>(
    items: &[T],
    workers: usize,
    own: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> R + Sync,
) -> Vec<R> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if workers == 0 { processors } else { workers }.min(items.len());
    if workers <= 1 {
        let mut state = own();
        return items.iter().map(|item| work(&mut state, item)).collect();
    }
    let queue = Injector::new();
    for job in items.iter().enumerate() {
        queue.push(job);
    }
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let (mut state, mut results) = (own(), Vec::new());
                loop {
                    match queue.steal() {
                        Steal::Success((index, item)) => results.push((index, work(&mut state, item))),
                        Steal::Retry => {}
                        Steal::Empty => break,
                    }
                }
                done.lock().unwrap_or_else(PoisonError::into_inner).extend(results);
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::for_each_parallel;

    #[test]
    fn results_keep_the_order_of_the_input() {
        let items: Vec<u32> = (0..1000).collect();
        for workers in [0, 1, 2, 7] {
            assert_eq!(for_each_parallel(&items, workers, |n| n * 2), (0..2000).step_by(2).collect::<Vec<_>>());
        }
    }
}

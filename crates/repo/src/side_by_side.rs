//! Many small reads, several at once: waiting for one object after the other is what takes the time.

use std::panic::resume_unwind;
use std::thread;

/// Reads that are under way at once: more than there are cores, which is why this is not for rayon's threads.
const READS_MAX: usize = 8;
/// So few are read one after the other.
const FEW: usize = 64;

/// What `read` gives for each of `items`, in their order.
pub(crate) fn side_by_side<T: Sync, R: Send>(items: &[T], read: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() <= FEW {
        return items.iter().map(read).collect();
    }
    let read = &read;
    thread::scope(|scope| {
        let parts = items.chunks(items.len().div_ceil(READS_MAX));
        let threads: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(read).collect::<Vec<R>>())).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for count in [0, 1, FEW, FEW + 1, 1000, 1001] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(
                side_by_side(&items, |item| item * 2),
                items.iter().map(|item| item * 2).collect::<Vec<_>>()
            );
        }
    }
}

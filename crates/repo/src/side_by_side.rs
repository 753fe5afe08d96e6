//! Many small calls of the storage, several at once: waiting for one object after the other is what takes the time.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Calls that are under way at once: more than there are cores, which is why this is not for rayon's threads.
const CALLS_MAX: usize = 8;
/// So few are made one after the other.
const FEW: usize = 64;

/// What `call` gives for each of `items`, in their order.
pub(crate) fn side_by_side<T: Sync, R: Send>(items: &[T], call: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() <= FEW {
        return items.iter().map(call).collect();
    }
    let call = &call;
    thread::scope(|scope| {
        let parts = items.chunks(items.len().div_ceil(CALLS_MAX));
        let threads: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(call).collect::<Vec<R>>())).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

/// As [`side_by_side`], until one fails: what is under way then ends, and nothing else is begun.
pub(crate) fn try_side_by_side<T: Sync, R: Send, E: Send>(
    items: &[T],
    call: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let failed = AtomicBool::new(false);
    let results = side_by_side(items, |item| {
        if failed.load(Ordering::Relaxed) {
            return None;
        }
        let result = call(item);
        failed.fetch_or(result.is_err(), Ordering::Relaxed);
        Some(result)
    });
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for count in [0, 1, FEW, FEW + 1, 1000, 1001] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(
                side_by_side(&items, |item| item * 2),
                items.iter().map(|item| item * 2).collect::<Vec<_>>()
            );
            assert_eq!(try_side_by_side(&items, |item| Ok::<_, ()>(*item)), Ok(items));
        }
    }

    #[test]
    fn nothing_is_begun_after_a_failure() {
        for count in [FEW, 100_000] {
            let (items, begun) = ((0..count).collect::<Vec<_>>(), AtomicUsize::new(0));
            let call = |item: &usize| {
                begun.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
                if *item == 3 { Err("the third") } else { Ok(()) }
            };
            assert_eq!(try_side_by_side(&items, call), Err("the third"));
            assert!(begun.into_inner() < count);
        }
    }
}

//! Sorting in little code.
//!
//! The standard library compiles its sort anew for every type and every comparison, and for maps and sets that are
//! collected too; a dozen of them were 13 kB of the browser's module, compressed. Here one merge sort serves all.

use std::cmp::Ordering;

/// Sorts `items` by `compare`; equal ones stay in the order they have.
pub(crate) fn by<T>(items: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let sorted = order(items.len(), &|a, b| compare(&items[a], &items[b]));
    let mut taken: Vec<Option<T>> = items.drain(..).map(Some).collect();
    items.extend(sorted.into_iter().filter_map(|i| taken[i].take()));
}

/// `0..count` sorted by `compare`; equal ones ascend.
pub(crate) fn order(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut merged = Vec::with_capacity(count);
    let mut run = 1;
    while run < count {
        merged.clear();
        for pair in order.chunks(2 * run) {
            let (mut left, mut right) = pair.split_at(run.min(pair.len()));
            loop {
                let from = match (left.first(), right.first()) {
                    (Some(&a), Some(&b)) if compare(a, b).is_gt() => &mut right,
                    (Some(_), _) => &mut left,
                    (None, Some(_)) => &mut right,
                    (None, None) => break,
                };
                merged.push(from[0]);
                *from = &from[1..];
            }
        }
        std::mem::swap(&mut order, &mut merged);
        run *= 2;
    }
    order
}

/// The map or set of `items`, put in one by one. `collect` would sort them first.
pub fn gather<C: Default + Extend<I>, I>(items: impl IntoIterator<Item = I>) -> C {
    let mut gathered = C::default();
    gathered.extend(items);
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn sorts_as_the_standard_library() {
        let mut rng = Rng::new(5);
        for count in (0..70).chain([1000]) {
            let items: Vec<(u64, usize)> = (0..count).map(|i| (rng.next_u64() % 10, i)).collect();
            let mut expected = items.clone();
            expected.sort_by_key(|item| item.0);
            let mut sorted = items.clone();
            by(&mut sorted, |a, b| a.0.cmp(&b.0));
            assert_eq!(sorted, expected);
            let order = order(count, &|a, b| items[a].0.cmp(&items[b].0));
            assert_eq!(order, expected.iter().map(|item| item.1).collect::<Vec<_>>());
        }
    }
}

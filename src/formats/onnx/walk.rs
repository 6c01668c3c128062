//! Walks over several tensors at once that are broadcast, transposed or reduced: axes that lie together in all of them are
//! joined, so that the innermost loop is long and finds its numbers without arithmetic of its own.

/// The sides of a walk, the outermost first, and how many numbers each of `N` tensors goes on along each; 0 where it stays.
#[derive(Debug, PartialEq)]
pub(super) struct Walk<const N: usize> {
    axes: Vec<(usize, [usize; N])>,
}

/// The steps of a tensor of `dims` in memory.
pub(super) fn steps(dims: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        steps[axis - 1] = steps[axis] * dims[axis];
    }
    steps
}

impl<const N: usize> Walk<N> {
    /// A walk along `axes`: the side of each, and every tensor's step.
    pub(super) fn new(axes: impl IntoIterator<Item = (usize, [usize; N])>) -> Self {
        let mut joined: Vec<(usize, [usize; N])> = Vec::new();
        for (side, steps) in axes.into_iter().filter(|(side, _)| *side != 1) {
            match joined.last_mut() {
                Some((outer, before)) if (0..N).all(|of| before[of] == steps[of] * side) => {
                    *outer *= side;
                    *before = steps;
                }
                _ => joined.push((side, steps)),
            }
        }
        if joined.is_empty() {
            joined.push((1, [0; N]));
        }
        Walk { axes: joined }
    }

    /// Calls `each` for every stretch of the innermost axis, in order: where it begins in each tensor, how long it is, and the
    /// steps along it.
    pub(super) fn runs(&self, mut each: impl FnMut([usize; N], usize, [usize; N])) {
        let Some((&(len, steps), outer)) = self.axes.split_last() else { return };
        if self.axes.iter().any(|(side, _)| *side == 0) {
            return;
        }
        let mut at = vec![0; outer.len()];
        let mut start = [0; N];
        loop {
            each(start, len, steps);
            // On by one, as an odometer: the last axis that has not come to its end.
            let Some(axis) = (0..outer.len()).rev().find(|&axis| at[axis] + 1 < outer[axis].0) else {
                return;
            };
            for (axis, place) in at.iter_mut().enumerate().skip(axis + 1) {
                (0..N).for_each(|of| start[of] -= *place * outer[axis].1[of]);
                *place = 0;
            }
            at[axis] += 1;
            (0..N).for_each(|of| start[of] += outer[axis].1[of]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of the second tensor of a walk, one by one.
    fn places(walk: &Walk<1>) -> Vec<usize> {
        let mut places = Vec::new();
        walk.runs(|[start], len, [step]| places.extend((0..len).map(|at| start + at * step)));
        places
    }

    #[test]
    fn axes_that_lie_together_are_joined() {
        let walk = Walk::new([(2, [12, 0]), (3, [4, 0]), (1, [4, 9]), (4, [1, 1])]);
        assert_eq!(walk.axes, [(6, [4, 0]), (4, [1, 1])]);
        assert_eq!(Walk::new([(2, [6]), (3, [2]), (2, [1])]).axes, [(12, [1])]);
        assert_eq!(Walk::<2>::new([]).axes, [(1, [0, 0])]);
    }

    #[test]
    fn every_number_is_visited_in_order() {
        // A matrix of 2x3 transposed, rows repeated, and a walk over nothing.
        assert_eq!(places(&Walk::new([(3, [1]), (2, [3])])), [0, 3, 1, 4, 2, 5]);
        assert_eq!(places(&Walk::new([(2, [0]), (3, [1])])), [0, 1, 2, 0, 1, 2]);
        assert_eq!(places(&Walk::new([(2, [1]), (2, [4]), (2, [2])])), [0, 2, 4, 6, 1, 3, 5, 7]);
        assert!(places(&Walk::new([(2, [3]), (0, [1])])).is_empty());
        assert_eq!(places(&Walk::new([])), [0]);
        assert_eq!(steps(&[2, 3, 4]), [12, 4, 1]);
        assert!(steps(&[]).is_empty());
    }
}

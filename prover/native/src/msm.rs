//! Sums of many scalar multiples, by Pippenger's buckets in affine form.
//!
//! Each window's points are sorted into buckets, and the buckets summed as trees:
//! all additions of a level share one field inversion, which makes an addition
//! about six products instead of ten. Small scalars cost what their digits cost:
//! zeros nothing, bits and minus ones a single addition.

use std::ops::Range;

use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::{AdditiveGroup, AffineRepr, PrimeGroup};
use ark_ff::{BigInt, BigInteger, PrimeField, Zero};
use rayon::prelude::*;

use crate::fixed_base::{add_all, digit};

/// Points whose buckets are summed together: enough to share inversions, few enough
/// for the cache.
const GROUP: usize = 2048;

/// Parts of a window's buckets that may be summed on different cores.
const PARTS: usize = 8;

/// Scalars of fewer bits have a digit or two that is not zero, and do not count as work.
const SMALL_BITS: u32 = 32;

/// Windows of signed digits: the lower ones from -2^(width-1) on, the top one from 0.
struct Windows {
    width: usize,
    count: usize,
    /// Added to a scalar, it turns signed digits into plain ones, without carries.
    offset: BigInt<4>,
}

impl Windows {
    fn new(points: usize) -> Self {
        // least work: an addition a point and about 4.5 times that a bucket
        let cost = |width: &usize| 255usize.div_ceil(*width) * (2 * points + (9 << (width - 1)));
        let width = (3..=15).min_by_key(cost).unwrap_or(8);
        // folded scalars have 253 bits, so the top digit is below 2^(width-1) too
        let count = 255usize.div_ceil(width);
        let mut offset = BigInt::zero();
        for window in 0..count - 1 {
            let mut half = BigInt::from(1u64);
            half <<= (window * width + width - 1) as u32;
            offset.add_with_carry(&half);
        }
        Self {
            width,
            count,
            offset,
        }
    }

    fn buckets(&self) -> usize {
        1 << (self.width - 1)
    }

    /// The signed digit of a scalar that had the offset added.
    fn digit(&self, shifted: &BigInt<4>, window: usize) -> i32 {
        let start = window * self.width;
        let plain = digit(shifted, start, self.width.min(256 - start)) as i32;
        if window + 1 == self.count {
            plain
        } else {
            plain - (1 << (self.width - 1))
        }
    }
}

/// The sum of `scalars[i] * points[i]`; scalars are below the group's order.
pub fn msm<P>(points: Vec<Affine<P>>, scalars: Vec<BigInt<4>>) -> Projective<P>
where
    P: SWCurveConfig,
    P::ScalarField: PrimeField<BigInt = BigInt<4>>,
{
    let (mut points, mut scalars) = (points, scalars);
    let work = points
        .par_iter()
        .zip(&scalars)
        .filter(|(point, scalar)| !point.is_zero() && scalar.num_bits() > SMALL_BITS);
    let windows = Windows::new(work.count());
    points
        .par_iter_mut()
        .zip(scalars.par_iter_mut())
        .for_each(|(point, scalar)| {
            if point.is_zero() {
                // A wire that does not stand in this section: in a bucket it would cost an inversion.
                *scalar = BigInt::zero();
            } else if *scalar > P::ScalarField::MODULUS_MINUS_ONE_DIV_TWO {
                let mut negated = P::ScalarField::MODULUS;
                negated.sub_with_borrow(scalar);
                *scalar = negated;
                *point = -*point;
            }
            scalar.add_with_carry(&windows.offset);
        });
    let sums: Vec<Projective<P>> = (0..windows.count)
        .into_par_iter()
        .map(|window| window_sum(&points, &scalars, &windows, window))
        .collect();
    let mut total = Projective::zero();
    for sum in sums.iter().rev() {
        for _ in 0..windows.width {
            total.double_in_place();
        }
        total += sum;
    }
    total
}

fn window_sum<P: SWCurveConfig>(
    points: &[Affine<P>],
    scalars: &[BigInt<4>],
    windows: &Windows,
    window: usize,
) -> Projective<P> {
    let (order, ends) = sort_into_buckets(scalars, windows, window);
    let parts = cut(&ends, order.len());
    let sums: Vec<(Projective<P>, Projective<P>)> = parts
        .par_iter()
        .map(|part| part_sum(points, &order, &ends, part.clone()))
        .collect();
    // Each part counts its buckets from 1: add what the buckets before it make more.
    let mut total = Projective::zero();
    for (part, (plain, weighted)) in parts.iter().zip(sums) {
        total += weighted + plain.mul_bigint([part.start as u64]);
    }
    total
}

/// The buckets in at most `PARTS` runs with about as many points each.
fn cut(ends: &[usize], points: usize) -> Vec<Range<usize>> {
    let mut parts = Vec::with_capacity(PARTS);
    let mut first = 0;
    for part in 1..=PARTS {
        let last = if part == PARTS {
            ends.len()
        } else {
            ends.partition_point(|end| *end <= points * part / PARTS)
        };
        if last > first {
            parts.push(first..last);
            first = last;
        }
    }
    parts
}

/// The sum of some buckets, and their sum weighted by 1, 2, 3, ...
fn part_sum<P: SWCurveConfig>(
    points: &[Affine<P>],
    order: &[u32],
    ends: &[usize],
    part: Range<usize>,
) -> (Projective<P>, Projective<P>) {
    let mut sums = vec![Affine::<P>::identity(); part.len()];
    let mut tree = Tree::new();
    let mut bucket = part.start;
    let mut start = if bucket == 0 { 0 } else { ends[bucket - 1] };
    while bucket < part.end {
        // as many whole buckets as make a group
        let first = bucket;
        let begin = start;
        tree.clear();
        while bucket < part.end && (bucket == first || ends[bucket] - begin <= GROUP) {
            let entries = &order[start..ends[bucket]];
            tree.push_bucket(entries.iter().map(|entry| {
                let point = points[(entry >> 1) as usize];
                if entry & 1 == 1 { -point } else { point }
            }));
            start = ends[bucket];
            bucket += 1;
        }
        tree.sum(&mut sums[first - part.start..bucket - part.start]);
    }
    let mut running = Projective::zero();
    let mut total = Projective::zero();
    for sum in sums.iter().rev() {
        running += sum;
        total += &running;
    }
    (running, total)
}

/// Indices of the scalars whose digit is not zero, doubled, plus one if it is
/// negative, ordered by its size; and where each bucket ends.
fn sort_into_buckets(
    scalars: &[BigInt<4>],
    windows: &Windows,
    window: usize,
) -> (Vec<u32>, Vec<usize>) {
    let digits: Vec<i32> = scalars
        .iter()
        .map(|scalar| windows.digit(scalar, window))
        .collect();
    let mut ends = vec![0usize; windows.buckets()];
    for digit in digits.iter().filter(|digit| **digit != 0) {
        ends[digit.unsigned_abs() as usize - 1] += 1;
    }
    let mut total = 0;
    for end in &mut ends {
        // for now the start; filling moves it to the end
        total += *end;
        *end = total - *end;
    }
    let mut order = vec![0u32; total];
    for (index, digit) in digits.iter().enumerate().filter(|(_, digit)| **digit != 0) {
        let place = &mut ends[digit.unsigned_abs() as usize - 1];
        order[*place] = (index as u32) << 1 | u32::from(*digit < 0);
        *place += 1;
    }
    (order, ends)
}

/// Some buckets' points, summed level by level.
struct Tree<P: SWCurveConfig> {
    points: Vec<Affine<P>>,
    lengths: Vec<usize>,
    left: Vec<Affine<P>>,
    right: Vec<Affine<P>>,
}

impl<P: SWCurveConfig> Tree<P> {
    fn new() -> Self {
        Self {
            points: Vec::new(),
            lengths: Vec::new(),
            left: Vec::new(),
            right: Vec::new(),
        }
    }

    fn clear(&mut self) {
        self.points.clear();
        self.lengths.clear();
    }

    fn push_bucket(&mut self, points: impl ExactSizeIterator<Item = Affine<P>>) {
        self.lengths.push(points.len());
        self.points.extend(points);
    }

    /// Put each bucket's sum into its place; a bucket without points leaves it alone.
    fn sum(&mut self, out: &mut [Affine<P>]) {
        while self.lengths.iter().any(|length| *length > 1) {
            self.halve();
        }
        let mut points = self.points.iter();
        for (sum, _) in out
            .iter_mut()
            .zip(&self.lengths)
            .filter(|(_, length)| **length == 1)
        {
            if let Some(point) = points.next() {
                *sum = *point;
            }
        }
    }

    /// Add the points of each bucket in pairs.
    fn halve(&mut self) {
        self.left.clear();
        self.right.clear();
        let mut rest = self.points.as_slice();
        for length in &self.lengths {
            let (bucket, after) = rest.split_at(*length);
            for pair in bucket.chunks_exact(2) {
                self.left.push(pair[0]);
                self.right.push(pair[1]);
            }
            rest = after;
        }
        for (sums, addends) in self.left.chunks_mut(GROUP).zip(self.right.chunks(GROUP)) {
            add_all(sums, addends);
        }
        let mut sums = self.left.iter();
        let (mut from, mut to) = (0, 0);
        for length in &mut self.lengths {
            for sum in sums.by_ref().take(*length / 2) {
                self.points[to] = *sum;
                to += 1;
            }
            from += *length;
            if *length % 2 == 1 {
                self.points[to] = self.points[from - 1];
                to += 1;
            }
            *length = length.div_ceil(2);
        }
        self.points.truncate(to);
    }
}

#[cfg(test)]
mod tests {
    use ark_bn254::{Fr, G1Affine, G1Projective, G2Affine, G2Projective, g1, g2};
    use ark_ec::{AffineRepr, CurveGroup, VariableBaseMSM};
    use ark_ff::{Field, PrimeField};

    use super::msm;

    /// Scalars of every kind, and points that meet themselves and their negatives.
    fn scalars(count: usize) -> Vec<Fr> {
        let mut power = Fr::from(3u8);
        (0..count)
            .map(|i| {
                power = power.square() + Fr::from(i as u64);
                match i % 7 {
                    0 => Fr::from(0u8),
                    1 => Fr::from(1u8),
                    2 => -Fr::from(1u8),
                    3 => Fr::from(i as u64),
                    4 => -Fr::from(2u8).inverse().expect("2 is not 0"),
                    _ => power,
                }
            })
            .collect()
    }

    #[test]
    fn equals_arkworks() {
        for count in [0usize, 1, 2, 3, 31, 500, 6000] {
            let scalars = scalars(count);
            let plain: Vec<_> = scalars.iter().map(|s| s.into_bigint()).collect();
            let one = G1Affine::generator();
            let points: Vec<G1Affine> = scalars
                .iter()
                .enumerate()
                .map(|(i, s)| (one * (*s + Fr::from((i % 5) as u64))).into_affine())
                .collect();
            let expected = G1Projective::msm_bigint(&points, &plain);
            assert_eq!(msm::<g1::Config>(points, plain.clone()), expected);
            let two = G2Affine::generator();
            let points: Vec<G2Affine> = vec![two; count];
            let expected = G2Projective::msm_bigint(&points, &plain);
            assert_eq!(msm::<g2::Config>(points, plain), expected);
        }
    }
}

//! Many multiples of one point.
//!
//! A table of window multiples makes each multiple a sum of `windows` table
//! entries; the sums of a whole chunk advance together in affine form, so one
//! field inversion serves them all.

use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{AdditiveGroup, BigInt, Field, PrimeField, Zero};
use rayon::prelude::*;

/// Sums that share an inversion; small enough for the cache.
const CHUNK: usize = 512;

pub struct FixedBase<P: SWCurveConfig> {
    window: usize,
    /// `table[w][d] = d * 2^(w * window) * base`
    table: Vec<Vec<Affine<P>>>,
}

impl<P> FixedBase<P>
where
    P: SWCurveConfig,
    P::ScalarField: PrimeField<BigInt = BigInt<4>>,
{
    /// A table for `base`, sized for about `count` multiples.
    pub fn new(base: Affine<P>, count: usize) -> Self {
        let window = match count {
            0..1_000 => 4,
            1_000..50_000 => 8,
            50_000..400_000 => 11,
            _ => 13,
        };
        let bits = P::ScalarField::MODULUS_BIT_SIZE as usize;
        let mut outer = base.into_group();
        let mut starts = Vec::new();
        for _ in 0..bits.div_ceil(window) {
            starts.push(outer);
            for _ in 0..window {
                outer.double_in_place();
            }
        }
        let table = starts
            .par_iter()
            .map(|start| multiples(*start, 1 << window))
            .collect();
        Self { window, table }
    }

    /// `scalar * base` for each scalar.
    pub fn multiply(&self, scalars: &[P::ScalarField]) -> Vec<Affine<P>> {
        scalars
            .par_chunks(CHUNK)
            .flat_map_iter(|chunk| self.multiply_chunk(chunk))
            .collect()
    }

    fn multiply_chunk(&self, scalars: &[P::ScalarField]) -> Vec<Affine<P>> {
        let scalars: Vec<BigInt<4>> = scalars.iter().map(|s| s.into_bigint()).collect();
        let mut sums = vec![Affine::<P>::identity(); scalars.len()];
        let mut addends = sums.clone();
        for (index, row) in self.table.iter().enumerate() {
            for (addend, scalar) in addends.iter_mut().zip(&scalars) {
                *addend = row[digit(scalar, index * self.window, self.window)];
            }
            add_all(&mut sums, &addends);
        }
        sums
    }
}

fn multiples<P: SWCurveConfig>(base: Projective<P>, count: usize) -> Vec<Affine<P>> {
    let step = base.into_affine();
    let mut out = Vec::with_capacity(count);
    let mut sum = Projective::<P>::zero();
    for _ in 0..count {
        out.push(sum);
        sum += step;
    }
    Projective::normalize_batch(&out)
}

/// `width` bits of `scalar` from bit `start` on.
pub fn digit(scalar: &BigInt<4>, start: usize, width: usize) -> usize {
    let (limb, shift) = (start / 64, start % 64);
    let mut bits = scalar.0[limb] >> shift;
    if shift + width > 64 && limb < 3 {
        bits |= scalar.0[limb + 1] << (64 - shift);
    }
    (bits & ((1 << width) - 1)) as usize
}

/// `sums[i] += addends[i]`, with one inversion for all.
pub fn add_all<P: SWCurveConfig>(sums: &mut [Affine<P>], addends: &[Affine<P>]) {
    let plain = |p: &Affine<P>, q: &Affine<P>| !p.is_zero() && !q.is_zero() && p.x != q.x;
    // prefix[i] = product of the x-differences before i
    let mut prefix = Vec::with_capacity(sums.len());
    let mut product = P::BaseField::ONE;
    for (p, q) in sums.iter().zip(addends) {
        prefix.push(product);
        if plain(p, q) {
            product *= q.x - p.x;
        }
    }
    let mut inverse = product.inverse().unwrap_or(P::BaseField::ZERO);
    for ((p, q), before) in sums.iter_mut().zip(addends).zip(prefix).rev() {
        if plain(p, q) {
            let difference = q.x - p.x;
            let slope = (q.y - p.y) * inverse * before;
            inverse *= difference;
            let x = slope.square() - p.x - q.x;
            let y = slope * (p.x - x) - p.y;
            *p = Affine::new_unchecked(x, y);
        } else if !q.is_zero() {
            // rare: a first addend, a doubling or a cancellation
            *p = (p.into_group() + q).into_affine();
        }
    }
}

//! Points and field elements as snarkjs keeps them in a key: little-endian
//! Montgomery limbs, a point being x then y, all zero for infinity.

use ark_bn254::{Fq, Fq2, g1, g2};
use ark_ec::AffineRepr;
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ff::{BigInt, PrimeField, Zero};

use crate::binfile::Reader;
use crate::error::{Result, malformed};

pub fn put_limbs(out: &mut Vec<u8>, limbs: &BigInt<4>) {
    for limb in limbs.0 {
        out.extend_from_slice(&limb.to_le_bytes());
    }
}

fn read_fq(reader: &mut Reader<'_>) -> Result<Fq> {
    let limbs = reader.limbs()?;
    if limbs >= Fq::MODULUS {
        return malformed("zkey: coordinate not below the field's prime");
    }
    Ok(Fq::new_unchecked(limbs))
}

/// The curves whose points a key holds.
pub trait KeyCurve: SWCurveConfig {
    /// Bytes of a point.
    const BYTES: usize;

    fn put_coordinate(out: &mut Vec<u8>, value: &Self::BaseField);
    fn read_coordinate(reader: &mut Reader<'_>) -> Result<Self::BaseField>;
}

impl KeyCurve for g1::Config {
    const BYTES: usize = 64;

    fn put_coordinate(out: &mut Vec<u8>, value: &Fq) {
        put_limbs(out, &value.0);
    }

    fn read_coordinate(reader: &mut Reader<'_>) -> Result<Fq> {
        read_fq(reader)
    }
}

impl KeyCurve for g2::Config {
    const BYTES: usize = 128;

    fn put_coordinate(out: &mut Vec<u8>, value: &Fq2) {
        put_limbs(out, &value.c0.0);
        put_limbs(out, &value.c1.0);
    }

    fn read_coordinate(reader: &mut Reader<'_>) -> Result<Fq2> {
        Ok(Fq2::new(read_fq(reader)?, read_fq(reader)?))
    }
}

pub fn put_point<P: KeyCurve>(out: &mut Vec<u8>, point: &Affine<P>) {
    let zero = P::BaseField::zero();
    let (x, y) = point.xy().unwrap_or((zero, zero));
    P::put_coordinate(out, &x);
    P::put_coordinate(out, &y);
}

/// A point of the curve; one of G2's is not checked to be in the subgroup.
pub fn read_point<P: KeyCurve>(reader: &mut Reader<'_>) -> Result<Affine<P>> {
    let x = P::read_coordinate(reader)?;
    let y = P::read_coordinate(reader)?;
    if x.is_zero() && y.is_zero() {
        return Ok(Affine::identity());
    }
    let point = Affine::new_unchecked(x, y);
    if !point.is_on_curve() {
        return malformed("zkey: point not on the curve");
    }
    Ok(point)
}

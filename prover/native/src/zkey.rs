//! Reader of snarkjs's Groth16 .zkey files. They are large: mapped, and read where they are used.

use std::path::Path;

use ark_bn254::{Fq, Fr, G1Affine, G2Affine, g1, g2};
use ark_ec::short_weierstrass::Affine;
use ark_ff::{BigInt, PrimeField};
use rayon::prelude::*;

use crate::binfile::{BinFile, Reader};
use crate::error::{Result, malformed};
use crate::mapping::Mapping;
use crate::points::{KeyCurve, read_point};

pub const IC: u32 = 3;
pub const COEFFICIENTS: u32 = 4;
pub const A: u32 = 5;
pub const B1: u32 = 6;
pub const B2: u32 = 7;
pub const C: u32 = 8;
pub const H: u32 = 9;

const MAX_DOMAIN: u32 = 1 << 27;
const COEFFICIENT_BYTES: usize = 44;
/// Coefficients multiplied at once.
const BATCH: usize = 1 << 15;

/// What the Groth16 header says.
pub struct Header {
    pub wires: usize,
    pub public: usize,
    pub domain: usize,
    pub alpha1: G1Affine,
    pub beta1: G1Affine,
    pub beta2: G2Affine,
    pub gamma2: G2Affine,
    pub delta1: G1Affine,
    pub delta2: G2Affine,
}

/// An open key.
pub struct Zkey {
    pub header: Header,
    /// A point a public signal, and one for the constant before them.
    pub ic: Vec<G1Affine>,
    map: Mapping,
}

impl Zkey {
    /// Map a key and check its sections' sizes; a point is only looked at when it is used.
    pub fn open(path: &Path) -> Result<Self> {
        let map = Mapping::open(path)?;
        let file = BinFile::parse(&map, "zkey", 1)?;
        if Reader::new(file.section(1)?, "zkey").u32()? != 1 {
            return malformed("zkey: not a Groth16 key");
        }
        let header = read_header(file.section(2)?)?;
        let private = header.wires - header.public - 1;
        for (id, count, size) in [
            (IC, header.public + 1, g1::Config::BYTES),
            (A, header.wires, g1::Config::BYTES),
            (B1, header.wires, g1::Config::BYTES),
            (B2, header.wires, g2::Config::BYTES),
            (C, private, g1::Config::BYTES),
            (H, header.domain, g1::Config::BYTES),
        ] {
            let found = file.section(id)?.len();
            if found != count * size {
                return malformed(format!(
                    "zkey: section {id} has {found} bytes, not {}",
                    count * size
                ));
            }
        }
        let mut reader = Reader::new(file.section(IC)?, "zkey point");
        let ic = (0..=header.public)
            .map(|_| read_point::<g1::Config>(&mut reader))
            .collect::<Result<_>>()?;
        Ok(Self { header, ic, map })
    }

    /// Bytes of the mapped file.
    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    fn section(&self, id: u32) -> Result<&[u8]> {
        BinFile::parse(&self.map, "zkey", 1)?.section(id)
    }

    /// Section `id`'s points; where the scalar is zero, the point at infinity.
    pub fn points<P: KeyCurve>(&self, id: u32, scalars: &[BigInt<4>]) -> Result<Vec<Affine<P>>> {
        self.section(id)?
            .par_chunks_exact(P::BYTES)
            .zip(scalars)
            .map(|(bytes, scalar)| {
                if *scalar == BigInt::zero() {
                    return Ok(Affine::identity());
                }
                read_point(&mut Reader::new(bytes, "zkey point"))
            })
            .collect()
    }

    /// A's and B's products with the witness, a value a row of the domain.
    pub fn evaluate(&self, witness: &[BigInt<4>]) -> Result<[Vec<Fr>; 2]> {
        let mut reader = Reader::new(self.section(COEFFICIENTS)?, "zkey coefficients");
        let count = reader.u32()? as usize;
        let bytes = reader.take(count * COEFFICIENT_BYTES)?;
        reader.finish()?;
        let domain = self.header.domain;
        let zeros = || vec![Fr::from(0u8); domain];
        let (mut a, mut b) = (zeros(), zeros());
        let gather = |out: &mut [Fr], products: &[(usize, usize, Fr)], wanted: usize| {
            for (matrix, row, value) in products {
                if *matrix == wanted {
                    out[*row] += value;
                }
            }
        };
        for batch in bytes.chunks(BATCH * COEFFICIENT_BYTES) {
            let products: Vec<(usize, usize, Fr)> = batch
                .par_chunks_exact(COEFFICIENT_BYTES)
                .map(|bytes| product(bytes, witness, domain))
                .collect::<Result<_>>()?;
            rayon::join(
                || gather(&mut a, &products, 0),
                || gather(&mut b, &products, 1),
            );
        }
        Ok([a, b])
    }
}

/// One coefficient times its wire's value. The file holds the coefficient times R^2:
/// taken as Montgomery limbs, like the plain witness value, their product is right.
fn product(bytes: &[u8], witness: &[BigInt<4>], domain: usize) -> Result<(usize, usize, Fr)> {
    let mut reader = Reader::new(bytes, "zkey coefficient");
    let matrix = reader.u32()? as usize;
    let row = reader.u32()? as usize;
    let wire = reader.u32()? as usize;
    let coefficient = reader.limbs()?;
    if matrix > 1 || row >= domain || wire >= witness.len() || coefficient >= Fr::MODULUS {
        return malformed("zkey: coefficient out of range");
    }
    let value = Fr::new_unchecked(coefficient) * Fr::new_unchecked(witness[wire]);
    Ok((matrix, row, value))
}

fn read_header(bytes: &[u8]) -> Result<Header> {
    let mut reader = Reader::new(bytes, "zkey header");
    for prime in [Fq::MODULUS, Fr::MODULUS] {
        if reader.u32()? != 32 || reader.limbs()? != prime {
            return malformed("zkey: the curve is not BN254");
        }
    }
    let (wires, public, domain) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if public >= wires {
        return malformed("zkey: more public signals than wires");
    }
    if !domain.is_power_of_two() || domain > MAX_DOMAIN {
        return malformed(format!("zkey: a domain of {domain}"));
    }
    let header = Header {
        wires: wires as usize,
        public: public as usize,
        domain: domain as usize,
        alpha1: read_point(&mut reader)?,
        beta1: read_point(&mut reader)?,
        beta2: read_point(&mut reader)?,
        gamma2: read_point(&mut reader)?,
        delta1: read_point(&mut reader)?,
        delta2: read_point(&mut reader)?,
    };
    reader.finish()?;
    Ok(header)
}

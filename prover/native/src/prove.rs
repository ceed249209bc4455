//! A Groth16 prover for snarkjs's keys and circom's witnesses.

use std::time::Instant;

use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine, G2Projective, g1, g2};
use ark_ec::pairing::Pairing;
use ark_ec::short_weierstrass::Projective;
use ark_ec::{AffineRepr, CurveGroup, VariableBaseMSM};
use ark_ff::{BigInt, FftField, One, PrimeField};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use rayon::prelude::*;
use zeroize::Zeroizing;

use crate::binfile::{BinFile, Reader};
use crate::error::{Result, malformed};
use crate::msm::msm;
use crate::points::KeyCurve;
use crate::setup::random_scalar;
use crate::zkey::{self, Header, Zkey};

pub struct Proof {
    pub a: G1Affine,
    pub b: G2Affine,
    pub c: G1Affine,
}

/// How long each step of a proof took, in order.
#[derive(Default)]
pub struct Steps(pub Vec<(&'static str, f64)>);

impl Steps {
    fn time<T>(&mut self, name: &'static str, step: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = step();
        self.0.push((name, started.elapsed().as_secs_f64()));
        done
    }
}

/// Prove a witness (a .wtns file's bytes), check the proof, and return it with the public signals.
pub fn prove(key: &Zkey, wtns: &[u8], steps: &mut Steps) -> Result<(Proof, Vec<BigInt<4>>)> {
    let witness = steps.time("witness", || read_witness(wtns, key.header.wires))?;
    let split = key.header.public + 1;

    let a = steps.time("A", || sum::<g1::Config>(key, zkey::A, &witness))?;
    let b1 = steps.time("B1", || sum::<g1::Config>(key, zkey::B1, &witness))?;
    let b2 = steps.time("B2", || sum::<g2::Config>(key, zkey::B2, &witness))?;
    let c = steps.time("C", || sum::<g1::Config>(key, zkey::C, &witness[split..]))?;
    let odd = steps.time("FFTs", || quotient(key, &witness))?;
    let h = steps.time("H", || sum::<g1::Config>(key, zkey::H, &odd))?;

    let proof = blind(&key.header, a, b1, b2, c + h)?;
    let signals = witness[1..split].to_vec();
    let holds = steps.time("check", || verify(&key.header, &key.ic, &proof, &signals));
    if !holds {
        return malformed(
            "the proof does not verify: the witness does not satisfy the key's circuit, or the zkey is damaged",
        );
    }
    Ok((proof, signals))
}

/// The scalars' sum over a section's points.
fn sum<P>(key: &Zkey, section: u32, scalars: &[BigInt<4>]) -> Result<Projective<P>>
where
    P: KeyCurve,
    P::ScalarField: PrimeField<BigInt = BigInt<4>>,
{
    Ok(msm(key.points(section, scalars)?, scalars.to_vec()))
}

/// Add what hides the witness: multiples of delta by two fresh scalars.
fn blind(
    header: &Header,
    a: G1Projective,
    b1: G1Projective,
    b2: G2Projective,
    c: G1Projective,
) -> Result<Proof> {
    let r = Zeroizing::new(random_scalar()?);
    let s = Zeroizing::new(random_scalar()?);
    let a = a + header.alpha1 + header.delta1 * *r;
    let b1 = b1 + header.beta1 + header.delta1 * *s;
    let b2 = b2 + header.beta2 + header.delta2 * *s;
    let c = c + a * *s + b1 * *r - header.delta1 * (*r * *s);
    Ok(Proof {
        a: a.into_affine(),
        b: b2.into_affine(),
        c: c.into_affine(),
    })
}

/// A*B - C on the odd powers of the doubled domain's root, the basis of section H.
fn quotient(key: &Zkey, witness: &[BigInt<4>]) -> Result<Vec<BigInt<4>>> {
    let size = key.header.domain;
    let (Some(domain), Some(shift)) = (
        Radix2EvaluationDomain::<Fr>::new(size),
        Fr::get_root_of_unity(2 * size as u64),
    ) else {
        return malformed(format!("zkey: a domain of {size}"));
    };
    let Some(coset) = domain.get_coset(shift) else {
        return malformed(format!("zkey: a domain of {size}"));
    };
    let [mut a, mut b] = key.evaluate(witness)?;
    let mut c: Vec<Fr> = a.par_iter().zip(&b).map(|(a, b)| *a * b).collect();
    for values in [&mut a, &mut b, &mut c] {
        domain.ifft_in_place(values);
        coset.fft_in_place(values);
    }
    Ok((a.par_iter(), b.par_iter(), c.par_iter())
        .into_par_iter()
        .map(|(a, b, c)| (*a * b - c).into_bigint())
        .collect())
}

/// The verifier's equation. `signals` are canonical.
fn verify(header: &Header, ic: &[G1Affine], proof: &Proof, signals: &[BigInt<4>]) -> bool {
    let inputs = ic[0] + G1Projective::msm_bigint(&ic[1..], signals);
    let sum = Bn254::multi_pairing(
        [
            (-proof.a.into_group()).into_affine(),
            header.alpha1,
            inputs.into_affine(),
            proof.c,
        ],
        [proof.b, header.beta2, header.gamma2, header.delta2],
    );
    sum.0.is_one()
}

/// The values of a .wtns file (version 2), canonical, `wires` of them, the first 1.
fn read_witness(bytes: &[u8], wires: usize) -> Result<Vec<BigInt<4>>> {
    let file = BinFile::parse(bytes, "wtns", 2)?;
    let mut header = Reader::new(file.section(1)?, "wtns header");
    if header.u32()? != 32 || header.limbs()? != Fr::MODULUS {
        return malformed("wtns: the field is not that of BN254");
    }
    let count = header.u32()?;
    header.finish()?;
    if count as usize != wires {
        return malformed(format!("wtns: {count} values, the key has {wires} wires"));
    }
    let values = file.section(2)?;
    if values.len() as u64 != u64::from(count) * 32 {
        return malformed("wtns: number of values does not fit their section");
    }
    let mut reader = Reader::new(values, "wtns");
    let witness: Vec<BigInt<4>> = (0..count)
        .map(|_| reader.field::<Fr>().map(|value| value.into_bigint()))
        .collect::<Result<_>>()?;
    if witness[0] != BigInt::from(1u64) {
        return malformed("wtns: the first value is not 1");
    }
    Ok(witness)
}

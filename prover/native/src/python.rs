//! What Python sees: conversions in and out, the interpreter's lock released between.

use std::path::PathBuf;

use ark_bn254::{Fq2, Fr, G1Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInt, PrimeField};
use num_bigint::{BigInt as Integer, BigUint, Sign};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt};
use rayon::prelude::*;

use crate::eddsa::Claim;
use crate::error::{Error, Result, malformed};
use crate::{eddsa, poseidon, prove, r1cs, setup};

#[pyfunction]
#[pyo3(name = "setup", signature = (r1cs_path, zkey_path, progress=None))]
fn py_setup(
    py: Python<'_>,
    r1cs_path: PathBuf,
    zkey_path: PathBuf,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'_, PyDict>> {
    let report = py.detach(|| {
        let mut tell = |stage: &str, share: f64| -> Result<()> {
            match &progress {
                None => Ok(()),
                Some(callback) => Python::attach(|py| {
                    callback.call1(py, (stage, share))?;
                    Ok(())
                }),
            }
        };
        setup::setup(&r1cs_path, &zkey_path, &mut tell)
    })?;
    let out = PyDict::new(py);
    out.set_item("constraints", report.header.constraints)?;
    out.set_item("wires", report.header.wires)?;
    out.set_item("public", report.header.public())?;
    out.set_item("domain_size", report.domain_size)?;
    out.set_item("coefficients", report.coefficients)?;
    out.set_item("circuit_hash", report.circuit_hash)?;
    Ok(out)
}

#[pyfunction]
fn r1cs_info(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let (header, linear) = py.detach(|| -> Result<_> {
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, &e))?;
        let file = r1cs::R1cs::parse(&bytes)?;
        let linear = file.count_linear()?;
        Ok((file.header, linear))
    })?;
    let out = PyDict::new(py);
    out.set_item("constraints", header.constraints)?;
    out.set_item("linear", linear)?;
    out.set_item("wires", header.wires)?;
    out.set_item("public_outputs", header.outputs)?;
    out.set_item("public_inputs", header.public_inputs)?;
    out.set_item("private_inputs", header.private_inputs)?;
    out.set_item("labels", header.labels)?;
    Ok(out)
}

#[pyfunction]
#[pyo3(name = "prove")]
fn py_prove(py: Python<'_>, zkey_path: PathBuf, wtns_path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let (proof, signals) = py.detach(|| prove::prove(&zkey_path, &wtns_path))?;
    let text = |value: BigInt<4>| BigUint::from(value).to_string();
    let g1 = |point: &G1Affine| -> Vec<String> {
        let (x, y) = point.xy().unwrap_or_default();
        vec![text(x.into_bigint()), text(y.into_bigint()), "1".into()]
    };
    let fq2 = |value: Fq2| vec![text(value.c0.into_bigint()), text(value.c1.into_bigint())];
    let (x, y) = proof.b.xy().unwrap_or_default();
    let json = PyDict::new(py);
    json.set_item("pi_a", g1(&proof.a))?;
    json.set_item("pi_b", vec![fq2(x), fq2(y), vec!["1".into(), "0".into()]])?;
    json.set_item("pi_c", g1(&proof.c))?;
    json.set_item("protocol", "groth16")?;
    json.set_item("curve", "bn128")?;
    let signals: Vec<String> = signals.into_iter().map(text).collect();
    let out = PyDict::new(py);
    out.set_item("proof", json)?;
    out.set_item("publicSignals", signals)?;
    Ok(out)
}

/// Limbs of a Python integer; `None` if negative or above 256 bits.
fn limbs(value: &Bound<'_, PyAny>) -> PyResult<Option<BigInt<4>>> {
    let (sign, words) = value.cast::<PyInt>()?.extract::<Integer>()?.to_u64_digits();
    if sign == Sign::Minus || words.len() > 4 {
        return Ok(None);
    }
    let mut out = [0; 4];
    out[..words.len()].copy_from_slice(&words);
    Ok(Some(BigInt::new(out)))
}

fn element(value: &Bound<'_, PyAny>) -> PyResult<Fr> {
    match limbs(value)?.and_then(Fr::from_bigint) {
        Some(element) => Ok(element),
        None => Ok(malformed("a Poseidon input is not in [0, r)")?),
    }
}

fn elements(row: &[Bound<'_, PyAny>]) -> PyResult<Vec<Fr>> {
    row.iter().map(element).collect()
}

fn integer(value: Fr) -> BigUint {
    value.into_bigint().into()
}

#[pyfunction]
#[pyo3(name = "poseidon")]
fn py_poseidon(py: Python<'_>, inputs: Vec<Bound<'_, PyAny>>) -> PyResult<BigUint> {
    let inputs = elements(&inputs)?;
    Ok(integer(py.detach(|| poseidon::hash(&inputs))?))
}

#[pyfunction]
fn poseidon_many(py: Python<'_>, rows: Vec<Vec<Bound<'_, PyAny>>>) -> PyResult<Vec<BigUint>> {
    let rows = rows
        .iter()
        .map(|row| elements(row))
        .collect::<PyResult<Vec<_>>>()?;
    let hashes: Result<Vec<Fr>> =
        py.detach(|| rows.par_iter().map(|row| poseidon::hash(row)).collect());
    Ok(hashes?.into_iter().map(integer).collect())
}

/// `None` if an integer is so far out of range that it does not fit the limbs.
fn claim(values: [&Bound<'_, PyAny>; 6]) -> PyResult<Option<Claim>> {
    let mut fields = [BigInt::zero(); 6];
    let mut fits = true;
    for (field, value) in fields.iter_mut().zip(values) {
        match limbs(value)? {
            Some(found) => *field = found,
            None => fits = false,
        }
    }
    let [pub_x, pub_y, r8x, r8y, s, message] = fields;
    Ok(fits.then_some(Claim {
        public: [pub_x, pub_y],
        r8: [r8x, r8y],
        s,
        message,
    }))
}

#[pyfunction]
fn eddsa_verify(
    py: Python<'_>,
    pub_x: &Bound<'_, PyAny>,
    pub_y: &Bound<'_, PyAny>,
    r8x: &Bound<'_, PyAny>,
    r8y: &Bound<'_, PyAny>,
    s: &Bound<'_, PyAny>,
    msg: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let claim = claim([pub_x, pub_y, r8x, r8y, s, msg])?;
    Ok(claim.is_some_and(|claim| py.detach(|| eddsa::verify(&claim))))
}

type Row<'py> = (
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
);

#[pyfunction]
fn eddsa_verify_many(py: Python<'_>, rows: Vec<Row<'_>>) -> PyResult<Vec<bool>> {
    let claims = rows
        .iter()
        .map(|(ax, ay, rx, ry, s, msg)| claim([ax, ay, rx, ry, s, msg]))
        .collect::<PyResult<Vec<_>>>()?;
    Ok(py.detach(|| {
        claims
            .par_iter()
            .map(|claim| claim.as_ref().is_some_and(eddsa::verify))
            .collect()
    }))
}

/// Put every function into the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(py_setup, module)?)?;
    module.add_function(wrap_pyfunction!(py_prove, module)?)?;
    module.add_function(wrap_pyfunction!(r1cs_info, module)?)?;
    module.add_function(wrap_pyfunction!(py_poseidon, module)?)?;
    module.add_function(wrap_pyfunction!(poseidon_many, module)?)?;
    module.add_function(wrap_pyfunction!(eddsa_verify, module)?)?;
    module.add_function(wrap_pyfunction!(eddsa_verify_many, module)?)?;
    Ok(())
}

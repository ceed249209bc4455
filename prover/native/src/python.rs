//! What Python sees: conversions in and out, the interpreter's lock released between.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ark_bn254::{Fq2, Fr, G1Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInt, PrimeField};
use num_bigint::{BigInt as Integer, BigUint, Sign};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt};
use rayon::prelude::*;

use crate::eddsa::Claim;
use crate::error::{Error, Result, malformed};
use crate::zkey::Zkey;
use crate::{eddsa, poseidon, prove, r1cs, setup};

/// Fewer hashes than these are not worth waking another core.
const MIN_HASHES: usize = 4;

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

/// What snarkjs's `fullProve` returns.
fn proof_dict<'py>(
    py: Python<'py>,
    proof: &prove::Proof,
    signals: Vec<BigInt<4>>,
) -> PyResult<Bound<'py, PyDict>> {
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

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io(path, &e))
}

#[pyfunction]
#[pyo3(name = "prove")]
fn py_prove(py: Python<'_>, zkey_path: PathBuf, wtns_path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let (proof, signals) = py.detach(|| -> Result<_> {
        let key = Zkey::open(&zkey_path)?;
        prove::prove(&key, &read(&wtns_path)?, &mut prove::Steps::default())
    })?;
    proof_dict(py, &proof, signals)
}

/// A key that stays mapped between proofs.
#[pyclass(frozen, module = "proofbook_native")]
struct Prover {
    key: Zkey,
    steps: Mutex<prove::Steps>,
}

#[pymethods]
impl Prover {
    #[new]
    fn new(py: Python<'_>, zkey_path: PathBuf) -> PyResult<Self> {
        let key = py.detach(|| Zkey::open(&zkey_path))?;
        Ok(Self {
            key,
            steps: Mutex::default(),
        })
    }

    fn prove<'py>(
        &self,
        py: Python<'py>,
        witness: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut steps = prove::Steps::default();
        let (proof, signals) = if let Ok(bytes) = witness.cast::<PyBytes>() {
            let bytes = bytes.as_bytes();
            py.detach(|| prove::prove(&self.key, bytes, &mut steps))?
        } else {
            let path: PathBuf = witness.extract()?;
            py.detach(|| prove::prove(&self.key, &read(&path)?, &mut steps))?
        };
        *self.steps.lock().expect("no thread panics here") = steps;
        proof_dict(py, &proof, signals)
    }

    #[getter]
    fn steps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        for (name, seconds) in &self.steps.lock().expect("no thread panics here").0 {
            out.set_item(name, seconds)?;
        }
        Ok(out)
    }

    #[getter]
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        out.set_item("wires", self.key.header.wires)?;
        out.set_item("public", self.key.header.public)?;
        out.set_item("domain_size", self.key.header.domain)?;
        out.set_item("key_bytes", self.key.bytes())?;
        Ok(out)
    }
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
    let hashes: Result<Vec<Fr>> = py.detach(|| {
        let rows = rows.par_iter().with_min_len(MIN_HASHES);
        rows.map(|row| poseidon::hash(row)).collect()
    });
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

#[pyfunction]
fn eddsa_sign(
    py: Python<'_>,
    private: &[u8],
    msg: &Bound<'_, PyAny>,
) -> PyResult<(BigUint, BigUint, BigUint)> {
    let Some(message) = limbs(msg)? else {
        return Ok(malformed("an EdDSA message is not in [0, r)")?);
    };
    let (x, y, s) = py.detach(|| eddsa::sign(private, &message))?;
    Ok((integer(x), integer(y), s.into_bigint().into()))
}

/// Put everything into the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(py_setup, module)?)?;
    module.add_function(wrap_pyfunction!(py_prove, module)?)?;
    module.add_class::<Prover>()?;
    module.add_function(wrap_pyfunction!(r1cs_info, module)?)?;
    module.add_function(wrap_pyfunction!(py_poseidon, module)?)?;
    module.add_function(wrap_pyfunction!(poseidon_many, module)?)?;
    module.add_function(wrap_pyfunction!(eddsa_sign, module)?)?;
    module.add_function(wrap_pyfunction!(eddsa_verify, module)?)?;
    module.add_function(wrap_pyfunction!(eddsa_verify_many, module)?)?;
    Ok(())
}

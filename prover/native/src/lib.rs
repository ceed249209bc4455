//! Rust core of Proofbook, as the Python module `proofbook_native`.

#![forbid(unsafe_code)]

pub mod binfile;
pub mod error;
pub mod fixed_base;
pub mod r1cs;
pub mod setup;

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{Error, Result};

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

#[pymodule]
fn proofbook_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(py_setup, module)?)?;
    module.add_function(wrap_pyfunction!(r1cs_info, module)?)?;
    Ok(())
}

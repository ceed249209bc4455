//! Rust core of Proofbook, as the Python module `proofbook_native`.

// One line is allowed it, in `mapping`.
#![deny(unsafe_code)]

pub mod binfile;
pub mod blake512;
pub mod eddsa;
pub mod error;
pub mod fixed_base;
pub mod mapping;
pub mod msm;
pub mod points;
pub mod poseidon;
pub mod prove;
mod python;
pub mod r1cs;
pub mod setup;
pub mod zkey;

use pyo3::prelude::*;

#[pymodule]
fn proofbook_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    python::register(module)
}

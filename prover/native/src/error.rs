//! The crate's one error type, and what each member becomes in Python.

use std::fmt;
use std::io;
use std::path::Path;

use pyo3::PyErr;
use pyo3::exceptions::PyValueError;

/// Everything that can go wrong on the way from a file to a result.
#[derive(Debug)]
pub enum Error {
    /// The input is not what its format says it must be: `ValueError`.
    Malformed(String),
    /// The operating system refused: `OSError`, or the subclass that fits.
    Io(io::Error),
    /// A Python callback raised: its own exception, unchanged.
    Python(PyErr),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Name the file in an I/O error, keeping its kind.
    pub fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io(io::Error::new(
            error.kind(),
            format!("{}: {error}", path.display()),
        ))
    }
}

/// Shorthand for `Err(Error::Malformed(..))`.
pub fn malformed<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Malformed(message.into()))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(message) => f.write_str(message),
            Self::Io(error) => error.fmt(f),
            Self::Python(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<PyErr> for Error {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::Malformed(message) => PyValueError::new_err(message),
            Error::Io(error) => error.into(),
            Error::Python(error) => error,
        }
    }
}

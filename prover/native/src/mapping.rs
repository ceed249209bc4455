//! A file in memory, read where it is used and dropped by the system when memory is short.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use crate::error::{Error, Result};

pub struct Mapping(memmap2::Mmap);

impl Mapping {
    /// Map a file for reading. It must not be written to while it is mapped.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, &e))?;
        // SAFETY: the bytes are only ever copied out, as integers that are checked after the copy, so a file that
        // changes meanwhile gives other values and breaks no invariant; a proof is checked before it leaves, so wrong
        // values go nowhere. Keys are written beside their place and renamed into it, never written in place: a
        // mapping keeps the file it was made of, whole. (Cutting that very file short would end the process, as it
        // would with any mapping.)
        let map = unsafe { memmap2::Mmap::map(&file) };
        Ok(Self(map.map_err(|e| Error::io(path, &e))?))
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

//! The container that iden3's .r1cs, .wtns and .zkey files share.
//!
//! Four bytes of magic, a version, a number of sections; each section a type
//! (u32), a length (u64) and its bytes. All integers are little-endian.

use ark_ff::{BigInt, PrimeField};

use crate::error::{Result, malformed};

/// A section count above this is no file of ours.
const MAX_SECTIONS: u32 = 64;

/// Reads integers and field elements off a byte slice; never past its end.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(count) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => malformed(format!("{}: ends too early", self.what)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn limbs(&mut self) -> Result<BigInt<4>> {
        Ok(limbs(&self.array()?))
    }

    /// A canonical field element in plain (not Montgomery) form.
    pub fn field<F: PrimeField<BigInt = BigInt<4>>>(&mut self) -> Result<F> {
        match F::from_bigint(self.limbs()?) {
            Some(value) => Ok(value),
            None => malformed(format!("{}: value not below the field's prime", self.what)),
        }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        malformed(format!("{}: {} bytes too many", self.what, self.rest.len()))
    }
}

/// Little-endian bytes to limbs.
pub fn limbs(bytes: &[u8; 32]) -> BigInt<4> {
    let mut out = [0u64; 4];
    for (limb, chunk) in out.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        *limb = u64::from_le_bytes(word);
    }
    BigInt::new(out)
}

/// The sections of one file, by type.
pub struct BinFile<'a> {
    kind: &'static str,
    sections: Vec<(u32, &'a [u8])>,
}

impl<'a> BinFile<'a> {
    /// Split `bytes` into sections, checking magic, version and every length.
    pub fn parse(bytes: &'a [u8], kind: &'static str, version: u32) -> Result<Self> {
        let mut reader = Reader::new(bytes, kind);
        if reader.take(4)? != kind.as_bytes() {
            return malformed(format!("{kind}: not a .{kind} file"));
        }
        let found = reader.u32()?;
        if found != version {
            return malformed(format!("{kind}: version {found}, expected {version}"));
        }
        let count = reader.u32()?;
        if count > MAX_SECTIONS {
            return malformed(format!("{kind}: {count} sections"));
        }
        let mut sections = Vec::new();
        for _ in 0..count {
            let id = reader.u32()?;
            let Ok(size) = usize::try_from(reader.u64()?) else {
                return malformed(format!("{kind}: section {id} is too long"));
            };
            sections.push((id, reader.take(size)?));
        }
        reader.finish()?;
        Ok(Self { kind, sections })
    }

    /// The one section of that type.
    pub fn section(&self, id: u32) -> Result<&'a [u8]> {
        match self.find(id)? {
            Some(bytes) => Ok(bytes),
            None => malformed(format!("{}: section {id} is missing", self.kind)),
        }
    }

    /// The section of that type, if there is one; two are an error.
    pub fn find(&self, id: u32) -> Result<Option<&'a [u8]>> {
        let mut hits = self.sections.iter().filter(|(found, _)| *found == id);
        let first = hits.next();
        if hits.next().is_some() {
            return malformed(format!("{}: section {id} stands twice", self.kind));
        }
        Ok(first.map(|(_, bytes)| *bytes))
    }
}

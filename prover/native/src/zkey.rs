//! Reader of snarkjs's Groth16 .zkey files; a section at a time, since they are large.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ark_bn254::{Fq, Fr, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ec::short_weierstrass::Affine;
use ark_ff::{BigInt, PrimeField};
use rayon::prelude::*;

use crate::binfile::Reader;
use crate::error::{Error, Result, malformed};
use crate::points::{KeyCurve, read_point};

pub const IC: u32 = 3;
pub const COEFFICIENTS: u32 = 4;
pub const A: u32 = 5;
pub const B1: u32 = 6;
pub const B2: u32 = 7;
pub const C: u32 = 8;
pub const H: u32 = 9;

const MAX_SECTIONS: u32 = 64;
const MAX_DOMAIN: u32 = 1 << 27;
const HEADER_BYTES: u64 = 2 * 36 + 12 + 3 * 64 + 3 * 128;
const COEFFICIENT_BYTES: usize = 44;
/// Items read at once.
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
    file: SectionFile,
}

impl Zkey {
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = SectionFile::open(path)?;
        if Reader::new(&file.whole(1, 4)?, "zkey").u32()? != 1 {
            return malformed("zkey: not a Groth16 key");
        }
        let header = read_header(&file.whole(2, HEADER_BYTES)?)?;
        Ok(Self { header, file })
    }

    /// Section `id`'s points where `scalars` is not zero, with those scalars.
    pub fn points<P: KeyCurve>(
        &mut self,
        id: u32,
        scalars: &[BigInt<4>],
    ) -> Result<(Vec<Affine<P>>, Vec<BigInt<4>>)> {
        self.file
            .seek_to(id, scalars.len() as u64 * P::BYTES as u64)?;
        let mut points = Vec::with_capacity(scalars.len());
        let mut kept = Vec::with_capacity(scalars.len());
        let mut buffer = Vec::new();
        for batch in scalars.chunks(BATCH) {
            buffer.resize(batch.len() * P::BYTES, 0);
            self.file.read(&mut buffer)?;
            let read: Vec<Option<Affine<P>>> = buffer
                .par_chunks_exact(P::BYTES)
                .zip(batch)
                .map(|(bytes, scalar)| {
                    if *scalar == BigInt::zero() {
                        return Ok(None);
                    }
                    let point: Affine<P> = read_point(&mut Reader::new(bytes, "zkey point"))?;
                    Ok((!point.is_zero()).then_some(point))
                })
                .collect::<Result<_>>()?;
            for (point, scalar) in read.into_iter().zip(batch) {
                if let Some(point) = point {
                    points.push(point);
                    kept.push(*scalar);
                }
            }
        }
        Ok((points, kept))
    }

    /// The whole section of G1 points, infinities too.
    pub fn all_points<P: KeyCurve>(&mut self, id: u32, count: usize) -> Result<Vec<Affine<P>>> {
        let bytes = self.file.whole(id, count as u64 * P::BYTES as u64)?;
        let mut reader = Reader::new(&bytes, "zkey point");
        (0..count).map(|_| read_point(&mut reader)).collect()
    }

    /// A's and B's products with the witness, a value a row of the domain.
    pub fn evaluate(&mut self, witness: &[BigInt<4>]) -> Result<[Vec<Fr>; 2]> {
        let size = self.file.size(COEFFICIENTS)?;
        self.file.seek_to(COEFFICIENTS, size)?;
        let mut count = [0; 4];
        self.file.read(&mut count)?;
        let mut left = u32::from_le_bytes(count) as usize;
        if size != 4 + left as u64 * COEFFICIENT_BYTES as u64 {
            return malformed("zkey: coefficient section of another length");
        }
        let domain = self.header.domain;
        let mut out = [vec![Fr::from(0u8); domain], vec![Fr::from(0u8); domain]];
        let mut buffer = Vec::new();
        while left > 0 {
            let batch = left.min(BATCH);
            buffer.resize(batch * COEFFICIENT_BYTES, 0);
            self.file.read(&mut buffer)?;
            let products: Vec<(usize, usize, Fr)> = buffer
                .par_chunks_exact(COEFFICIENT_BYTES)
                .map(|bytes| product(bytes, witness, domain))
                .collect::<Result<_>>()?;
            for (matrix, row, value) in products {
                out[matrix][row] += value;
            }
            left -= batch;
        }
        Ok(out)
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

/// A file in iden3's container, its sections found but not read.
struct SectionFile {
    path: PathBuf,
    file: File,
    /// type, offset, length
    sections: Vec<(u32, u64, u64)>,
}

impl SectionFile {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, &e))?;
        let length = file.metadata().map_err(|e| Error::io(path, &e))?.len();
        let mut found = Self {
            path: path.to_owned(),
            file,
            sections: Vec::new(),
        };
        let mut head = [0; 12];
        if length < 12 {
            return malformed("zkey: ends too early");
        }
        found.read(&mut head)?;
        let mut reader = Reader::new(&head, "zkey");
        if reader.take(4)? != b"zkey" || reader.u32()? != 1 {
            return malformed("zkey: not a .zkey file of version 1");
        }
        let count = reader.u32()?;
        if count > MAX_SECTIONS {
            return malformed(format!("zkey: {count} sections"));
        }
        let mut at = 12u64;
        for _ in 0..count {
            at = found.find_section(at, length)?;
        }
        if at != length {
            return malformed(format!("zkey: {} bytes too many", length - at));
        }
        Ok(found)
    }

    /// Note the section whose head is at `at`; returns where it ends.
    fn find_section(&mut self, at: u64, length: u64) -> Result<u64> {
        if length - at < 12 {
            return malformed("zkey: ends too early");
        }
        let mut head = [0; 12];
        self.file
            .seek(SeekFrom::Start(at))
            .map_err(|e| Error::io(&self.path, &e))?;
        self.read(&mut head)?;
        let mut reader = Reader::new(&head, "zkey");
        let (id, size) = (reader.u32()?, reader.u64()?);
        if size > length - at - 12 {
            return malformed(format!("zkey: section {id} is longer than the file"));
        }
        if self.sections.iter().any(|(other, ..)| *other == id) {
            return malformed(format!("zkey: section {id} stands twice"));
        }
        self.sections.push((id, at + 12, size));
        Ok(at + 12 + size)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.file
            .read_exact(buffer)
            .map_err(|e| Error::io(&self.path, &e))
    }

    fn size(&self, id: u32) -> Result<u64> {
        Ok(self.place(id)?.1)
    }

    fn place(&self, id: u32) -> Result<(u64, u64)> {
        match self.sections.iter().find(|(found, ..)| *found == id) {
            Some((_, offset, size)) => Ok((*offset, *size)),
            None => malformed(format!("zkey: section {id} is missing")),
        }
    }

    /// Go to the start of a section, which must have that size.
    fn seek_to(&mut self, id: u32, expected: u64) -> Result<()> {
        let (offset, size) = self.place(id)?;
        if size != expected {
            return malformed(format!(
                "zkey: section {id} has {size} bytes, not {expected}"
            ));
        }
        self.file
            .seek(SeekFrom::Start(offset))
            .map_err(|e| Error::io(&self.path, &e))?;
        Ok(())
    }

    fn whole(&mut self, id: u32, expected: u64) -> Result<Vec<u8>> {
        self.seek_to(id, expected)?;
        let mut out = vec![0; expected as usize];
        self.read(&mut out)?;
        Ok(out)
    }
}

//! Reader of circom's .r1cs files (iden3 binary format, version 1).

use ark_bn254::Fr;
use ark_ff::{BigInt, PrimeField};

use crate::binfile::{BinFile, Reader};
use crate::error::{Result, malformed};

const HEADER: u32 = 1;
const CONSTRAINTS: u32 = 2;
const LABELS: u32 = 3;
const CUSTOM_GATES_USED: u32 = 5;

/// A wire and its coefficient.
pub type Term = (u32, Fr);

/// What the header says, checked against the file's size.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub wires: u32,
    pub outputs: u32,
    pub public_inputs: u32,
    pub private_inputs: u32,
    pub labels: u64,
    pub constraints: u32,
}

impl Header {
    /// Public signals, the constant one not counted.
    pub fn public(&self) -> u32 {
        // cannot overflow: checked against `wires` when the header was read
        self.outputs + self.public_inputs
    }
}

/// A parsed file: the header, and the constraints still as bytes.
pub struct R1cs<'a> {
    pub header: Header,
    constraints: &'a [u8],
}

impl<'a> R1cs<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let file = BinFile::parse(bytes, "r1cs", 1)?;
        let header = read_header(file.section(HEADER)?)?;
        let constraints = file.section(CONSTRAINTS)?;
        // These two tie every later allocation to the file's real size.
        if file.section(LABELS)?.len() as u64 != u64::from(header.wires) * 8 {
            return malformed("r1cs: number of wires does not fit the label section");
        }
        if (constraints.len() as u64) < u64::from(header.constraints) * 12 {
            return malformed("r1cs: number of constraints does not fit their section");
        }
        if let Some(uses) = file.find(CUSTOM_GATES_USED)?
            && Reader::new(uses, "r1cs custom gates").u32()? != 0
        {
            return malformed("r1cs: custom gates are no part of Groth16");
        }
        Ok(Self {
            header,
            constraints,
        })
    }

    /// Call `visit(index, a, b, c)` for every constraint, in order.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(u32, &[Term], &[Term], &[Term]) -> Result<()>,
    ) -> Result<()> {
        let mut reader = Reader::new(self.constraints, "r1cs constraints");
        let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..self.header.constraints {
            for side in [&mut a, &mut b, &mut c] {
                read_combination(&mut reader, self.header.wires, side)?;
            }
            visit(index, &a, &b, &c)?;
        }
        reader.finish()
    }

    /// Number of constraints whose A or B is empty or only a constant.
    pub fn count_linear(&self) -> Result<u32> {
        let mut linear = 0;
        self.for_each(|_, a, b, _| {
            let constant = |side: &[Term]| side.iter().all(|(wire, _)| *wire == 0);
            linear += u32::from(constant(a) || constant(b));
            Ok(())
        })?;
        Ok(linear)
    }
}

fn read_header(bytes: &[u8]) -> Result<Header> {
    let mut reader = Reader::new(bytes, "r1cs header");
    if reader.u32()? != 32 {
        return malformed("r1cs: field elements are not of 32 bytes");
    }
    if reader.limbs()? != Fr::MODULUS {
        return malformed("r1cs: the field is not that of BN254");
    }
    let header = Header {
        wires: reader.u32()?,
        outputs: reader.u32()?,
        public_inputs: reader.u32()?,
        private_inputs: reader.u32()?,
        labels: reader.u64()?,
        constraints: reader.u32()?,
    };
    reader.finish()?;
    let named = [header.outputs, header.public_inputs, header.private_inputs]
        .iter()
        .fold(1, |sum: u64, count| sum + u64::from(*count));
    if named > u64::from(header.wires) {
        return malformed("r1cs: more inputs and outputs than wires");
    }
    Ok(header)
}

fn read_combination(reader: &mut Reader<'_>, wires: u32, out: &mut Vec<Term>) -> Result<()> {
    out.clear();
    let count = reader.u32()?;
    for _ in 0..count {
        let wire = reader.u32()?;
        if wire >= wires {
            return malformed(format!("r1cs: wire {wire} of {wires}"));
        }
        let value: BigInt<4> = reader.limbs()?;
        match Fr::from_bigint(value) {
            Some(value) => out.push((wire, value)),
            None => return malformed("r1cs: coefficient not below the field's prime"),
        }
    }
    Ok(())
}

//! A development Groth16 set-up, straight from the constraints.
//!
//! Whoever knows tau needs no transforms of points: every point of the key is a
//! known scalar times a generator. That is also why such a key is for
//! development only: this process knew the trapdoor, and could have kept it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use ark_bn254::{Fq, Fr, G1Affine, G2Affine, g1, g2};
use ark_ec::AffineRepr;
use ark_ff::{FftField, Field, One, PrimeField, Zero, batch_inversion};
use blake2::{Blake2b512, Digest};
use rayon::prelude::*;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result, malformed};
use crate::fixed_base::FixedBase;
use crate::points::{KeyCurve, put_limbs, put_point};
use crate::r1cs::{Header, R1cs, Term};

/// Largest domain: its odd coset lives in one of twice the size, and BN254's
/// scalar field has roots of unity up to 2^28.
const MAX_POWER: u32 = 27;
const POINTS_PER_WRITE: usize = 1 << 15;
const COEFFICIENT_BYTES: u64 = 44;
const G1_BYTES: u64 = 64;
const G2_BYTES: u64 = 128;

/// Told the stage and the share of the whole that is done.
pub type Progress<'a> = dyn FnMut(&str, f64) -> Result<()> + 'a;

/// What a set-up made.
pub struct Report {
    pub header: Header,
    pub domain_size: u64,
    pub coefficients: u64,
    pub circuit_hash: String,
}

/// The trapdoor; wiped when dropped. gamma is 1, as in snarkjs's keys.
struct Trapdoor {
    tau: Fr,
    alpha: Fr,
    beta: Fr,
    delta: Fr,
}

impl Drop for Trapdoor {
    fn drop(&mut self) {
        self.tau.zeroize();
        self.alpha.zeroize();
        self.beta.zeroize();
        self.delta.zeroize();
    }
}

impl Trapdoor {
    fn random(domain: u64) -> Result<Self> {
        let tau = loop {
            let tau = random_scalar()?;
            // a tau inside the doubled domain would make a Lagrange basis of zeros
            if !tau.pow([2 * domain]).is_one() {
                break tau;
            }
        };
        Ok(Self {
            tau,
            alpha: random_scalar()?,
            beta: random_scalar()?,
            delta: random_scalar()?,
        })
    }
}

/// A uniform non-zero scalar from the operating system's generator.
pub fn random_scalar() -> Result<Fr> {
    let mut bytes = Zeroizing::new([0u8; 64]);
    loop {
        getrandom::fill(bytes.as_mut()).map_err(|e| Error::Io(std::io::Error::other(e)))?;
        let scalar = Fr::from_le_bytes_mod_order(bytes.as_ref());
        if !scalar.is_zero() {
            return Ok(scalar);
        }
    }
}

/// The QAP's polynomials at tau, one value a wire.
struct Qap {
    a: Zeroizing<Vec<Fr>>,
    b: Zeroizing<Vec<Fr>>,
    c: Zeroizing<Vec<Fr>>,
    coefficients: u64,
}

/// Read `r1cs_path`, draw a trapdoor, write the key to `zkey_path`.
pub fn setup(r1cs_path: &Path, zkey_path: &Path, progress: &mut Progress<'_>) -> Result<Report> {
    progress("read", 0.0)?;
    let bytes = std::fs::read(r1cs_path).map_err(|e| Error::io(r1cs_path, &e))?;
    let r1cs = R1cs::parse(&bytes)?;
    let power = domain_power(&r1cs.header)?;
    let domain = 1u64 << power;
    let trapdoor = Trapdoor::random(domain)?;
    progress("qap", 0.02)?;
    let qap = evaluate_qap(&r1cs, trapdoor.tau, power)?;

    let directory = match zkey_path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = new_temporary(directory).map_err(|e| Error::io(directory, &e))?;
    let circuit_hash = {
        let mut key = KeyWriter::new(temporary.as_file_mut());
        write_key(&mut key, &r1cs, &trapdoor, &qap, power, progress)
            .map_err(|e| name_file(e, zkey_path))?
    };
    temporary
        .as_file()
        .sync_all()
        .map_err(|e| Error::io(zkey_path, &e))?;
    temporary
        .persist(zkey_path)
        .map_err(|e| Error::io(zkey_path, &e.error))?;
    progress("done", 1.0)?;
    Ok(Report {
        header: r1cs.header,
        domain_size: domain,
        coefficients: qap.coefficients,
        circuit_hash,
    })
}

fn name_file(error: Error, path: &Path) -> Error {
    match error {
        Error::Io(error) => Error::io(path, &error),
        other => other,
    }
}

/// A key is public: readable as the umask says, not by its owner alone.
fn new_temporary(directory: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".zkey-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory)
}

/// The domain holds each constraint, and a row a public signal and the one.
fn domain_power(header: &Header) -> Result<u32> {
    let last = u64::from(header.constraints) + u64::from(header.public());
    let power = last.max(1).ilog2() + 1;
    if power > MAX_POWER {
        return malformed(format!(
            "r1cs: {} constraints need a domain of 2^{power}; at most 2^{MAX_POWER} is possible",
            header.constraints
        ));
    }
    Ok(power)
}

/// `numerator * w^i / (count * (tau - w^i * shift))` times `shift`: Lagrange values.
fn lagrange(
    tau: Fr,
    root: Fr,
    shift: Fr,
    count: usize,
    numerator: Fr,
) -> Result<Zeroizing<Vec<Fr>>> {
    const BLOCK: usize = 1 << 12;
    let mut values = Zeroizing::new(vec![Fr::zero(); count]);
    let powers = |block: usize| shift * root.pow([(block * BLOCK) as u64]);
    values
        .par_chunks_mut(BLOCK)
        .enumerate()
        .for_each(|(block, chunk)| {
            let mut power = powers(block);
            for value in chunk.iter_mut() {
                *value = tau - power;
                power *= root;
            }
            batch_inversion(chunk);
            let mut power = powers(block) * numerator;
            for value in chunk.iter_mut() {
                *value *= power;
                power *= root;
            }
        });
    Ok(values)
}

fn root_of_unity(size: u64) -> Result<Fr> {
    match Fr::get_root_of_unity(size) {
        Some(root) => Ok(root),
        None => malformed(format!("no root of unity of order {size}")),
    }
}

fn inverse(value: Fr) -> Result<Fr> {
    match value.inverse() {
        Some(inverse) => Ok(inverse),
        None => malformed("zero has no inverse"),
    }
}

fn evaluate_qap(r1cs: &R1cs<'_>, tau: Fr, power: u32) -> Result<Qap> {
    let domain = 1u64 << power;
    let vanishing = tau.pow([domain]) - Fr::one();
    let numerator = vanishing * inverse(Fr::from(domain))?;
    let basis = lagrange(
        tau,
        root_of_unity(domain)?,
        Fr::one(),
        domain as usize,
        numerator,
    )?;
    let wires = r1cs.header.wires as usize;
    let zeros = || Zeroizing::new(vec![Fr::zero(); wires]);
    let (mut a, mut b, mut c) = (zeros(), zeros(), zeros());
    let mut coefficients = 0u64;
    let add = |to: &mut [Fr], side: &[Term], weight: Fr| {
        for (wire, value) in side {
            to[*wire as usize] += weight * value;
        }
    };
    r1cs.for_each(|row, left, right, out| {
        let weight = basis[row as usize];
        add(&mut a, left, weight);
        add(&mut b, right, weight);
        add(&mut c, out, weight);
        coefficients += (left.len() + right.len()) as u64;
        Ok(())
    })?;
    // a row for the one and for each public signal keeps their polynomials independent
    for signal in 0..=r1cs.header.public() {
        let row = r1cs.header.constraints as usize + signal as usize;
        a[signal as usize] += basis[row];
        coefficients += 1;
    }
    Ok(Qap {
        a,
        b,
        c,
        coefficients,
    })
}

/// Writes sections, and hashes all that it writes.
struct KeyWriter<'a> {
    out: BufWriter<&'a mut File>,
    hash: Blake2b512,
}

impl<'a> KeyWriter<'a> {
    fn new(file: &'a mut File) -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 20, file),
            hash: Blake2b512::new(),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        Ok(self.out.write_all(bytes)?)
    }

    fn u32(&mut self, value: u32) -> Result<()> {
        self.bytes(&value.to_le_bytes())
    }

    fn section(&mut self, id: u32, size: u64) -> Result<()> {
        self.u32(id)?;
        self.bytes(&size.to_le_bytes())
    }
}

/// A share of the whole run, for the progress of one section.
struct Stage {
    name: &'static str,
    from: f64,
    to: f64,
}

fn write_points<P>(
    key: &mut KeyWriter<'_>,
    base: &FixedBase<P>,
    scalars: &[Fr],
    stage: &Stage,
    progress: &mut Progress<'_>,
) -> Result<()>
where
    P: KeyCurve<ScalarField = Fr>,
{
    let total = scalars.len().max(1) as f64;
    let mut buffer = Vec::new();
    let mut done = 0usize;
    for chunk in scalars.chunks(POINTS_PER_WRITE) {
        progress(
            stage.name,
            stage.from + (stage.to - stage.from) * (done as f64 / total),
        )?;
        buffer.clear();
        for point in base.multiply(chunk) {
            put_point(&mut buffer, &point);
        }
        key.bytes(&buffer)?;
        done += chunk.len();
    }
    Ok(())
}

fn write_key(
    key: &mut KeyWriter<'_>,
    r1cs: &R1cs<'_>,
    trapdoor: &Trapdoor,
    qap: &Qap,
    power: u32,
    progress: &mut Progress<'_>,
) -> Result<String> {
    let domain = 1u64 << power;
    let wires = u64::from(r1cs.header.wires);
    let split = r1cs.header.public() as usize + 1;
    let base1 = FixedBase::<g1::Config>::new(
        G1Affine::generator(),
        (3 * wires).saturating_add(domain) as usize,
    );
    let base2 = FixedBase::<g2::Config>::new(G2Affine::generator(), wires as usize);

    key.bytes(b"zkey")?;
    key.u32(1)?;
    key.u32(10)?;
    key.section(1, 4)?;
    key.u32(1)?; // Groth16
    write_header(key, &r1cs.header, trapdoor, domain as u32)?;
    progress("coefficients", 0.06)?;
    write_coefficients(key, r1cs, qap.coefficients)?;

    let mut rest = combine(qap, trapdoor);
    let over_delta = inverse(trapdoor.delta)?;
    rest[split..].par_iter_mut().for_each(|v| *v *= over_delta);
    let odd = odd_basis(trapdoor, over_delta, power)?;
    let mut g1 = |key: &mut KeyWriter<'_>, id, scalars: &[Fr], name, from, to| {
        key.section(id, scalars.len() as u64 * G1_BYTES)?;
        write_points(key, &base1, scalars, &Stage { name, from, to }, progress)
    };
    g1(key, 3, &rest[..split], "ic", 0.1, 0.1)?;
    g1(key, 9, &odd, "h", 0.1, 0.38)?;
    g1(key, 8, &rest[split..], "c", 0.38, 0.52)?;
    g1(key, 5, &qap.a, "a", 0.52, 0.64)?;
    g1(key, 6, &qap.b, "b1", 0.64, 0.72)?;
    key.section(7, wires * G2_BYTES)?;
    let stage = Stage {
        name: "b2",
        from: 0.72,
        to: 0.99,
    };
    write_points(key, &base2, &qap.b, &stage, progress)?;
    write_contributions(key)
}

/// `beta * a + alpha * b + c` of every wire.
fn combine(qap: &Qap, trapdoor: &Trapdoor) -> Zeroizing<Vec<Fr>> {
    let (alpha, beta) = (trapdoor.alpha, trapdoor.beta);
    let sides = (qap.a.par_iter(), qap.b.par_iter(), qap.c.par_iter());
    Zeroizing::new(
        sides
            .into_par_iter()
            .map(|(a, b, c)| beta * a + alpha * b + c)
            .collect(),
    )
}

/// snarkjs evaluates A*B-C on the odd powers of the root of the doubled domain;
/// on the even ones it is zero. So H's bases are the odd Lagrange values there.
fn odd_basis(trapdoor: &Trapdoor, over_delta: Fr, power: u32) -> Result<Zeroizing<Vec<Fr>>> {
    let doubled = 2u64 << power;
    let tau = trapdoor.tau;
    let vanishing = tau.pow([doubled]) - Fr::one();
    let numerator = vanishing * inverse(Fr::from(doubled))? * over_delta;
    let root = root_of_unity(doubled)?;
    lagrange(tau, root.square(), root, 1 << power, numerator)
}

fn write_header(
    key: &mut KeyWriter<'_>,
    header: &Header,
    trapdoor: &Trapdoor,
    domain: u32,
) -> Result<()> {
    let one = G1Affine::generator();
    let two = G2Affine::generator();
    let mut out = Vec::new();
    out.extend_from_slice(&32u32.to_le_bytes());
    put_limbs(&mut out, &Fq::MODULUS);
    out.extend_from_slice(&32u32.to_le_bytes());
    put_limbs(&mut out, &Fr::MODULUS);
    for value in [header.wires, header.public(), domain] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    let g1 = |scalar: Fr| G1Affine::from(one * scalar);
    let g2 = |scalar: Fr| G2Affine::from(two * scalar);
    put_point(&mut out, &g1(trapdoor.alpha));
    put_point(&mut out, &g1(trapdoor.beta));
    put_point(&mut out, &g2(trapdoor.beta));
    put_point(&mut out, &two); // gamma
    put_point(&mut out, &g1(trapdoor.delta));
    put_point(&mut out, &g2(trapdoor.delta));
    key.section(2, out.len() as u64)?;
    key.bytes(&out)
}

/// A's and B's coefficients, each times R^2: one Montgomery product with a plain
/// witness value then gives the prover a product in Montgomery form.
fn write_coefficients(key: &mut KeyWriter<'_>, r1cs: &R1cs<'_>, count: u64) -> Result<()> {
    let Ok(short) = u32::try_from(count) else {
        return malformed(format!(
            "r1cs: {count} coefficients, the format ends at 2^32"
        ));
    };
    key.section(4, 4 + count * COEFFICIENT_BYTES)?;
    key.u32(short)?;
    let scale = Fr::new(Fr::R);
    let put = |out: &mut Vec<u8>, matrix: u32, row: u32, (wire, value): Term| {
        for word in [matrix, row, wire] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        put_limbs(out, &(value * scale).0);
    };
    let mut out = Vec::new();
    r1cs.for_each(|row, a, b, _| {
        a.iter().for_each(|term| put(&mut out, 0, row, *term));
        b.iter().for_each(|term| put(&mut out, 1, row, *term));
        if out.len() > 1 << 20 {
            key.bytes(&out)?;
            out.clear();
        }
        Ok(())
    })?;
    for signal in 0..=r1cs.header.public() {
        put(
            &mut out,
            0,
            r1cs.header.constraints + signal,
            (signal, Fr::one()),
        );
    }
    key.bytes(&out)
}

/// No contributions, and a circuit hash: BLAKE2b-512 of the file up to here.
/// (snarkjs hashes the key before its first contribution, which never existed.)
fn write_contributions(key: &mut KeyWriter<'_>) -> Result<String> {
    let digest = key.hash.clone().finalize();
    key.section(10, 68)?;
    key.bytes(&digest)?;
    key.u32(0)?;
    key.out.flush()?;
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

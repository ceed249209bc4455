//! EdDSA-Poseidon on BabyJubjub: signing as circomlibjs does, and strict verification.
//!
//! Verification accepts nothing that the circuits reject: coordinates and message below the
//! prime, S below the subgroup's order, key and R8 on the curve, key not of low
//! order, and S * Base8 = R8 + h * 8 * A.

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_ff::{
    AdditiveGroup, BigInt, BigInteger, Field, Fp256, MontBackend, MontConfig, MontFp, One,
    PrimeField, Zero,
};
use zeroize::Zeroizing;

use crate::blake512::blake512;
use crate::error::{Result, malformed};
use crate::poseidon;

const A: u64 = 168_700;
const D: u64 = 168_696;
const BASE8: (Fr, Fr) = (
    MontFp!("5299619240641551281634865583518297030282874472190772894086521144482721001553"),
    MontFp!("16950150798460657717958625567821834550301663161624707787222815936182638968203"),
);
const BASE_WINDOW: usize = 9; // its table is made once
const KEY_WINDOW: usize = 5;

pub const PRIVATE_KEY_BYTES: usize = 32;

/// Integers modulo the subgroup's order.
#[derive(MontConfig)]
#[modulus = "2736030358979909402780800718157159386076813972158567259200215660948447373041"]
#[generator = "31"]
pub struct ScalarConfig;
pub type Scalar = Fp256<MontBackend<ScalarConfig, 4>>;

/// A signature with its key and message, as integers of at most 256 bits.
pub struct Claim {
    pub public: [BigInt<4>; 2],
    pub r8: [BigInt<4>; 2],
    pub s: BigInt<4>,
    pub message: BigInt<4>,
}

/// The curve with a = -1 that BabyJubjub maps to by (x, y) -> (root * x, y), where
/// root^2 = -A. There -1 is a square and d is none, so its additions are complete.
struct Curve {
    root: Fr,
    twice_d: Fr,
    base: Vec<Addend>,
}

/// x = X/Z, y = Y/Z, T = XY/Z.
#[derive(Clone, Copy)]
struct Point {
    x: Fr,
    y: Fr,
    z: Fr,
    t: Fr,
}

/// (Y - X, Y + X, 2Z, 2dT): what an addition needs of its second operand.
#[derive(Clone, Copy)]
struct Addend {
    minus: Fr,
    plus: Fr,
    zz: Fr,
    dt: Fr,
}

impl Point {
    fn identity() -> Self {
        Self {
            x: Fr::zero(),
            y: Fr::one(),
            z: Fr::one(),
            t: Fr::zero(),
        }
    }

    fn add(&self, other: &Addend) -> Self {
        let a = (self.y - self.x) * other.minus;
        let b = (self.y + self.x) * other.plus;
        let c = self.t * other.dt;
        let d = self.z * other.zz;
        Self::close(b - a, d - c, d + c, b + a)
    }

    fn double(&self) -> Self {
        let a = self.x.square();
        let b = self.y.square();
        let c = self.z.square().double();
        let h = a + b;
        let e = h - (self.x + self.y).square();
        let g = a - b;
        Self::close(e, c + g, g, h)
    }

    fn close(e: Fr, f: Fr, g: Fr, h: Fr) -> Self {
        Self {
            x: e * f,
            y: g * h,
            z: f * g,
            t: e * h,
        }
    }

    fn is_identity(&self) -> bool {
        self.x.is_zero() && self.y == self.z
    }
}

impl Addend {
    fn negated(&self) -> Self {
        Self {
            minus: self.plus,
            plus: self.minus,
            zz: self.zz,
            dt: -self.dt,
        }
    }
}

impl Curve {
    fn get() -> &'static Self {
        static CURVE: OnceLock<Curve> = OnceLock::new();
        CURVE.get_or_init(|| {
            let minus_a = -Fr::from(A);
            let mut curve = Self {
                root: minus_a.sqrt().expect("-A is a square modulo this prime"),
                twice_d: Fr::from(2 * D) * minus_a.inverse().expect("A is not zero"),
                base: Vec::new(),
            };
            let base8 = curve.enter(BASE8.0, BASE8.1);
            curve.base = curve.odd_multiples(base8, BASE_WINDOW);
            curve
        })
    }

    fn enter(&self, x: Fr, y: Fr) -> Point {
        let x = x * self.root;
        Point {
            x,
            y,
            z: Fr::one(),
            t: x * y,
        }
    }

    fn addend(&self, point: &Point) -> Addend {
        Addend {
            minus: point.y - point.x,
            plus: point.y + point.x,
            zz: point.z.double(),
            dt: point.t * self.twice_d,
        }
    }

    /// A multiple of the base point, in the coordinates of BabyJubjub.
    fn mul_base(&self, scalar: Scalar) -> (Fr, Fr) {
        let mut sum = Point::identity();
        for digit in digits(&scalar.into_bigint(), BASE_WINDOW).into_iter().rev() {
            sum = sum.double();
            if digit != 0 {
                sum = sum.add(&pick(&self.base, digit));
            }
        }
        let root_z = (sum.z * self.root).inverse().expect("complete additions");
        (sum.x * root_z, sum.y * root_z * self.root)
    }

    /// 1, 3, 5, ... times the point: what signed digits of `window` bits pick from.
    fn odd_multiples(&self, mut point: Point, window: usize) -> Vec<Addend> {
        let twice = self.addend(&point.double());
        let mut table = vec![self.addend(&point)];
        for _ in 1..1 << (window - 2) {
            point = point.add(&twice);
            table.push(self.addend(&point));
        }
        table
    }
}

fn is_on_curve(x: Fr, y: Fr) -> bool {
    let (xx, yy) = (x.square(), y.square());
    Fr::from(A) * xx + yy == Fr::one() + Fr::from(D) * xx * yy
}

/// Signed odd digits, the lowest first.
fn digits(scalar: &BigInt<4>, window: usize) -> Vec<i64> {
    scalar.find_wnaf(window).expect("a width of 2 to 63")
}

fn pick(table: &[Addend], digit: i64) -> Addend {
    let entry = &table[(digit.unsigned_abs() >> 1) as usize];
    if digit < 0 { entry.negated() } else { *entry }
}

/// The one signature (r8.x, r8.y, s) that a private key makes of a message. Not constant in time.
pub fn sign(private: &[u8], message: &BigInt<4>) -> Result<(Fr, Fr, Scalar)> {
    if private.len() != PRIVATE_KEY_BYTES {
        return malformed(format!(
            "an EdDSA private key has {PRIVATE_KEY_BYTES} bytes, not {}",
            private.len()
        ));
    }
    let Some(field) = Fr::from_bigint(*message) else {
        return malformed("an EdDSA message is not in [0, r)");
    };
    let digest = Zeroizing::new(blake512(private));
    let mut secret = Zeroizing::new([0u8; 32]);
    secret.copy_from_slice(&digest[..32]);
    secret[0] &= 0xF8;
    secret[31] = secret[31] & 0x7F | 0x40;
    let secret = Scalar::from_le_bytes_mod_order(secret.as_slice());
    let mut seed = Zeroizing::new([0u8; 64]);
    seed[..32].copy_from_slice(&digest[32..]);
    seed[32..].copy_from_slice(&message.to_bytes_le());
    let nonce = Scalar::from_le_bytes_mod_order(&blake512(seed.as_slice()));
    let curve = Curve::get();
    let (x, y) = curve.mul_base(nonce);
    let eighth = Scalar::from(8u8).inverse().expect("8 is not 0");
    let (ax, ay) = curve.mul_base(secret * eighth);
    let challenge = poseidon::hash(&[x, y, ax, ay, field])?.into_bigint();
    let challenge = Scalar::from_le_bytes_mod_order(&challenge.to_bytes_le());
    Ok((x, y, nonce + challenge * secret))
}

/// Whether the claim is a valid signature; never an error.
pub fn verify(claim: &Claim) -> bool {
    let field = |value: &BigInt<4>| Fr::from_bigint(*value);
    let ([ax, ay], [rx, ry]) = (&claim.public, &claim.r8);
    let (Some(ax), Some(ay), Some(rx), Some(ry), Some(message)) = (
        field(ax),
        field(ay),
        field(rx),
        field(ry),
        field(&claim.message),
    ) else {
        return false;
    };
    if claim.s >= Scalar::MODULUS || !is_on_curve(ax, ay) || !is_on_curve(rx, ry) {
        return false;
    }
    let curve = Curve::get();
    let key = curve.enter(ax, ay).double().double().double();
    if key.is_identity() {
        return false;
    }
    let Ok(challenge) = poseidon::hash(&[rx, ry, ax, ay, message]) else {
        return false;
    };
    let table = curve.odd_multiples(key, KEY_WINDOW);
    let ours = digits(&claim.s, BASE_WINDOW);
    let theirs = digits(&challenge.into_bigint(), KEY_WINDOW);
    let mut sum = Point::identity();
    for place in (0..ours.len().max(theirs.len())).rev() {
        sum = sum.double();
        match ours.get(place) {
            Some(0) | None => {}
            Some(digit) => sum = sum.add(&pick(&curve.base, *digit)),
        }
        match theirs.get(place) {
            Some(0) | None => {}
            Some(digit) => sum = sum.add(&pick(&table, -digit)),
        }
    }
    // (X/Z, Y/Z) against R8, without dividing
    sum.x == rx * curve.root * sum.z && sum.y == ry * sum.z
}

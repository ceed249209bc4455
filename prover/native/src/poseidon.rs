//! Poseidon over BN254's scalar field, the variant of circomlib.
//!
//! S-box x^5, 8 full rounds, a number of partial ones by width; constants and the
//! Cauchy matrix from the Grain LFSR. State element 0 starts as 0 and is the hash.

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_ff::{BigInteger, Field, PrimeField, Zero};

use crate::error::{Result, malformed};

pub const MAX_INPUTS: usize = 16;

const HALF_FULL: usize = 4;
const PARTIAL: [usize; MAX_INPUTS] = [
    56, 57, 56, 60, 60, 63, 64, 63, 60, 66, 60, 65, 70, 60, 64, 68,
];
const FIELD_BITS: u32 = 254;

type Matrix = Vec<Vec<Fr>>;

/// The hash of 1 to 16 field elements.
pub fn hash(inputs: &[Fr]) -> Result<Fr> {
    if inputs.is_empty() || inputs.len() > MAX_INPUTS {
        return malformed(format!(
            "poseidon takes 1 to {MAX_INPUTS} inputs, not {}",
            inputs.len()
        ));
    }
    static ROUNDS: [OnceLock<Rounds>; MAX_INPUTS] = [const { OnceLock::new() }; MAX_INPUTS];
    let width = inputs.len() + 1;
    let rounds = ROUNDS[inputs.len() - 1].get_or_init(|| Rounds::new(width));
    let mut state = vec![Fr::zero(); width];
    state[1..].copy_from_slice(inputs);
    rounds.permute(&mut state);
    Ok(state[0])
}

/// The Grain LFSR of the Poseidon paper, self-shrinking.
struct Grain {
    bits: [bool; 80],
    at: usize,
}

impl Grain {
    fn new(width: usize) -> Self {
        let partial = PARTIAL[width - 2] as u64;
        let full = 2 * HALF_FULL as u64;
        // prime field, power S-box, field bits, width, rounds, then ones
        let fields = [
            (1, 2),
            (0, 4),
            (u64::from(FIELD_BITS), 12),
            (width as u64, 12),
            (full, 10),
            (partial, 10),
            ((1 << 30) - 1, 30),
        ];
        let mut bits = [false; 80];
        let values = fields
            .iter()
            .flat_map(|(value, size)| (0..*size).rev().map(move |bit| value >> bit & 1 == 1));
        for (bit, value) in bits.iter_mut().zip(values) {
            *bit = value;
        }
        let mut grain = Self { bits, at: 0 };
        for _ in 0..160 {
            grain.step();
        }
        grain
    }

    fn step(&mut self) -> bool {
        let new = [0, 13, 23, 38, 51, 62]
            .iter()
            .fold(false, |sum, tap| sum ^ self.bits[(self.at + tap) % 80]);
        self.bits[self.at] = new;
        self.at = (self.at + 1) % 80;
        new
    }

    /// Of each pair of bits the first says whether the second is used.
    fn bit(&mut self) -> bool {
        loop {
            let used = self.step();
            let bit = self.step();
            if used {
                return bit;
            }
        }
    }

    fn draw(&mut self) -> <Fr as PrimeField>::BigInt {
        let bits: Vec<bool> = (0..FIELD_BITS).map(|_| self.bit()).collect();
        BigInteger::from_bits_be(&bits)
    }

    /// Drawn again until it is below the prime.
    fn element(&mut self) -> Fr {
        loop {
            if let Some(value) = Fr::from_bigint(self.draw()) {
                return value;
            }
        }
    }

    /// Reduced, as the reference does it for the matrix.
    fn reduced(&mut self) -> Fr {
        Fr::from_le_bytes_mod_order(&self.draw().to_bytes_le())
    }
}

fn dot(row: &[Fr], column: &[Fr]) -> Fr {
    row.iter().zip(column).map(|(a, b)| *a * b).sum()
}

fn apply(matrix: &[Vec<Fr>], vector: &[Fr]) -> Vec<Fr> {
    matrix.iter().map(|row| dot(row, vector)).collect()
}

fn transpose(matrix: &[Vec<Fr>]) -> Matrix {
    (0..matrix.len())
        .map(|i| matrix.iter().map(|row| row[i]).collect())
        .collect()
}

/// Inverse by Gauss and Jordan; every minor of a Cauchy matrix is regular, so
/// pivots on the diagonal are never zero.
fn invert(matrix: &[Vec<Fr>]) -> Matrix {
    let n = matrix.len();
    let mut rows = matrix.to_vec();
    for (i, row) in rows.iter_mut().enumerate() {
        row.extend((0..n).map(|j| Fr::from(u64::from(i == j))));
    }
    for i in 0..n {
        let scale = rows[i][i].inverse().expect("a regular minor");
        rows[i].iter_mut().for_each(|x| *x *= scale);
        let pivot = rows[i].clone();
        for (k, row) in rows.iter_mut().enumerate() {
            let factor = row[i];
            if k != i {
                row.iter_mut()
                    .zip(&pivot)
                    .for_each(|(x, y)| *x -= factor * y);
            }
        }
    }
    rows.into_iter().map(|row| row[n..].to_vec()).collect()
}

fn fifth(x: &mut Fr) {
    let square = x.square();
    *x *= square.square();
}

struct Full {
    constants: Vec<Fr>,
    matrix: Matrix,
}

struct Partial {
    constant: Fr,
    /// What the rest of the state gives to element 0.
    row: Vec<Fr>,
    /// What element 0 gives to the rest.
    column: Vec<Fr>,
}

/// The rounds for one width, the partial ones rewritten.
///
/// Split the matrix as [[m, v], [w, N]]. In a partial round the rest u of the state
/// becomes N u + w x, with x out of the S-box. In the basis y = N^(P-k) u of round k
/// that reads y += N^(P-1-k) w x: two products an element, not a matrix. u's round
/// constants depend on no input, so what they add to element 0 joins its constant.
struct Rounds {
    first: Vec<Full>,
    partial: Vec<Partial>,
    corner: Fr,
    last: Vec<Full>,
}

impl Rounds {
    fn new(width: usize) -> Self {
        let count = PARTIAL[width - 2];
        let mut grain = Grain::new(width);
        let mut constants: Vec<Vec<Fr>> = (0..count + 2 * HALF_FULL)
            .map(|_| (0..width).map(|_| grain.element()).collect())
            .collect();
        let points: Vec<Fr> = (0..2 * width).map(|_| grain.reduced()).collect();
        let (xs, ys) = points.split_at(width);
        let cauchy = |x: &Fr, y: &Fr| (*x + y).inverse().expect("a Cauchy matrix");
        let matrix: Matrix = xs
            .iter()
            .map(|x| ys.iter().map(|y| cauchy(x, y)).collect())
            .collect();

        push_constants(&mut constants, &matrix, count);
        let (partial, entry) = partial_rounds(&constants, &matrix, count);
        let full = |constants: &Vec<Fr>| Full {
            constants: constants.clone(),
            matrix: matrix.clone(),
        };
        let mut first: Vec<Full> = constants[..HALF_FULL].iter().map(full).collect();
        if let Some(round) = first.last_mut() {
            round.matrix = entry;
        }
        Self {
            first,
            partial,
            corner: matrix[0][0],
            last: constants[HALF_FULL + count..].iter().map(full).collect(),
        }
    }

    fn permute(&self, state: &mut [Fr]) {
        let mut next = vec![Fr::zero(); state.len()];
        full_rounds(&self.first, state, &mut next);
        for round in &self.partial {
            let (head, rest) = state.split_at_mut(1);
            head[0] += round.constant;
            fifth(&mut head[0]);
            let boxed = head[0];
            head[0] = self.corner * boxed + dot(&round.row, rest);
            for (element, factor) in rest.iter_mut().zip(&round.column) {
                *element += boxed * factor;
            }
        }
        full_rounds(&self.last, state, &mut next);
    }
}

fn full_rounds(rounds: &[Full], state: &mut [Fr], next: &mut [Fr]) {
    for round in rounds {
        for (element, constant) in state.iter_mut().zip(&round.constants) {
            *element += constant;
            fifth(element);
        }
        for (element, row) in next.iter_mut().zip(&round.matrix) {
            *element = dot(row, state);
        }
        state.copy_from_slice(next);
    }
}

/// Move the partial rounds' constants off the rest of the state, one round on each.
fn push_constants(constants: &mut [Vec<Fr>], matrix: &[Vec<Fr>], count: usize) {
    for number in HALF_FULL..HALF_FULL + count {
        let mut moved = constants[number].clone();
        moved[0] = Fr::zero();
        constants[number][1..].fill(Fr::zero());
        for (constant, more) in constants[number + 1].iter_mut().zip(apply(matrix, &moved)) {
            *constant += more;
        }
    }
}

/// The partial rounds, and the matrix before them that enters their basis.
fn partial_rounds(
    constants: &[Vec<Fr>],
    matrix: &[Vec<Fr>],
    count: usize,
) -> (Vec<Partial>, Matrix) {
    let inner: Matrix = matrix[1..].iter().map(|row| row[1..].to_vec()).collect();
    let back = transpose(&invert(&inner));
    // from the last round to the first: row v N^(k-P), column N^(P-1-k) w
    let mut row = apply(&back, &matrix[0][1..]);
    let mut column: Vec<Fr> = matrix[1..].iter().map(|row| row[0]).collect();
    let mut rounds = Vec::with_capacity(count);
    for number in (HALF_FULL..HALF_FULL + count).rev() {
        rounds.push(Partial {
            constant: constants[number][0],
            row: row.clone(),
            column: column.clone(),
        });
        row = apply(&back, &row);
        column = apply(&inner, &column);
    }
    rounds.reverse();
    // below the first row: N^P times the matrix's rows
    let mut columns = transpose(matrix);
    for column in &mut columns {
        for _ in 0..count {
            let rest = apply(&inner, &column[1..]);
            column[1..].copy_from_slice(&rest);
        }
    }
    (rounds, transpose(&columns))
}

//! BLAKE-512, the SHA-3 finalist (neither SHA-3 nor BLAKE2): circomlibjs derives EdDSA keys with it.

use zeroize::Zeroizing;

const BLOCK: usize = 128;
const ROUNDS: usize = 16;
/// SHA-512's.
const IV: [u64; 8] = [
    0x6A09_E667_F3BC_C908,
    0xBB67_AE85_84CA_A73B,
    0x3C6E_F372_FE94_F82B,
    0xA54F_F53A_5F1D_36F1,
    0x510E_527F_ADE6_82D1,
    0x9B05_688C_2B3E_6C1F,
    0x1F83_D9AB_FB41_BD6B,
    0x5BE0_CD19_137E_2179,
];
/// The first digits of pi's fraction.
const PI: [u64; 16] = [
    0x243F_6A88_85A3_08D3,
    0x1319_8A2E_0370_7344,
    0xA409_3822_299F_31D0,
    0x082E_FA98_EC4E_6C89,
    0x4528_21E6_38D0_1377,
    0xBE54_66CF_34E9_0C6C,
    0xC0AC_29B7_C97C_50DD,
    0x3F84_D5B5_B547_0917,
    0x9216_D5D9_8979_FB1B,
    0xD131_0BA6_98DF_B5AC,
    0x2FFD_72DB_D01A_DFB7,
    0xB8E1_AFED_6A26_7E96,
    0xBA7C_9045_F12C_7F99,
    0x24A1_9947_B391_6CF7,
    0x0801_F2E2_858E_FC16,
    0x6369_20D8_7157_4E69,
];
/// Each round's order of words, a hexadecimal digit a word.
const SIGMA: [u64; 10] = [
    0x0123_4567_89ab_cdef,
    0xea48_9fd6_1c02_b753,
    0xb8c0_52fd_ae36_7194,
    0x7931_dcbe_265a_40f8,
    0x9057_24af_e1bc_683d,
    0x2c6a_0b83_4d75_fe19,
    0xc51f_ed4a_0763_928b,
    0xdb7e_c139_50f4_862a,
    0x6fe9_b308_c2d7_14a5,
    0xa284_7615_fb9e_3cd0,
];
/// Four columns, then four diagonals.
const LANES: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

fn compress(chain: &mut [u64; 8], block: &[u8], counter: u64) {
    let mut words = [0u64; 16];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(8)) {
        *word = bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    }
    let mut v = [0u64; 16];
    v[..8].copy_from_slice(chain);
    v[8..].copy_from_slice(&PI[..8]);
    v[12] ^= counter;
    v[13] ^= counter;
    for round in 0..ROUNDS {
        let at = |place: usize| (SIGMA[round % 10] >> (60 - 4 * place) & 15) as usize;
        for (lane, [a, b, c, d]) in LANES.into_iter().enumerate() {
            let (i, j) = (at(2 * lane), at(2 * lane + 1));
            v[a] = v[a].wrapping_add(v[b]).wrapping_add(words[i] ^ PI[j]);
            v[d] = (v[d] ^ v[a]).rotate_right(32);
            v[c] = v[c].wrapping_add(v[d]);
            v[b] = (v[b] ^ v[c]).rotate_right(25);
            v[a] = v[a].wrapping_add(v[b]).wrapping_add(words[j] ^ PI[i]);
            v[d] = (v[d] ^ v[a]).rotate_right(16);
            v[c] = v[c].wrapping_add(v[d]);
            v[b] = (v[b] ^ v[c]).rotate_right(11);
        }
    }
    for (i, out) in chain.iter_mut().enumerate() {
        *out ^= v[i] ^ v[i + 8];
    }
}

/// The digest of a message, salt zero.
pub fn blake512(message: &[u8]) -> [u8; 64] {
    let bits = 8 * message.len() as u64;
    // With room for all, so that no copy is left behind; it may be a key.
    let mut padded = Zeroizing::new(Vec::with_capacity(message.len() + 2 * BLOCK));
    padded.extend_from_slice(message);
    // A one bit, zeros, a one bit just before the 128-bit length.
    padded.push(0x80);
    while padded.len() % BLOCK != BLOCK - 16 {
        padded.push(0);
    }
    let last = padded.len() - 1;
    padded[last] |= 1;
    padded.extend_from_slice(&u128::from(bits).to_be_bytes());
    let mut chain = IV;
    let mut hashed = 0;
    for block in padded.chunks_exact(BLOCK) {
        // The counter leaves padding out, and is 0 for a block of padding alone.
        let counter = if hashed < bits {
            bits.min(hashed + 8 * BLOCK as u64)
        } else {
            0
        };
        compress(&mut chain, block, counter);
        hashed += 8 * BLOCK as u64;
    }
    let mut out = [0; 64];
    for (bytes, word) in out.chunks_exact_mut(8).zip(chain) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    out
}

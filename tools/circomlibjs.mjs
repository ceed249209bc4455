// Answers questions with circomlibjs and @zk-kit/eddsa-poseidon: one JSON object on standard input, one on standard output.
// All questions come in one run because building circomlibjs's tables takes longer than answering.
//
//   {"poseidon": [[int, ...], ...],                        -> [int, ...]
//    "blake512": [hex, ...],                               -> [hex, ...]
//    "sign":   [{"private": hex, "msg": int}, ...],        -> [{"public": [x, y], "r8": [x, y], "s": int}, ...]
//    "verify": [{"public", "msg", "r8", "s"}, ...]}        -> [bool, ...]
//
// Integers are decimal strings. "sign" and "verify" are answered under "circomlibjs" and under "zkkit".

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// circomlibjs's own dependency chain resolves through CommonJS; so does zk-kit's blake-1 build.
const require = createRequire(import.meta.url);
const { buildEddsa, buildPoseidon } = require("circomlibjs");
const zkkit = require("@zk-kit/eddsa-poseidon");
// circomlibjs depends on blake-hash; it is not a dependency of ours.
const blake = createRequire(require.resolve("circomlibjs"))("blake-hash");

const asked = { poseidon: [], blake512: [], sign: [], verify: [], ...JSON.parse(readFileSync(0, "utf8")) };
const eddsa = await buildEddsa();
const poseidon = await buildPoseidon();
const F = eddsa.F;
const e = (text) => F.e(BigInt(text));
const text = (element) => F.toObject(element).toString();
const signed = (key, { R8, S }, show) => ({ public: key.map(show), r8: R8.map(show), s: S.toString() });

const answers = {
  poseidon: asked.poseidon.map((inputs) => text(poseidon(inputs.map(e)))),
  blake512: asked.blake512.map((hex) => blake("blake512").update(Buffer.from(hex, "hex")).digest("hex")),
  circomlibjs: {
    sign: asked.sign.map(({ private: hex, msg }) => {
      const key = Buffer.from(hex, "hex");
      return signed(eddsa.prv2pub(key), eddsa.signPoseidon(key, e(msg)), text);
    }),
    verify: asked.verify.map(({ public: key, msg, r8, s }) =>
      eddsa.verifyPoseidon(e(msg), { R8: r8.map(e), S: BigInt(s) }, key.map(e)),
    ),
  },
  zkkit: {
    sign: asked.sign.map(({ private: hex, msg }) => {
      const key = Buffer.from(hex, "hex");
      return signed(zkkit.derivePublicKey(key), zkkit.signMessage(key, BigInt(msg)), String);
    }),
    verify: asked.verify.map(({ public: key, msg, r8, s }) =>
      zkkit.verifySignature(BigInt(msg), { R8: r8.map(BigInt), S: BigInt(s) }, key.map(BigInt)),
    ),
  },
};
process.stdout.write(JSON.stringify(answers), () => process.exit(0)); // its worker threads would keep the process alive

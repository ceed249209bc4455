// Witness calculator: a worker that reads one JSON request a line and answers one JSON line.
//
// request:  {"id": 1, "wasm": PATH, "inputs": {signal: "decimal" | nested lists of them}, "out": PATH}
// response: {"id": 1, "ok": true, "elements": n}  or  {"id": 1, "ok": false, "kind": "inputs" | "unsatisfied" | "failed", "message": "..."}
//
// It speaks the interface that circom 2's generated WebAssembly exports and writes the iden3 wtns format, version 2.
import { readFile, rename, stat, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";

const modules = new Map(); // path -> {stamp, module}: compiling a large circuit's wasm takes a while
const MAX_MODULES = 16;

class Refused extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

async function loadModule(path) {
  const info = await stat(path);
  const stamp = `${info.ino} ${info.size} ${info.mtimeMs}`;
  const known = modules.get(path);
  if (known?.stamp === stamp) return known.module;
  const module = await WebAssembly.compile(await readFile(path));
  if (modules.size >= MAX_MODULES) modules.delete(modules.keys().next().value);
  modules.set(path, { stamp, module });
  return module;
}

const REASONS = {
  1: ["inputs", "signal not found"],
  2: ["inputs", "too many values for a signal"],
  3: ["inputs", "signal set twice"],
  4: ["unsatisfied", "assert failed"],
  5: ["failed", "not enough memory"],
  6: ["inputs", "more values than the signal's array holds"],
};

async function instantiate(module) {
  let message = "";
  const text = () => {
    let out = "";
    for (let c = instance.exports.getMessageChar(); c !== 0; c = instance.exports.getMessageChar()) {
      out += String.fromCharCode(c);
    }
    return out;
  };
  const runtime = {
    exceptionHandler(code) {
      const [kind, reason] = REASONS[code] ?? ["failed", `error ${code}`];
      throw new Refused(kind, `${reason}\n${message}`.trim());
    },
    printErrorMessage() {
      message += text() + "\n";
    },
    writeBufferMessage() {
      text(); // circom's log(); stdout is the protocol, so it is dropped
    },
    showSharedRWMemory() {},
  };
  const instance = await WebAssembly.instantiate(module, { runtime });
  if (typeof instance.exports.getVersion !== "function" || instance.exports.getVersion() !== 2) {
    throw new Refused("failed", "not a circom 2 witness program");
  }
  return instance.exports;
}

function fnv1a(name) {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(name)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return [Number(hash >> 32n) | 0, Number(hash & 0xffffffffn) | 0];
}

function setInputs(program, inputs, words, prime) {
  let given = 0;
  for (const [name, value] of Object.entries(inputs)) {
    const [high, low] = fnv1a(name);
    const values = Array.isArray(value) ? value.flat(Infinity) : [value];
    const size = program.getInputSignalSize(high, low);
    if (size < 1 && values.length > 0) throw new Refused("inputs", `the circuit has no input ${name}`);
    if (size !== values.length) throw new Refused("inputs", `input ${name} has ${values.length} values, the circuit wants ${size}`);
    for (let i = 0; i < size; i++) {
      let rest = BigInt(values[i]);
      if (rest < 0n || rest >= prime) throw new Refused("inputs", `input ${name} is not a field element`);
      for (let w = 0; w < words; w++, rest >>= 32n) program.writeSharedRWMemory(w, Number(rest & 0xffffffffn));
      try {
        program.setInputSignal(high, low, i); // the last one runs the whole circuit
      } catch (error) {
        throw error instanceof Refused ? error : new Refused("failed", String(error));
      }
      given++;
    }
  }
  const wanted = program.getInputSize();
  if (given !== wanted) throw new Refused("inputs", `${given} input values given, the circuit wants ${wanted}`);
}

function readShared(program, words) {
  let value = 0n;
  for (let w = words - 1; w >= 0; w--) value = (value << 32n) | BigInt(program.readSharedRWMemory(w) >>> 0);
  return value;
}

function encode(program, words) {
  const count = program.getWitnessSize();
  const bytes = words * 4;
  const out = Buffer.alloc(12 + 12 + 8 + bytes + 12 + count * bytes);
  let at = out.write("wtns", "latin1");
  for (const value of [2, 2, 1]) at = out.writeUInt32LE(value, at); // version, sections, id of the header
  at = out.writeBigUInt64LE(BigInt(8 + bytes), at);
  at = out.writeUInt32LE(bytes, at);
  program.getRawPrime();
  const put = () => {
    for (let w = 0; w < words; w++) at = out.writeUInt32LE(program.readSharedRWMemory(w) >>> 0, at);
  };
  put();
  at = out.writeUInt32LE(count, at);
  at = out.writeUInt32LE(2, at);
  at = out.writeBigUInt64LE(BigInt(count * bytes), at);
  for (let i = 0; i < count; i++) {
    program.getWitness(i);
    put();
  }
  return [out, count];
}

async function calculate({ wasm, inputs, out }) {
  const program = await instantiate(await loadModule(wasm));
  program.init(0);
  const words = program.getFieldNumLen32();
  program.getRawPrime();
  setInputs(program, inputs, words, readShared(program, words));
  const [data, elements] = encode(program, words);
  await writeFile(`${out}.part`, data);
  await rename(`${out}.part`, out);
  return elements;
}

// Our parent was killed: nobody waits for the answer.
process.stdout.on("error", () => process.exit(1));

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  let id = null;
  let answer;
  try {
    const request = JSON.parse(line);
    id = request.id;
    answer = { id, ok: true, elements: await calculate(request) };
  } catch (error) {
    answer = { id, ok: false, kind: error.kind ?? "failed", message: String(error.message ?? error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}

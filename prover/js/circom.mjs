// Runs circom's WebAssembly build (npm circom2) on node's own WASI: `node circom.mjs CIRCOM_WASM ARGUMENT...`
//
// Why not the package's own command: its WASI layer takes pointers as signed numbers, so it fails once memory has grown
// beyond 2 GiB, and it refuses paths outside the working directory. Here every number is made unsigned first, which
// lets circom use all of its 4 GiB; paths must be absolute, since the one directory opened is the root.
import { readFile } from "node:fs/promises";

process.removeAllListeners("warning"); // node calls WASI experimental, once a run
process.on("warning", () => {});
const { WASI } = await import("node:wasi");

const [wasmPath, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: ["circom", ...args], env: {}, preopens: { "/": "/" } });
const unsigned = (value) => (typeof value === "number" ? value >>> 0 : value);
const imports = Object.fromEntries(
  Object.entries(wasi.wasiImport).map(([name, call]) => [name, (...values) => call(...values.map(unsigned))]),
);
const module = await WebAssembly.compile(await readFile(wasmPath));
const instance = await WebAssembly.instantiate(module, { wasi_snapshot_preview1: imports });
process.exitCode = wasi.start(instance);

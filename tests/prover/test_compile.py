"""Compiling: what circom makes, when it runs again, and what its refusals look like."""

import json
import multiprocessing
import stat

import pytest

from proofbook.prover import compile as compiling
from proofbook.prover.compile import compile_circuit, find_compiler, main_source, reachable_sources
from proofbook.prover.errors import ArtifactError, CircuitError
from proofbook.prover.process import run
from proofbook.prover.r1cs import read_r1cs
from proofbook.prover.registry import Circuit, get_circuit, load_circuits
from proofbook.prover.workspace import node


def _stages(calls):
    return lambda stage, share: calls.append(stage)


def test_compile_makes_constraints_program_and_names(workspace):
    calls: list[str] = []
    done = compile_circuit("tiny", _stages(calls), workspace)
    # 5 squarings, a * b, and the three products of Small
    assert (done.info.nonlinear, done.info.constraints) == (9, 9)
    assert (done.info.outputs, done.info.public_inputs, done.info.private_inputs) == (1, 1, 5)
    assert done.r1cs.is_file() and done.wasm.read_bytes()[:4] == b"\0asm" and "main.b" in done.sym.read_text()
    assert calls == ["tiny: compiling"]


def test_second_compile_does_nothing(workspace):
    first = compile_circuit("tiny", workspace=workspace)
    before = first.r1cs.stat().st_mtime_ns
    calls: list[str] = []
    assert compile_circuit("tiny", _stages(calls), workspace) == first
    assert calls == [] and first.r1cs.stat().st_mtime_ns == before


def test_key_follows_included_sources_parameters_and_compiler(workspace, monkeypatch):
    def key():
        return compiling.compile_key(get_circuit(workspace, "tiny"), workspace, find_compiler(workspace))

    first = key()
    helper = workspace.includes[0] / "helper.circom"
    original = helper.read_text()
    helper.write_text(original + "// another comment\n")
    assert key() != first
    helper.write_text(original)
    assert key() == first
    (workspace.includes[0] / "unrelated.circom").write_text("template X() {}")
    assert key() == first
    text = workspace.circuits_file.read_text()
    workspace.circuits_file.write_text(text.replace('"params": [5]', '"params": [6]'))
    assert key() != first
    workspace.circuits_file.write_text(text.replace('"budget": 100', '"budget": 101'))
    assert key() == first
    other = compiling.Compiler(("circom",), "circom-2.0.0")
    assert compiling.compile_key(get_circuit(workspace, "tiny"), workspace, other) != first


def test_a_broken_off_compile_is_made_again(workspace):
    done = compile_circuit("tiny", workspace=workspace)
    done.wasm.unlink()
    again = compile_circuit("tiny", workspace=workspace)
    assert again.wasm.is_file()
    assert not [path for path in again.r1cs.parent.parent.iterdir() if path.name.startswith(".")]


def test_sources_are_named_alike_everywhere(workspace):
    sources = reachable_sources(get_circuit(workspace, "tiny"), workspace.includes)
    assert sorted(sources) == ["tiny.circom", "tiny.circom > helper.circom"]


def test_main_source_instantiates_the_entry():
    entry = Circuit(file="a/b.circom", template="B", params=(1, 2), public=("c", "z"), budget=1)
    assert 'include "a/b.circom";\ncomponent main {public [c, z]} = B(1, 2);' in main_source(entry)
    assert "component main = B();" in main_source(Circuit(file="b.circom", template="B", budget=1))


def test_an_error_in_a_circuit_is_circoms_message(workspace):
    source = workspace.includes[0] / "tiny.circom"
    source.write_text(source.read_text().replace("s[0] <== a * b;", "s[0] <== a * nothing;"))
    with pytest.raises(CircuitError) as caught:
        compile_circuit("tiny", workspace=workspace)
    assert caught.value.code == "circuit/compile"
    assert "nothing" in caught.value.message and "\x1b" not in caught.value.message
    folder = workspace.circuits_dir / "tiny"
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_a_missing_include_is_named(workspace):
    (workspace.includes[0] / "helper.circom").unlink()
    with pytest.raises(CircuitError, match=r"helper\.circom") as caught:
        compile_circuit("tiny", workspace=workspace)
    assert caught.value.code == "circuit/include"


@pytest.mark.parametrize("public, accepted", [(["a", "list"], True), (["list", "a"], False), ([], True)])
def test_public_inputs_must_be_named_in_their_order(workspace, public, accepted):
    registry = json.loads(workspace.circuits_file.read_bytes())
    registry["circuits"]["tiny"]["public"] = public
    workspace.circuits_file.write_text(json.dumps(registry))
    if accepted:
        done = compile_circuit("tiny", workspace=workspace)
        assert compiling.public_signals(done.sym, done.info) == public
    else:
        with pytest.raises(CircuitError) as caught:
            compile_circuit("tiny", workspace=workspace)
        assert caught.value.code == "circuit/public" and "a, list" in caught.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../secret.circom"},
        {"file": "a/../../b.circom"},
        {"file": "/etc/a.circom"},
        {"template": 'T(); include "x"'},
        {"params": [-1]},
        {"public": ["a]} = X"]},
        {"budget": 0},
        {"colour": "red"},
    ],
)
def test_a_malformed_registry_is_refused(workspace, change):
    base = {"file": "tiny.circom", "template": "Tiny", "budget": 1}
    workspace.circuits_file.write_text(json.dumps({"circuits": {"tiny": base | change}}))
    with pytest.raises(CircuitError) as caught:
        load_circuits(workspace)
    assert caught.value.code == "circuit/registry"


def test_an_unknown_circuit_is_refused(workspace):
    with pytest.raises(CircuitError) as caught:
        compile_circuit("huge", workspace=workspace)
    assert caught.value.code == "circuit/unknown" and "tiny" in caught.value.hint


def test_a_native_circom_2_is_preferred_and_circom_1_ignored(workspace, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "circom"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    try:
        for version, chosen in (("circom compiler 2.1.9", "circom-2.1.9"), ("0.5.46", "circom2-wasm-")):
            program.write_text(f"#!/bin/sh\necho {version}\n")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
            compiling._native_compiler.cache_clear()
            assert find_compiler(workspace).version.startswith(chosen)
    finally:
        compiling._native_compiler.cache_clear()


def _compile_and_count(folder_workspace, queue):
    calls: list[str] = []
    compile_circuit("tiny", _stages(calls), folder_workspace)
    queue.put("tiny: compiling" in calls)


def test_two_processes_compile_once(workspace):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    both = [context.Process(target=_compile_and_count, args=(workspace, queue)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert sorted(queue.get(timeout=5) for _ in both) == [False, True]


def test_r1cs_reader_agrees_with_the_native_core(tiny):
    import proofbook_native

    _, artifacts = tiny
    ours, theirs = read_r1cs(artifacts.r1cs), proofbook_native.r1cs_info(artifacts.r1cs)
    assert ours.nonlinear == theirs["constraints"] - theirs["linear"]
    assert (ours.wires, ours.outputs) == (theirs["wires"], theirs["public_outputs"])


def test_r1cs_reader_counts_linear_constraints_apart(workspace):
    source = workspace.includes[0] / "tiny.circom"
    # Neither an output nor a public input can be substituted away, so this one stays.
    source.write_text(
        source.read_text().replace("signal output c;", "signal output c;\n signal output d;\n d <== a + 1;")
    )
    info = compile_circuit("tiny", workspace=workspace).info
    assert (info.constraints, info.nonlinear) == (10, 9)


@pytest.mark.parametrize("cut", [0, 3, 11, 40, 200, -1])
def test_a_cut_r1cs_is_refused(tiny, tmp_path, cut):
    _, artifacts = tiny
    broken = tmp_path / "broken.r1cs"
    broken.write_bytes(artifacts.r1cs.read_bytes()[:cut])
    with pytest.raises(ArtifactError) as caught:
        read_r1cs(broken)
    assert caught.value.code == "artifact/r1cs"


def _signed_leb(value):
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        if value == (-1 if byte & 0x40 else 0):
            return bytes(out) + bytes([byte])
        out.append(byte | 0x80)


def _unsigned_leb(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _wasm_that_writes_from(address):
    """A WASI program with 3 GiB and one page of memory that prints "high" from buffers at `address`."""

    def section(number, body):
        return bytes([number]) + _unsigned_leb(len(body)) + body

    def name(text):
        return bytes([len(text)]) + text.encode()

    def const(value):
        return b"\x41" + _signed_leb(value - (1 << 32) if value >= 1 << 31 else value)

    def store(at, value):
        return const(at) + const(value) + b"\x36\x02\x00"

    code = b"\x00" + store(address, address + 16) + store(address + 4, 4)
    code += store(address + 16, int.from_bytes(b"high", "little"))
    code += const(1) + const(address) + const(1) + const(address + 32) + b"\x10\x00\x1a\x0b"
    types = b"\x02\x60\x04\x7f\x7f\x7f\x7f\x01\x7f\x60\x00\x00"
    imports = b"\x01" + name("wasi_snapshot_preview1") + name("fd_write") + b"\x00\x00"
    exports = b"\x02" + name("memory") + b"\x02\x00" + name("_start") + b"\x00\x01"
    return b"".join(
        (
            b"\0asm\x01\0\0\0",
            section(1, types),
            section(2, imports),
            section(3, b"\x01\x01"),
            section(5, b"\x01\x00" + _unsigned_leb(3 * 16384 + 1)),
            section(7, exports),
            section(10, b"\x01" + _unsigned_leb(len(code)) + code),
        )
    )


@pytest.mark.parametrize("address", [1 << 16, (1 << 31) - 16, 3 << 30])
def test_circoms_runner_takes_pointers_above_2_gib(workspace, tmp_path, address):
    program = tmp_path / "high.wasm"
    program.write_bytes(_wasm_that_writes_from(address))
    done = run([node(), workspace.script("circom.mjs"), program], timeout=60)
    assert (done.code, done.output) == (0, "high")

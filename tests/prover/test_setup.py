"""The production path: a real powers-of-tau file, contributions, a beacon, verification."""

import pytest

from proofbook.prover import setup as ceremony
from proofbook.prover.artifacts import build, load
from proofbook.prover.backend import SnarkjsBackend, verify_snarkjs
from proofbook.prover.calculator import calculate_witness
from proofbook.prover.errors import SetupError
from proofbook.prover.keys import ceremony_beacon, ceremony_contribute
from proofbook.prover.process import snarkjs
from proofbook.prover.transcript import Contributions, key_contributions, powers_contributions


@pytest.fixture(scope="module")
def ptau(tiny, tmp_path_factory):
    """A powers-of-tau file of 2^5, made as in a ceremony of one."""
    workspace, _ = tiny
    folder = tmp_path_factory.mktemp("ptau")
    new, one, final = (folder / f"{name}.ptau" for name in ("new", "one", "final"))
    for step in (
        ("powersoftau", "new", "bn128", "5", new),
        ("powersoftau", "contribute", new, one, "--name=one", "-e=some text"),
        ("powersoftau", "prepare", "phase2", one, final),
    ):
        assert snarkjs(workspace, *step, timeout=120).code == 0
    return final


@pytest.fixture(scope="module")
def installed(tiny, ptau):
    """The tiny circuit's workspace with ceremony keys in place of its development keys: (workspace, artifacts)."""
    import dataclasses

    workspace = dataclasses.replace(tiny[0], build=ptau.parent / "build")
    development = build("tiny", workspace=workspace)
    artifacts = ceremony.setup_ceremony("tiny", ptau, ["ann", "bob"], ("0102" * 8, 10), workspace=workspace)
    assert artifacts.dir == development.dir
    return workspace, artifacts


def test_a_ceremony_replaces_development_keys(installed):
    workspace, artifacts = installed
    assert artifacts.manifest.kind == "ceremony"
    assert build("tiny", workspace=workspace) == load("tiny", workspace) == artifacts
    assert not list((workspace.build / "ceremony" / "tiny").iterdir())


def test_proofs_under_ceremony_keys_are_accepted(installed, tiny, inputs, public, tmp_path):
    _, artifacts = installed
    calculate_witness(artifacts, inputs, tmp_path / "tiny.wtns")
    proof = SnarkjsBackend().prove(artifacts, tmp_path / "tiny.wtns")
    assert proof.public == public
    assert verify_snarkjs(artifacts, proof)
    assert not verify_snarkjs(tiny[1], proof)


def test_verify_names_the_contributions(installed, ptau):
    workspace, _ = installed
    account = ceremony.verify_ceremony("tiny", ptau, workspace=workspace)
    assert all(name in account for name in ("ann", "bob", "beacon", "ZKey Ok!"))


def test_development_keys_do_not_pass_for_a_ceremonys(tiny, ptau):
    workspace, artifacts = tiny
    with pytest.raises(SetupError) as caught:
        ceremony.verify_ceremony("tiny", ptau, workspace=workspace, check_ptau=False)
    assert caught.value.code == "setup/unverified"
    with pytest.raises(SetupError):
        ceremony.install_ceremony("tiny", artifacts.zkey, ptau, workspace=workspace, check_ptau=False)
    assert load("tiny", workspace) == artifacts


def test_a_key_without_contributions_is_refused(workspace, ptau):
    first = ceremony.start_ceremony("tiny", ptau, workspace=workspace)
    before = first.stat().st_mtime_ns
    assert ceremony.start_ceremony("tiny", ptau, workspace=workspace).stat().st_mtime_ns == before
    with pytest.raises(SetupError) as caught:
        ceremony.install_ceremony("tiny", first, ptau, workspace=workspace, check_ptau=False)
    assert caught.value.code in ("setup/no-contribution", "setup/unverified")
    with pytest.raises(SetupError) as caught:
        ceremony.setup_ceremony("tiny", ptau, [], workspace=workspace)
    assert caught.value.code == "setup/no-contribution"


def test_bad_powers_are_refused(workspace, ptau, tmp_path):
    with pytest.raises(SetupError) as caught:
        ceremony.start_ceremony("tiny", tmp_path / "absent.ptau", workspace=workspace)
    assert caught.value.code == "setup/ptau"
    damaged = tmp_path / "damaged.ptau"
    data = bytearray(ptau.read_bytes())
    data[3000] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(SetupError) as caught:
        ceremony.install_ceremony("tiny", ptau, damaged, workspace=workspace)
    assert caught.value.code == "setup/ptau"


def test_too_few_powers_are_refused(workspace, tiny, tmp_path):
    source = workspace.circuits_file
    source.write_text(source.read_text().replace('"params": [5]', '"params": [60]'))
    small = tmp_path / "small.ptau"
    assert snarkjs(workspace, "powersoftau", "new", "bn128", "2", tmp_path / "0.ptau", timeout=60).code == 0
    assert snarkjs(workspace, "powersoftau", "prepare", "phase2", tmp_path / "0.ptau", small, timeout=60).code == 0
    with pytest.raises(SetupError) as caught:
        ceremony.start_ceremony("tiny", small, workspace=workspace)
    assert caught.value.code == "setup/ceremony"
    assert not list((workspace.build / "ceremony" / "tiny").glob("*/*"))


@pytest.mark.parametrize("name", ["", "a\nb", "--evil=1;", "x" * 65])
def test_a_bad_contributor_is_refused(tiny, tmp_path, name):
    workspace, artifacts = tiny
    with pytest.raises(SetupError) as caught:
        ceremony_contribute(artifacts.zkey, tmp_path / "new.zkey", name, workspace)
    assert caught.value.code == "setup/name"


@pytest.mark.parametrize(
    "beacon, iterations", [("", 10), ("0", 10), ("zz", 10), ("00" * 257, 10), ("00", 9), ("00", 64)]
)
def test_a_bad_beacon_is_refused(tiny, tmp_path, beacon, iterations):
    workspace, artifacts = tiny
    with pytest.raises(SetupError) as caught:
        ceremony_beacon(artifacts.zkey, tmp_path / "new.zkey", beacon, iterations, workspace)
    assert caught.value.code == "setup/beacon"


# --- secrets that everybody knows


def test_a_beacon_alone_is_no_contribution(workspace, ptau, tmp_path):
    # A beacon's value is public, and with it the key's secret: whoever knows it can forge every proof.
    first = ceremony.start_ceremony("tiny", ptau, workspace=workspace)
    ceremony_beacon(first, tmp_path / "beacon.zkey", "0102" * 8, 10, workspace)
    with pytest.raises(SetupError) as caught:
        ceremony.install_ceremony("tiny", tmp_path / "beacon.zkey", ptau, workspace=workspace, check_ptau=False)
    assert caught.value.code == "setup/no-contribution"


@pytest.fixture(scope="module")
def known_powers(tiny, tmp_path_factory):
    """Powers of tau that everybody knows: nobody contributed, or a beacon alone did."""
    workspace, _ = tiny
    folder = tmp_path_factory.mktemp("known")
    new, beacon, empty, public = (folder / f"{name}.ptau" for name in ("new", "beacon", "empty", "public"))
    for step in (
        ("powersoftau", "new", "bn128", "5", new),
        ("powersoftau", "beacon", new, beacon, "0102" * 8, "10", "-n=beacon"),
        ("powersoftau", "prepare", "phase2", new, empty),
        ("powersoftau", "prepare", "phase2", beacon, public),
    ):
        assert snarkjs(workspace, *step, timeout=120).code == 0
    return empty, public


@pytest.mark.parametrize("which", [0, 1], ids=["nobody's", "a beacon's"])
def test_powers_that_everybody_knows_are_refused(workspace, known_powers, tmp_path, which):
    ptau = known_powers[which]
    with pytest.raises(SetupError) as caught:
        key = ceremony.start_ceremony("tiny", ptau, workspace=workspace)
        ceremony_contribute(key, tmp_path / "1.zkey", "ann", workspace)
        ceremony.install_ceremony("tiny", tmp_path / "1.zkey", ptau, workspace=workspace)
    assert caught.value.code == "setup/ptau"


def test_contributions_are_counted_from_the_files(workspace, tiny, ptau, known_powers, tmp_path):
    assert powers_contributions(ptau) == Contributions(1, 0)
    assert [powers_contributions(path) for path in known_powers] == [Contributions(0, 0), Contributions(0, 1)]
    key = ceremony.start_ceremony("tiny", ptau, workspace=workspace)
    assert key_contributions(key) == Contributions(0, 0)
    for number, name in enumerate(("ann", "bob")):
        ceremony_contribute(key, tmp_path / f"{number}.zkey", name, workspace)
        key = tmp_path / f"{number}.zkey"
    ceremony_beacon(key, tmp_path / "last.zkey", "0102" * 8, 10, workspace)
    assert key_contributions(tmp_path / "last.zkey") == Contributions(2, 1)
    for broken in (b"", b"zkey", tiny[1].zkey.read_bytes()[:300], ptau.read_bytes()):
        (tmp_path / "broken").write_bytes(broken)
        with pytest.raises(SetupError):
            key_contributions(tmp_path / "broken")

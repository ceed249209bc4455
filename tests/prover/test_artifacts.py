"""Artifacts: made once, checked on every load, never quietly replaced."""

import hashlib
import json

import pytest

from proofbook.prover import artifacts as art
from proofbook.prover.errors import ArtifactError, CircuitError, SetupError
from proofbook.prover.process import link_or_copy, locked, new_directory
from proofbook.prover.setup import setup_development


def _sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_build_makes_everything_and_a_true_manifest(tiny):
    _, made = tiny
    manifest = json.loads((made.dir / "manifest.json").read_bytes())
    assert manifest == {
        "circuit": "tiny",
        "circuit_hash": _sha(made.r1cs),
        "kind": "development",
        "zkey_sha256": _sha(made.zkey),
        "wasm_sha256": _sha(made.wasm),
        "vkey_sha256": _sha(made.vkey),
        "created_by": "proofbook_native",
    }
    vkey = json.loads(made.vkey.read_bytes())
    assert (vkey["protocol"], vkey["curve"], vkey["nPublic"]) == ("groth16", "bn128", 2)


def test_second_build_does_nothing(tiny):
    workspace, made = tiny
    calls = []
    assert art.build("tiny", lambda stage, share: calls.append(stage), workspace) == made
    assert art.load("tiny", workspace) == made
    assert calls == []


def test_build_tells_its_stages(workspace):
    calls = []
    art.build("tiny", lambda stage, share: calls.append((stage, share)), workspace)
    stages = [stage for stage, _ in calls]
    assert stages[0] == "tiny: compiling" and stages[-1] == "tiny: exporting the verifying key"
    shares = [share for stage, share in calls if "set-up" in stage]
    assert shares and all(share is not None and 0 <= share <= 1 for share in shares)


def test_a_comment_keeps_the_keys_and_a_new_constraint_does_not(workspace):
    made = art.build("tiny", workspace=workspace)
    source = workspace.includes[0] / "tiny.circom"
    source.write_text(source.read_text() + "// nothing new\n")
    assert art.build("tiny", workspace=workspace).manifest == made.manifest
    source.write_text(source.read_text().replace("s[0] <== a * b", "s[0] <== a * a"))
    again = art.build("tiny", workspace=workspace)
    assert again.manifest.circuit_hash != made.manifest.circuit_hash and again.dir != made.dir


@pytest.mark.parametrize("victim", ["zkey", "vkey", "wasm", "r1cs"])
def test_a_damaged_file_is_found_and_kept(tiny, tmp_path, victim):
    _, made = tiny
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in made.dir.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert art.load_directory(copy).manifest == made.manifest
    path = getattr(art.load_directory(copy), victim)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        art.load_directory(copy)
    assert caught.value.code == "artifact/mismatch" and path.name in caught.value.message
    assert "proofbook setup" in caught.value.hint and str(copy) in caught.value.hint
    path.unlink()
    with pytest.raises(ArtifactError) as caught:
        art.load_directory(copy)
    assert caught.value.code == "artifact/missing"


def test_build_does_not_replace_damaged_keys(workspace):
    made = art.build("tiny", workspace=workspace)
    made.zkey.write_bytes(b"zkey" + made.zkey.read_bytes()[4:-1])
    with pytest.raises(ArtifactError) as caught:
        art.build("tiny", workspace=workspace)
    assert caught.value.code == "artifact/mismatch"
    fresh = setup_development("tiny", workspace=workspace)
    assert art.build("tiny", workspace=workspace) == fresh


def test_fresh_development_keys_differ(tiny, workspace):
    _, made = tiny
    other = art.build("tiny", workspace=workspace)
    assert other.manifest.circuit_hash == made.manifest.circuit_hash
    assert other.manifest.zkey_sha256 != made.manifest.zkey_sha256


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"circuit": 1}', "x" * 100_000])
def test_a_malformed_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError) as caught:
        art.read_manifest(tmp_path)
    assert caught.value.code == "artifact/manifest"


def test_load_without_keys_says_what_to_run(workspace):
    with pytest.raises(ArtifactError) as caught:
        art.load("tiny", workspace)
    assert caught.value.code == "artifact/missing" and "proofbook setup" in caught.value.hint


def test_keys_of_another_circuit_are_refused(workspace):
    made = art.build("tiny", workspace=workspace)
    manifest = json.loads((made.dir / "manifest.json").read_bytes())
    (made.dir / "manifest.json").write_text(json.dumps(manifest | {"circuit": "large"}))
    with pytest.raises(ArtifactError) as caught:
        art.load("tiny", workspace)
    assert caught.value.code == "artifact/mismatch"


def test_several_are_built_side_by_side_and_once_each(workspace):
    calls: list[str] = []
    names = ["tiny", "large", "tiny"]
    made = art.build_all(names, lambda stage, share: calls.append(stage), workspace)
    assert [artifacts.name for artifacts in made] == names and made[0] == made[2]
    assert calls.count("tiny: compiling") == 1 and calls.count("tiny: exporting the verifying key") == 1
    with pytest.raises(CircuitError, match="huge"):
        art.build_all(["tiny", "huge"], workspace=workspace)


def test_a_failed_setup_leaves_no_directory(workspace, monkeypatch):
    def fail(zkey, vkey, where):
        raise SetupError("setup/export", "no")

    monkeypatch.setattr(art, "export_verifying_key", fail)
    with pytest.raises(SetupError):
        art.build("tiny", workspace=workspace)
    assert [path.name for path in (workspace.keys_dir / "tiny").iterdir()] == ["lock"]
    monkeypatch.undo()
    assert art.build("tiny", workspace=workspace).zkey.is_file()


def test_new_directory_replaces_in_one_step_or_not_at_all(tmp_path):
    target = tmp_path / "made"
    for word in ("one", "two"):
        with new_directory(target) as staging:
            (staging / "word").write_text(word)
        assert (target / "word").read_text() == word
    with pytest.raises(RuntimeError), new_directory(target) as staging:
        (staging / "word").write_text("three")
        raise RuntimeError
    assert (target / "word").read_text() == "two" and list(tmp_path.iterdir()) == [target]


def test_a_lock_is_exclusive(tmp_path):
    import fcntl

    path = tmp_path / "a" / "lock"
    with locked(path, lambda: None), path.open("a") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    link_or_copy(tmp_path / "a" / "lock", tmp_path / "linked")
    assert (tmp_path / "linked").is_file()

"""The rules of the source tree, on this tree and on trees that break them."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _load_check():
    spec = importlib.util.spec_from_file_location("check_tree", ROOT / "tools" / "check_tree.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_tree = _load_check()


def test_this_tree_is_in_order():
    assert list(check_tree.container_breaches(ROOT)) == []
    assert list(check_tree.committed_breaches(ROOT)) == []


def test_standard_library_operator_is_not_shadowed():
    import operator

    assert operator.add(1, 2) == 3
    assert Path(operator.__file__).parent != ROOT


@pytest.mark.parametrize("folder", ["operator", "circuits/proofbook", "tests/protocol"])
def test_container_package_is_found(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "__init__.py").touch()
    assert [line.split(":")[0] for line in check_tree.container_breaches(tmp_path)] == [f"{folder}/__init__.py"]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.py", "open('/wo" + "rk/x')", "path"),
        ("a.md", "see https://py" + "pi.org/simple", "registry host"),
        ("a.rs", "// TO" + "DO later", "unfinished"),
        ("package-lock.json", '      "resolved": "somewhere"', "fetch"),
        ("requirements.lock", "--index-url somewhere", "fetch"),
    ],
)
def test_forbidden_text_is_found(name, text, what):
    (line,) = check_tree.text_breaches(name, "first line\n" + text + "\n")
    assert line.startswith(f"{name}:2: ") and what in line


def test_allowed_text_passes():
    text = 'source = "registry+https://github.com/rust-lang/crates' + '.io-index"\ndocs/work/notes and build/root/x\n'
    assert list(check_tree.text_breaches("Cargo.lock", text)) == []


def test_tracked_but_ignored_file_is_found(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("*.zkey\n")
    (tmp_path / "key.zkey").write_text("x")
    subprocess.run(["git", "-C", str(tmp_path), "add", "-f", "key.zkey"], check=True)
    assert [line.split(":")[0] for line in check_tree.committed_breaches(tmp_path)] == ["key.zkey"]

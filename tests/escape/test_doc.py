"""The commands of docs/escaping.md, in their order, in a shell, on an exchange whose operator is gone."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from proofbook.escape.artifacts import save_exit_artifacts
from proofbook.prover.workspace import repository_root

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

WAIT = "# wait for the deadline"


def commands():
    text = (repository_root() / "docs" / "escaping.md").read_text()
    lines = [line for block in re.findall(r"```console\n(.*?)```", text, re.S) for line in block.splitlines()]
    assert all(line.startswith("$ ") or line == WAIT for line in lines)
    return [line.removeprefix("$ ") for line in lines]


def test_every_command_of_the_page_works(settled, tmp_path):
    root, bob = repository_root(), settled.people["bob"]
    save_exit_artifacts(settled.exit.dir, tmp_path / ".proofbook" / "exit")
    (tmp_path / "my.key").write_text(bob.key.hex())
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
    }
    outputs = []
    for command in commands():
        if command == WAIT:
            deadline = settled.queue()[0].deadline
            settled.anvil.increase_time(max(1, deadline + 1 - settled.w3.eth.get_block("latest")["timestamp"]))
        elif command.startswith("export "):
            environment |= {"PROOFBOOK_RPC": settled.anvil.url, "PROOFBOOK_CONTRACT": settled.address}
            assert set(re.findall(r"(\w+)=", command)) == {"PROOFBOOK_RPC", "PROOFBOOK_CONTRACT"}
        else:
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            outputs.append(done.stdout)
    assert len(outputs) == 4 and (root / "docs" / "escaping.md").exists()
    exchange = settled.by("bob")
    assert exchange.is_frozen() and exchange.account(2).exited
    dollars = settled.token.functions.balanceOf(bob.address).call()
    assert dollars == 4969 * 1000

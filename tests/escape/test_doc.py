"""The commands of docs/escaping.md, in their order, in a shell, on an exchange whose operator is gone.

Those of `STEPS` are another way to what the others do, so each of its blocks begins anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from proofbook.cli.session import WalletFile, save_wallet
from proofbook.escape.artifacts import save_exit_artifacts
from proofbook.escape.watch import ESCAPE_ON, EXIT_CODES, EXIT_ESCAPED, Severity
from proofbook.prover.workspace import repository_root

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]

PAGE = repository_root() / "docs" / "escaping.md"
WAIT = "# wait for the deadline"
HOOK = "http://127.0.0.1:9000/alerts"


STEPS = "Step by step"


def blocks():
    """Every block of commands, with the heading that it stands under."""
    found = []
    for section in re.split(r"^##+ ", PAGE.read_text(), flags=re.M)[1:]:
        for block in re.findall(r"```console\n(.*?)```", section, re.S):
            lines = block.splitlines()
            assert all(line.startswith("$ ") or line == WAIT for line in lines)
            found.append((section.splitlines()[0], [line.removeprefix("$ ") for line in lines]))
    return found


class Shell:
    """Runs the page's commands, each as it has to be run."""

    def __init__(self, settled, folder, hook):
        self.settled, self.folder, self.hook = settled, folder, hook
        path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        known = {name: value for name, value in os.environ.items() if not name.startswith("PROOFBOOK_")}
        self.environment = {**known, "HOME": str(folder), "PATH": path}
        self.outputs: list[str] = []

    def run(self, command: str) -> None:
        if command == WAIT:
            deadline = self.settled.queue()[0].deadline
            now = self.settled.w3.eth.get_block("latest")["timestamp"]
            self.settled.anvil.increase_time(max(1, deadline + 1 - now))
        elif command.startswith("export "):
            assert set(re.findall(r"(\w+)=", command)) == {"PROOFBOOK_RPC", "PROOFBOOK_CONTRACT"}
            self.environment |= {"PROOFBOOK_RPC": self.settled.anvil.url, "PROOFBOOK_CONTRACT": self.settled.address}
        elif " watch " in command and "--once" not in command:
            self._watch(command)
        else:
            # By then the exchange is frozen, which is critical.
            self._ends(command, EXIT_CODES[Severity.CRITICAL] if " watch " in command else 0)

    def _ends(self, command: str, code: int) -> None:
        options = {"cwd": self.folder, "env": self.environment, "timeout": 300}
        with self._blocks():
            done = subprocess.run(command, shell=True, capture_output=True, text=True, **options)
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
        self.outputs.append(done.stdout)

    @contextlib.contextmanager
    def _blocks(self):
        """Make a block now and then, as chains do: the end of an escape waits for some."""
        over = threading.Event()

        def make():
            while not over.wait(1.0):
                self.settled.anvil.mine(1)

        maker = threading.Thread(target=make)
        maker.start()
        try:
            yield
        finally:
            over.set()
            maker.join()

    def _watch(self, command: str) -> None:
        """Let it watch until its webhook was told, and stop it."""
        assert HOOK in command
        words = f"exec {command.replace(HOOK, self.hook.url)}"
        with subprocess.Popen(words, shell=True, cwd=self.folder, env=self.environment) as process:
            while not self.hook.bodies and process.poll() is None:
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        alerts = [row["code"] for body in self.hook.bodies for row in json.loads(body)["alerts"]]
        self.outputs.append(" ".join(alerts))


def test_every_command_of_the_page_works(settled, tmp_path, hook):
    bob = settled.people["bob"]
    save_exit_artifacts(settled.exit.dir, tmp_path / ".proofbook" / "exit")
    (tmp_path / "my.key").write_text(bob.key.hex())
    shell = Shell(settled, tmp_path, hook)
    for heading, commands in blocks():
        for command in commands if heading != STEPS else ():
            shell.run(command)
    status, asked, left, after, waited, once, watched = shell.outputs
    assert "balances USD 4969000" in status and "step claim" in asked and "step freeze" in left
    assert "frozen: True" in after and "next: step done" in waited
    assert "CRITICAL frozen raised" in once and watched == "frozen"
    exchange = settled.by("bob")
    assert exchange.is_frozen() and exchange.account(2).exited
    assert settled.token.functions.balanceOf(bob.address).call() == 4969 * 1000


@pytest.mark.parametrize("program", ["proofbook-escape", "proofbook escape"])
def test_every_step_of_the_page_works_by_itself(settled, tmp_path, hook, program):
    (commands,) = [lines for heading, lines in blocks() if heading == STEPS and lines[0].startswith(f"{program} ")]
    steps = [line.removeprefix(f"{program} ").split()[0] for line in commands if line != WAIT]
    assert [step for step in steps if step != "status"] == ["request", "freeze", "exit", "reclaim", "claim"]
    alice, home = settled.people["alice"], tmp_path / ".proofbook"
    save_exit_artifacts(settled.exit.dir, home / "exit")
    (tmp_path / "my.key").write_text(alice.key.hex())
    shell = Shell(settled, tmp_path, hook)
    if program == "proofbook escape":
        wallet = {"rpc": settled.anvil.url, "contract": settled.address, "key_file": str(tmp_path / "my.key")}
        save_wallet(home, WalletFile(**wallet))
    else:
        shell.run("export PROOFBOOK_RPC= PROOFBOOK_CONTRACT=")
    for command in commands:
        shell.run(command)
    exchange = settled.by("alice")
    assert exchange.is_frozen() and [exchange.account(k).exited for k in (1, 2)] == [True, False]
    # What she asked for; what she held and had put into the queue, which was claimed; her ether and the fee were not.
    asked = settled.queue()[-1].request
    assert (asked.account, asked.token) == (1, 2)
    assert settled.token.functions.balanceOf(alice.address).call() == (100 + 30) * 1000
    assert [exchange.claim_of(alice.address, token) for token in (1, 2)] == [890 + 1_000, 0]


def test_the_page_names_the_exit_codes_and_the_reasons_to_leave():
    text = PAGE.read_text()
    codes = {int(code) for code in re.findall(r"^\| (\d) \|", text, re.M)}
    assert codes == {0, 1, 2, *EXIT_CODES.values(), EXIT_ESCAPED}
    reasons = re.search(r"when one of (.*?) holds in two looks", text)
    assert reasons is not None and set(re.findall(r"`(\w+)`", reasons[1])) == ESCAPE_ON


def test_the_page_names_every_alert():
    sources = [
        repository_root() / "contracts/proofbook/escape" / name for name in ("watch.py", "watching.py", "waiting.py")
    ]
    written = "".join(path.read_text() for path in sources)
    codes = set(re.findall(r'Alert\("(\w+)"', written)) | set(
        re.findall(r'_(?:event|tell)\(Severity\.[^"\n]+"(\w+)"', written)
    )
    assert len(codes) > 20 and codes | {"root", "data", "books"} == set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?`) \|", PAGE.read_text(), re.M)))
    )

"""A watch that leaves says what it waits for."""

from __future__ import annotations

import json

import pytest

from proofbook.escape.waiting import AGAIN_S, MAX_KINDS, Waiting
from proofbook.escape.watch import EXIT_ESCAPED

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("settled")]


def test_who_is_told_hears_what_an_escape_waits_for(settled, eye, stored, hook, proxy, monkeypatch, let_pass):
    """The deadline, then a node that is away, each once however long it takes; then all is out."""
    monkeypatch.setattr("proofbook.verifier.rpc.MAX_TRIES", 1)
    settled.anvil.increase_time(2000)
    watch = eye("bob", artifacts=stored, escape=True, confirm=1, url=proxy.url, webhook=hook.url)
    waited: list[float] = []

    def wait(seconds):
        waited.append(seconds)
        assert len(waited) < 50, "it does not end"
        proxy.mood = (lambda n, method: "broken") if 3 < len(waited) < 7 else (lambda n, method: None)
        if len(waited) == 7:
            let_pass()
        settled.anvil.mine(5)
        return False

    monkeypatch.setattr(watch.stop, "wait", wait)
    assert watch.watch.run() == EXIT_ESCAPED
    told = [row for body in hook.bodies for row in json.loads(body)["alerts"] if row["code"] == "escape_waiting"]
    texts = [(row["severity"], row["text"].split(":")[0]) for row in told]
    assert texts[0] == ("info", "waiting") and texts[-1] == ("info", "all is out")
    assert 1 <= sum(severity == "warning" for severity, _ in texts) < 3 and len(texts) < 6


def test_what_is_waited_for_is_told_when_it_changes():
    told: list[tuple[str, str]] = []
    said: list[str] = []
    now = [0.0]
    waiting = Waiting(lambda severity, code, text: told.append((severity.name, text)), said.append, lambda: now[0])
    lines = [f"waiting: the deadline is 1700000000, in {k} d {k} h {k} min" for k in (3, 2, 1)]
    lines += [f"gas costs {k} gwei, more than 500: wait; trying again" for k in (900, 800)]
    for line in (*lines, "step: freeze", "read block 7 of 9", *lines):
        waiting(line)
    assert told == [("INFO", lines[0]), ("WARNING", lines[3])] and len(said) == 12
    now[0] = AGAIN_S + 1
    waiting(lines[1])
    assert told[2:] == [("INFO", lines[1])]
    for k in range(100):
        waiting(f"{'a' * k}b; trying again")
    assert len(told) == 2 + MAX_KINDS

"""From commands to durable results: check signatures, journal, run the engine, and only then answer.

A group of commands is written with one sync of the disk. If the writing or the engine fails, the sequencer refuses all
further work: memory may be ahead of the disk, and a restart brings them together.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol, TypeAlias

import msgspec

from proofbook.operator.codes import Code, OperatorError, Refused
from proofbook.operator.commands import SIGNED_COMMANDS, AddMarket, Command, RequestConfirmed, SignedCommand, Tick
from proofbook.operator.engine import Engine, EngineConfig, make_refusal
from proofbook.operator.events import BatchSealed, Event
from proofbook.operator.journal import Journal, JournalCorrupt, JournalError, JournalMismatch
from proofbook.operator.markets import Market, Markets
from proofbook.operator.memory import without_collector
from proofbook.protocol.babyjub import Point
from proofbook.protocol.errors import InvalidValue
from proofbook.protocol.messages import SignedAction, verify_action

Claim: TypeAlias = tuple[Point, SignedAction]
Verify: TypeAlias = Callable[[Sequence[Claim]], Sequence[bool]]
"""Tells of each (key, signed action) whether the circuit accepts the signature; the actions passed `Action.check`."""
Listener: TypeAlias = Callable[[Sequence[Event], int], None]
"""Called with the events of a command and the engine's time: for each one replayed, and then for each one committed."""


class Gate(Protocol):
    """Keeps commands from the engine, and so out of the journal."""

    def check(self, engine: Engine, command: Command) -> None:
        """Refuse a command, whose signature holds, that the engine would do next; raises `Refused`."""

    def note(self, engine: Engine, command: Command, events: Sequence[Event]) -> None:
        """Take in what a command came to that was not refused."""


class SequencerBroken(OperatorError):
    """An earlier failure left memory ahead of the disk: restart the operator (code ``sequencer_broken``)."""

    code: ClassVar[str] = "sequencer_broken"


class Receipt(NamedTuple):
    """The answer to one command.

    Attributes
    ----------
    sequence : int
        Its place in the journal; 0 if its signature failed, or the gate refused it, so that the engine never saw it.
    events : tuple of Event
        What happened.
    """

    sequence: int
    events: tuple[Event, ...]


def verify_each(claims: Sequence[Claim]) -> list[bool]:
    """Check signatures one by one with the protocol's own code."""
    return [verify_action(key, signed) for key, signed in claims]


def make_verify(
    eddsa_verify_many: Callable[[Sequence[tuple[int, int, int, int, int, int]]], Sequence[bool]],
    poseidon_many: Callable[[Sequence[Sequence[int]]], Sequence[int]] | None = None,
) -> Verify:
    """Make a `Verify` from functions like the native core's.

    Parameters
    ----------
    eddsa_verify_many : callable
        Verifies rows of (pub_x, pub_y, r8x, r8y, s, msg).
    poseidon_many : callable, optional
        Hashes rows; without it, messages are hashed one by one.
    """

    def hash_all(claims: Sequence[Claim]) -> Sequence[int]:
        if poseidon_many is None:
            return [signed.action.message_hash() for _, signed in claims]
        return poseidon_many([signed.action.message_inputs() for _, signed in claims])

    def verify(claims: Sequence[Claim]) -> Sequence[bool]:
        pairs = zip(claims, hash_all(claims), strict=True)
        return eddsa_verify_many(
            [(*key, *signed.signature.r8, signed.signature.s, msg) for (key, signed), msg in pairs]
        )

    return verify


class Sequencer:
    """One engine and its journal. All methods may be called from any thread.

    Parameters
    ----------
    config : EngineConfig
        Must be what the journal was made with, but for markets that are new.
    path : Path
        The journal's file.
    verify : Verify
        Checks signatures.
    listeners : iterable of Listener
        Told of everything, from the first command on.
    gate : Gate, optional
        Asked about everything new.

    Raises
    ------
    JournalError
        If the journal can't be used, is damaged, or does not lead where it led before.
    """

    def __init__(
        self,
        config: EngineConfig,
        path: Path,
        verify: Verify = verify_each,
        listeners: Iterable[Listener] = (),
        gate: Gate | None = None,
    ) -> None:
        self._verify, self._listeners, self._gate = verify, tuple(listeners), gate
        self._mutex = threading.RLock()
        self._broken = False
        markets = config.markets.all
        self._journal = Journal(path, config.get_identity(), msgspec.json.encode(markets).decode())
        try:
            first = Markets(msgspec.json.decode(self._journal.start, type=list[Market]))
            self.engine = Engine(replace(config, markets=first))
            with without_collector():
                self._replay()
            self._add_markets(markets)
        except BaseException:
            self._journal.close()
            raise

    def _replay(self) -> None:
        checkpoints = self._journal.get_checkpoints()
        # A state comes of all before it, so the newest speaks for all; and a digest takes longer than a batch's trades.
        newest = self._noted = max(checkpoints, default=0)
        if newest > self._journal.last:
            raise JournalCorrupt(f"there were {newest} commands, now there are {self._journal.last}")
        for seq, command in self._journal.replay():
            self._tell(self.engine.handle(command))
            if seq == newest and self.engine.state_hash() != checkpoints[newest]:
                raise JournalCorrupt(f"command {seq} led to another state before: the program or the journal changed")

    def _add_markets(self, wanted: tuple[Market, ...]) -> None:
        """Add the markets that are new in the settings, for good; nothing else may have become of them."""
        known = self.engine.config.markets.all
        if wanted[: len(known)] != known:
            raise JournalMismatch("markets can be added behind those there are, but not changed or taken away")
        if len(wanted) > len(known) and not self.engine.frozen:
            self.submit([AddMarket(market) for market in wanted[len(known) :]])

    def _tell(self, events: Sequence[Event]) -> None:
        for listener in self._listeners:
            listener(events, self.engine.now)

    def submit(self, commands: Sequence[Command], now: int | None = None) -> list[Receipt]:
        """Do commands in order, as one group, and return their receipts once all are on disk.

        Parameters
        ----------
        commands : sequence of Command
            Any number.
        now : int, optional
            Unix seconds; the engine's time moves there first.

        Raises
        ------
        SequencerBroken
            After a failure in an earlier call.
        JournalError, InvariantError
            If this group fails; its commands may or may not take effect at restart, and nobody was told.
        """
        with self._mutex:
            if self._broken:
                raise SequencerBroken("an earlier command failed; restart the operator")
            ticks: list[Command] = [Tick(now)] if now is not None and now > self.engine.now else []
            try:
                receipts = self._run([*ticks, *commands])
            except BaseException:
                self._broken = True
                raise
            return receipts[len(ticks) :]

    def _run(self, commands: Sequence[Command]) -> list[Receipt]:
        results: list[tuple[bool, tuple[Event, ...], int]] = []
        handled: list[Command] = []
        for run in _split(commands):
            refusals = self._check(run)
            for command, refusal in zip(run, refusals, strict=True):
                refusal = refusal or self._ask(command)
                results.append((refusal is None, (refusal,) if refusal else self._do(command), self.engine.now))
                if refusal is None:
                    handled.append(command)
        sequences = iter(self._journal.append(handled) if handled else [])
        if any(isinstance(event, BatchSealed) for _, events, _ in results for event in events):
            self._note_state()
        receipts = []
        for known, events, now in results:
            receipts.append(Receipt(next(sequences) if known else 0, events))
            for listener in self._listeners if known else ():
                listener(events, now)
        return receipts

    def _ask(self, command: Command) -> Event | None:
        """Return the event with which the gate refuses a command, or None."""
        if self._gate is not None:
            try:
                self._gate.check(self.engine, command)
            except Refused as refused:
                return make_refusal(command, refused.code, refused.detail)
        return None

    def _do(self, command: Command) -> tuple[Event, ...]:
        events = tuple(self.engine.handle(command))
        if self._gate is not None:
            self._gate.note(self.engine, command, events)
        return events

    def _note_state(self) -> None:
        """Note the state's digest unless that was done lately: it takes time for each account and each order."""
        if self._journal.last - self._noted >= len(self.engine.registry.accounts) + len(self.engine.trading.live):
            self._journal.add_checkpoint(self.engine.state_hash())
            self._noted = self._journal.last

    def _check(self, commands: Sequence[Command]) -> list[Event | None]:
        """Return for each command the event that refuses it for its form or signature, or None."""
        refusals: list[Event | None] = [None] * len(commands)
        claims: list[tuple[int, Claim]] = []
        for i, command in enumerate(commands):
            if isinstance(command, SIGNED_COMMANDS):
                claim = self._make_claim(command)
                if isinstance(claim, tuple):
                    claims.append((i, claim))
                else:
                    refusals[i] = claim
        for (i, _), valid in zip(claims, self._verify([claim for _, claim in claims]), strict=True):
            if not valid:
                refusals[i] = make_refusal(commands[i], Code.BAD_SIGNATURE, "not signed with the account's trading key")
        return refusals

    def _make_claim(self, command: SignedCommand) -> Claim | Event:
        action = command.signed.action
        try:
            action.check()
        except InvalidValue as error:
            return make_refusal(command, Code.MALFORMED, str(error))
        key = self.engine.get_key(action.account)
        if key is None:
            return make_refusal(command, Code.UNKNOWN_ACCOUNT, f"account {action.account} is not open (yet)")
        return key, command.signed

    def close(self) -> None:
        """Close the journal, noting the engine's state so that the next start can compare, if the disk takes it."""
        with self._mutex:
            if not self._broken:
                with contextlib.suppress(JournalError):
                    self._journal.add_checkpoint(self.engine.state_hash())
            self._broken = True
            self._journal.close()


def _split(commands: Sequence[Command]) -> Iterable[list[Command]]:
    """Cut a group behind every command that may change a key, so that signatures can be checked together in between."""
    run: list[Command] = []
    for command in commands:
        run.append(command)
        if isinstance(command, RequestConfirmed):
            yield run
            run = []
    if run:
        yield run

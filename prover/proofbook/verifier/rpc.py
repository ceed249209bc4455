"""JSON-RPC over HTTP, and nothing else: size limits, patience, several nodes, typed errors, event queries in pieces."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from proofbook.verifier.deadline import Deadline
from proofbook.verifier.errors import RpcMalformed, RpcRefused, RpcTooLarge, RpcUnavailable

MAX_ANSWER: Final = 64 << 20
MAX_TRIES: Final = 7
MAX_PAUSE_S: Final = 30.0
"""No longer than this between two tries, whatever a node asks for."""
MAX_NODES: Final = 16
MAX_SPAN: Final = 1 << 20
"""Blocks in one query of events."""
MAX_DEPTH: Final = 64
MAX_TIME: Final = 1 << 32
"""Unix seconds below which a block's time is, as those of batches are."""
_FIRST_PAUSE_S: Final = 0.2
_BROADCAST_S: Final = 10.0
"""For a node whose answer is not needed."""
_WORTH_TELLING_S: Final = 1.0
_FIRST_SPAN: Final = 1 << 16
_MAX_LATE: Final = 3
"""Time-outs in a row that events are worth."""
_HASTE: Final = 8
"""How much less is asked for after one."""
_BUSY_ROUNDS: Final = 3
"""Rounds in which a node that is busy is waited for, where another one refused."""
_SAID_ONCE: Final = ("eth_getLogs", "eth_sendRawTransaction")
_CALM: Final = 16
"""Good answers after which a range that was refused before is tried again."""
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_TEXT: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A JSON string. One that never ends goes on to the end of all: looking for its end again and again takes for ever."""
_HEX: Final = re.compile("0x[0-9a-fA-F]*")
_BUSY: Final = (408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)
_LIMIT_CODES: Final = (-32005, 429)
# Nodes say "slow down" and "not there yet" in words of their own; both pass with time, or at another node.
_PASSING: Final = (
    "too many requests",
    "rate limit",
    "request limit",
    "request rate",
    "requests per second",
    "compute units",
    "throttl",
    "try again",
    "header not found",
    "unknown block",
    "block not found",
)


class Rpc:
    """One or more nodes of a chain, asked one question at a time; when one fails, the next is asked.

    Parameters
    ----------
    url : str or sequence of str
        http or https addresses, one or more; commas separate several in one text.
    timeout : float
        Seconds for all of an answer.
    trust_env : bool
        Whether the environment may name a proxy.
    pause : callable
        Waits some seconds between tries.
    tell : callable
        Told what failed and is tried again.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        timeout: float = 60.0,
        trust_env: bool = False,
        pause: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.urls = addresses(url)
        # Nothing is unpacked: some hundred packed bytes become any size.
        headers = {"accept-encoding": "identity"}
        self._client = httpx.Client(timeout=timeout, trust_env=trust_env, headers=headers)
        self._timeout, self._deadline = timeout, Deadline()
        self._pause, self._tell = pause, tell
        self._at = 0
        self._is_hasty = False
        self._id = 0
        self._span = _FIRST_SPAN
        self._refused_span = 0
        self._calm = 0

    @property
    def url(self) -> str:
        """The node that is asked next."""
        return self.urls[self._at]

    def advance(self) -> None:
        """Go on to the next node: for what no single answer shows, as a history that does not fit or a stale head."""
        self._at = (self._at + 1) % len(self.urls)

    @contextlib.contextmanager
    def hasty(self) -> Iterator[None]:
        """Ask every node once only while this lasts: for what can be done without."""
        before, self._is_hasty = self._is_hasty, True
        try:
            yield
        finally:
            self._is_hasty = before

    def call(self, method: str, *parameters: Any) -> Any:
        """Call a method and return its result.

        Raises
        ------
        RpcUnavailable
            If no node answers, after some tries.
        RpcRefused
            If one answers with an error, and no other with anything better, though it was only busy at first.
        RpcMalformed, RpcTooLarge
            If its answer is not JSON-RPC, after some tries, or too large.
        """
        self._id += 1
        tries = 1 if self._is_hasty else MAX_TRIES
        for attempt in range(tries):
            answer, errors = self._round(method, parameters)
            if not errors:
                return answer
            failed = _passing_or_raise(method, errors, attempt, attempt == tries - 1)
            seconds = min(MAX_PAUSE_S, max(failed.after, _FIRST_PAUSE_S * 2**attempt))
            if seconds >= _WORTH_TELLING_S:
                self._tell(f"{failed.typed.message}; asking again in {seconds:.0f} s")
            self._pause(seconds)
        raise AssertionError("unreachable")

    def _round(self, method: str, parameters: Sequence[Any]) -> tuple[Any, list[_Failure]]:
        """Ask each node once until one answers; returns its answer, or what came in place of one from each."""
        errors: list[_Failure] = []
        for _ in self.urls:
            try:
                return self._ask(self.url, method, parameters, self._timeout), []
            except (RpcRefused, RpcTooLarge, _PassingError) as error:
                errors.append(error)
            self.advance()
        return None, errors

    def broadcast(self, raw: str) -> Any:
        """Give a signed transaction to all nodes, and return what the one that is asked first makes of it.

        One node alone may say yes and drop it. What the others say of it does not matter; errors are those of `call`.
        """
        method = "eth_sendRawTransaction"
        answer = self.call(method, raw)
        for url in self.urls:
            if url != self.url:
                with contextlib.suppress(RpcRefused, RpcTooLarge, _PassingError):
                    self._ask(url, method, [raw], min(self._timeout, _BROADCAST_S))
        return answer

    def _ask(self, url: str, method: str, parameters: Sequence[Any], seconds: float) -> Any:
        """Ask one node once; what may pass with time is a `_PassingError`."""
        body = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": list(parameters)}
        try:
            answer, status = self._post(url, body, seconds)
            return _result(method, answer, status, self._id)
        except httpx.HTTPError as error:
            if method == "eth_getLogs" and (self._deadline.passed or isinstance(error, httpx.ReadTimeout)):
                too_large = RpcTooLarge(f"{method}: no answer in time")
                too_large.late = True
                raise too_large from error
            late = f"it takes longer than {seconds:g} s" if self._deadline.passed else ""
            raise _PassingError(_no_answer(method, late or error)) from error
        except RpcTooLarge:
            raise
        except RpcMalformed as error:
            # Cut off on its way, perhaps: what is no answer at all is asked for again.
            raise _PassingError(error) from error

    def _post(self, url: str, body: dict[str, Any], seconds: float) -> tuple[bytes, int]:
        method = body["method"]
        with (
            self._deadline.within(url, seconds) as extensions,
            self._client.stream("POST", url, json=body, timeout=seconds, extensions=extensions) as response,
        ):
            if response.status_code in _BUSY:
                after = _retry_after(response.headers.get("Retry-After", ""))
                raise _PassingError(_no_answer(method, f"HTTP {response.status_code}"), after, is_busy=True)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise RpcMalformed(f"{method}: the answer is packed", "is this the address of a node?")
            answer = bytearray()
            for piece in response.iter_raw():
                answer += piece
                if len(answer) > MAX_ANSWER:
                    raise RpcTooLarge(f"{method}: an answer of more than {MAX_ANSWER} bytes")
            if self._deadline.passed:
                raise httpx.ReadTimeout("the answer broke off")
            return bytes(answer), response.status_code

    def ranges(
        self, address: str, topics: Sequence[str], first: int, last: int, number: int | None = None
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Yield the contract's events of some kinds in blocks `first` to `last`, both included, range by range.

        With `number`, those alone whose first indexed argument it is.

        Nodes limit range or results, each with words of its own: a refused range is asked for in smaller pieces, and
        pieces grow again as long as nothing is refused.

        Yields
        ------
        upto : int
            The range's last block.
        events : list of dict
            Those of the range, in order.

        Raises
        ------
        RpcRefused, RpcTooLarge
            If a single block is refused.
        RpcUnavailable
            If no answer comes in time, to small ranges neither; the next call begins with small ones.
        """
        wanted = [list(topics), *([] if number is None else [f"0x{number:064x}"])]
        at, impatience, late = first, 0, 0
        while at <= last:
            span = min(self._span, last - at + 1)
            upto = at + span - 1
            query = {"address": address, "topics": wanted, "fromBlock": hex(at), "toBlock": hex(upto)}
            try:
                found = self.call("eth_getLogs", query)
            except (RpcRefused, RpcTooLarge) as error:
                if span > 1:
                    smaller = span // (_HASTE if _is_late(error) else 2)
                    self._span, self._refused_span, self._calm = max(1, smaller), span, 0
                else:
                    impatience = self._wait_or_raise(error, impatience)
                late = _count_late(error, late)
                continue
            yield upto, _sorted_logs(found, at, upto)
            at, impatience, late = upto + 1, 0, 0
            self._grow()

    def _wait_or_raise(self, error: RpcRefused | RpcTooLarge, waited: int) -> int:
        """Wait where a single block is "over the limit": then it was one of requests after all."""
        code = error.answer.get("code") if isinstance(error, RpcRefused) else None
        if code not in _LIMIT_CODES or waited >= MAX_TRIES:
            raise error
        self._pause(min(MAX_PAUSE_S, 2.0**waited))
        return waited + 1

    def _grow(self) -> None:
        self._calm += 1
        if self._calm >= _CALM:
            self._calm = self._refused_span = 0
        if not self._refused_span or self._span * 2 < self._refused_span:
            self._span = min(MAX_SPAN, self._span * 2)

    def block_number(self) -> int:
        """Return the latest block's number."""
        return quantity(self.call("eth_blockNumber"))

    def chain_id(self) -> int:
        """Return the chain's id."""
        return quantity(self.call("eth_chainId"))

    def code(self, address: str, block: int) -> bytes:
        """Return a contract's runtime code."""
        return data(self.call("eth_getCode", address, hex(block)))

    def block(self, number: int) -> tuple[str, int]:
        """Return a block's hash, 0x and 64 hex digits, and its timestamp, Unix seconds; `RpcMalformed` without one."""
        found = self.call("eth_getBlockByNumber", hex(number), False)
        if not isinstance(found, dict):
            raise RpcMalformed(f"there is no block {number}")
        digest = found.get("hash")
        if len(data(digest)) != 32 or quantity(found.get("number")) != number:
            raise RpcMalformed(f"block {number} has no hash, or is another one")
        if (seconds := quantity(found.get("timestamp"))) >= MAX_TIME:
            raise RpcMalformed(f"block {number} is of no time there is: {seconds}")
        return str(digest).lower(), seconds

    def has_block(self, number: int, digest: str) -> bool:
        """Tell whether a block is still the chain's."""
        try:
            return self.block(number)[0] == digest
        except RpcMalformed:
            return False


def addresses(url: str | Sequence[str]) -> tuple[str, ...]:
    """Return nodes' addresses out of texts with commas; `RpcUnavailable` for one that is none."""
    texts = [url] if isinstance(url, str) else list(url)
    found = tuple(part.strip() for text in texts for part in text.split(",") if part.strip())
    if not 1 <= len(found) <= MAX_NODES:
        raise RpcUnavailable(f"{len(found)} node addresses", f"give 1 to {MAX_NODES}, as http://host:port")
    for one in found:
        if not one.startswith(("http://", "https://")) or not _is_url(one):
            raise RpcUnavailable(f"not an http address: {one[:100]}", "give it as http://host:port")
    return found


def _is_url(text: str) -> bool:
    try:
        return bool(httpx.URL(text).host)
    except httpx.InvalidURL:
        return False


class _PassingError(Exception):
    """Something that may pass: the node is asked again, or another one."""

    def __init__(
        self,
        typed: RpcUnavailable | RpcMalformed,
        after: float = 0.0,
        is_final: bool = False,
        is_busy: bool = False,
    ) -> None:
        super().__init__(str(typed))
        self.typed, self.after, self.is_final, self.is_busy = typed, after, is_final, is_busy


_Failure = RpcRefused | RpcTooLarge | _PassingError


def _passing_or_raise(method: str, errors: Sequence[_Failure], attempt: int, is_last: bool) -> _PassingError:
    """Return what is worth asking again for, of one round's errors; raise what is final.

    A refusal is, unless another node was only busy, and may know what this one forgot: but not for long. Events are
    asked for in smaller ranges then, transactions are signed anew, and a contract says the same wherever it is asked.
    """
    refusals = [error for error in errors if not isinstance(error, _PassingError)]
    passing = [error for error in errors if isinstance(error, _PassingError)]
    if refusals:
        busy = [error for error in passing if error.is_busy]
        is_said = method in _SAID_ONCE or any(isinstance(e, RpcRefused) and e.reverted for e in refusals)
        if not busy or is_said or is_last or attempt >= _BUSY_ROUNDS:
            raise refusals[-1]
        return busy[-1]
    if passing[-1].is_final or is_last:
        raise passing[-1].typed from passing[-1]
    return passing[-1]


def _no_answer(method: str, error: Exception | str) -> RpcUnavailable:
    told = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return RpcUnavailable(f"the node does not answer {method}: {told}", "is it running? another one may do")


def _retry_after(text: str) -> float:
    """Return the seconds that a busy node asks for: a number, or a date."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _result(method: str, answer: bytes, status: int, id_: int) -> Any:
    if _depth(answer) > MAX_DEPTH:
        raise RpcMalformed(f"{method}: the answer is nested too deeply")
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError) as error:
        if status >= 400:
            raise _PassingError(_no_answer(method, f"HTTP {status}"), is_final=True) from error
        raise RpcMalformed(f"{method}: the answer is no JSON", "is this the address of a node?") from error
    if not isinstance(told, dict):
        raise RpcMalformed(f"{method}: the answer is no JSON-RPC", "is this the address of a node?")
    if told.get("error") is not None:
        _refuse(method, told["error"])
    if "result" not in told:
        raise RpcMalformed(f"{method}: the answer has no result", "is this the address of a node?")
    if told.get("id") != id_:
        raise RpcMalformed(f"{method}: the answer to another question", "is this the address of a node?")
    return told["result"]


def _refuse(method: str, refusal: Any) -> None:
    """Raise what an error object says: `_PassingError` where patience helps."""
    parts = refusal if isinstance(refusal, dict) else {"message": refusal}
    code, reason = parts.get("code"), str(parts.get("message"))[:500]
    words = reason.lower()
    # A contract that reverts picks the words itself; were they the node's, a token could have everybody wait.
    reverted = _reverted(code, words, parts.get("data"))
    # -32005 is "limit exceeded": of results, where events are asked for, which no patience mends but a smaller range.
    is_busy = any(word in words for word in _PASSING) or (code in _LIMIT_CODES and method != "eth_getLogs")
    if is_busy and not reverted:
        raise _PassingError(_no_answer(method, reason), after=1.0, is_busy=True)
    error = RpcRefused(f"{method}: {reason}")
    error.reverted = reverted
    error.answer = {"code": code, "message": reason, "data": parts.get("data")}
    raise error


def _reverted(code: Any, words: str, told: Any) -> bool:
    """Tell whether a refusal is a contract's and not the node's; nodes say so in one of three ways."""
    return code == 3 or "revert" in words or (isinstance(told, str) and told.startswith("0x"))


def _depth(text: bytes) -> int:
    """Return at least how deep JSON nests: where a library has raised Python's recursion limit, depth is a crash.

    What texts hold is no depth: nodes put a contract's own words there.
    """
    depth = deepest = 0
    for bracket in _TEXT.sub(b"", text).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _sorted_logs(found: Any, first: int, last: int) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(log, dict) for log in found):
        raise RpcMalformed("eth_getLogs: not a list of events")
    for log in found:
        if not first <= quantity(log.get("blockNumber")) <= last:
            raise RpcMalformed("eth_getLogs: an event outside the blocks that were asked for")
    return sorted(found, key=lambda log: (quantity(log["blockNumber"]), quantity(log.get("logIndex"))))


def _is_late(error: RpcRefused | RpcTooLarge) -> bool:
    return isinstance(error, RpcTooLarge) and error.late


def _count_late(error: RpcRefused | RpcTooLarge, late: int) -> int:
    """Count time-outs in a row: with a node that hangs, each smaller range would wait for one more."""
    if not _is_late(error):
        return 0
    if late + 1 == _MAX_LATE:
        raise _no_answer("eth_getLogs", f"{_MAX_LATE} times in a row none came in time") from error
    return late + 1


def quantity(value: Any) -> int:
    """Return a JSON-RPC quantity as an integer; `RpcMalformed` if it is none of at most 256 bits."""
    # int() would also take signs, blanks, underscores, a second 0x and other scripts' digits.
    if not isinstance(value, str) or not 3 <= len(value) <= 66 or not _HEX.fullmatch(value):
        raise RpcMalformed(f"not a quantity: {str(value)[:100]}")
    return int(value, 16)


def data(value: Any) -> bytes:
    """Return JSON-RPC data as bytes; `RpcMalformed` if it is none."""
    # fromhex() would also take blanks between bytes.
    if not isinstance(value, str) or len(value) % 2 or not _HEX.fullmatch(value):
        raise RpcMalformed(f"not data: {str(value)[:100]}")
    return bytes.fromhex(value[2:])

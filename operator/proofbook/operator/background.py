"""What the operator does beside answering: steps over and over, and flushes. No failure of theirs is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from proofbook.operator.codes import OperatorError
from proofbook.operator.l1 import RpcUnavailable
from proofbook.protocol.errors import ProofbookError

log = logging.getLogger(__name__)
FLUSH: Final = "flush"

_T = TypeVar("_T")


class Background:
    """The tasks of one operator, ended together.

    Parameters
    ----------
    stop : callable
        Told of what the operator can't go on after.
    is_stopped : callable
        Tells whether it has stopped.
    pause_s : float
        Seconds before a node that does not answer is asked again.

    Attributes
    ----------
    trouble : dict of str to str
        What waits, and the code of what it waits for to get better.
    """

    def __init__(self, stop: Callable[[ProofbookError], None], is_stopped: Callable[[], bool], pause_s: float) -> None:
        self._stop, self._is_stopped, self._pause_s = stop, is_stopped, pause_s
        self._steps: list[asyncio.Task[None]] = []
        self._flushes: set[asyncio.Task[list[int]]] = set()
        self.trouble: dict[str, str] = {}

    def is_running(self) -> bool:
        """Tell whether there are steps at work."""
        return bool(self._steps) and not self._is_stopped()

    def repeat(self, step: Callable[[], Awaitable[None]], pause: float) -> None:
        """Begin to repeat a step, with pauses."""
        self._steps.append(asyncio.create_task(self._forever(step, pause)))

    async def _forever(self, step: Callable[[], Awaitable[None]], pause: float) -> None:
        """Repeat a step; a node that does not answer is waited for, any other failure stops the operator."""
        while not self._is_stopped():
            try:
                await self._attempt(step.__name__, step)
                self.trouble.pop(FLUSH, None)
            except RpcUnavailable:
                await asyncio.sleep(self._pause_s)
            except ProofbookError:
                return
            await asyncio.sleep(pause)

    async def _attempt(self, name: str, work: Callable[[], Awaitable[_T]]) -> _T:
        """Do something; when it fails, have it told before it is raised, as `ProofbookError` whatever it was."""
        try:
            result = await work()
        except RpcUnavailable as error:
            log.error("L1: %s", error)
            self.trouble[name] = error.code
            raise
        except ProofbookError as error:
            self._stop(error)
            raise
        except Exception as error:
            log.exception("unexpected failure")
            named = OperatorError(f"{type(error).__name__}: {error}")
            self._stop(named)
            raise named from error
        self.trouble.pop(name, None)
        return result

    def begin(self, flush: Callable[[], Awaitable[list[int]]]) -> asyncio.Task[list[int]]:
        """Begin a flush, which is seen through although nobody may wait for it."""
        task = asyncio.create_task(self._attempt(FLUSH, flush))
        self._flushes.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._flushes.discard(task)
        if not task.cancelled():
            task.exception()  # told already; whoever waits gets it as well

    async def close(self) -> None:
        """End everything, and wait until it has ended."""
        tasks = [*self._steps, *self._flushes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._steps = []

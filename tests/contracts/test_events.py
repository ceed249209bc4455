"""Events of nodes that refuse, hang or hang up: how often they are asked, and how much is asked for at once.

Blocks are many and errors are made up here, so the node is a stand-in; `test_chain.py` asks a real one.
"""

from __future__ import annotations

import pytest
from eth_abi.exceptions import InsufficientDataBytes
from requests.exceptions import ConnectionError, ConnectTimeout, HTTPError, ReadTimeout

from proofbook.chain.errors import ChainError
from proofbook.chain.events import CHUNK_BLOCKS, GROW_AFTER, MAX_SILENT, get_events

LAST = 200 * CHUNK_BLOCKS - 1


class Node:
    """A contract whose node answers the k-th question (from 1) with `fate(k, blocks)`: an error, or None."""

    def __init__(self, fate, offset=0):
        self.fate, self.offset, self.asked, self.told = fate, offset, [], []
        self.contract, self.events = self, {"Event": lambda: self}

    def get_logs(self, from_block, to_block):
        self.asked.append(to_block - from_block + 1)
        if error := self.fate(len(self.asked), self.asked[-1]):
            raise error
        self.told.append((from_block, to_block))
        return [{"blockNumber": from_block + self.offset, "logIndex": 0}]


def read(node, last=LAST):
    return [e["blockNumber"] for e in get_events(node, "Event", 0, last)]


def is_whole(node, last=LAST):
    """Every block was told of once, in order."""
    starts, ends = zip(*node.told, strict=True)
    return starts == (0, *(end + 1 for end in ends[:-1])) and ends[-1] == last


def test_a_node_that_stays_silent_is_not_asked_for_half_an_hour():
    node = Node(lambda k, blocks: ReadTimeout("30 s"))
    with pytest.raises(ChainError, match="refuses events of block 0"):
        read(node)
    assert len(node.asked) == 1 + MAX_SILENT
    # What it could not do in one go it is asked for in less, the next time.
    node.fate = lambda k, blocks: ReadTimeout("30 s") if blocks > 100 else None
    for _ in range(3):
        try:
            assert read(node, 4_999)[0] == 0
            break
        except ChainError:
            pass
    assert len(node.asked) <= 12 + 4_999 // 78 * 2 and is_whole(node, 4_999)


@pytest.mark.parametrize("error", [ConnectionError("refused"), ConnectTimeout("30 s")])
def test_a_node_that_is_not_there_is_asked_once(error):
    node = Node(lambda k, blocks: error)
    with pytest.raises(ChainError, match="can't be asked"):
        read(node)
    assert node.asked == [CHUNK_BLOCKS]


@pytest.mark.parametrize("error", [ValueError("query exceeds range"), HTTPError("500")])
def test_after_a_hiccup_as_much_is_asked_for_as_before(error):
    node = Node(lambda k, blocks: error if 3 <= k <= 12 else None)
    assert len(read(node)) == len(node.told) and is_whole(node)
    assert len(node.asked) < 200 + 10 + 11 * GROW_AFTER and max(node.asked[20:]) == CHUNK_BLOCKS


def test_time_outs_apart_from_each_other_are_no_silence():
    node = Node(lambda k, blocks: ReadTimeout("30 s") if k % 20 in (1, 2) else None)
    assert len(read(node)) == len(node.told) and is_whole(node)
    assert len(node.asked) > 20 * MAX_SILENT


def test_a_limit_of_the_node_is_not_tried_again_at_every_step():
    node = Node(lambda k, blocks: ValueError("at most 1000 blocks") if blocks > 1_000 else None)
    read(node)
    assert is_whole(node)
    refused = sum(blocks > 1_000 for blocks in node.asked)
    assert refused <= 5 + len(node.told) / GROW_AFTER


@pytest.mark.parametrize("error", [InsufficientDataBytes("cut short"), OverflowError("too large")])
def test_events_that_make_no_sense_are_an_error_of_the_chain(error):
    """eth-abi's errors are of no family that anybody catches, and would end whoever reads events."""
    node = Node(lambda k, blocks: error)
    with pytest.raises(ChainError, match="from block 0 on make no sense"):
        read(node)
    assert len(node.asked) == 1


@pytest.mark.parametrize("offset", [-1, CHUNK_BLOCKS, -(10**30), 10**30])
def test_events_of_blocks_that_were_not_asked_for_are_refused(offset):
    """A batch would count as mined where it is not, and a request as deep enough."""
    with pytest.raises(ChainError, match="events beyond blocks 0 to"):
        read(Node(lambda k, blocks: None, offset))

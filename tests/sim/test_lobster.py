"""Replaying LOBSTER messages: what lines mean, what is no message, and what is made of them."""

from __future__ import annotations

import gzip
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from proofbook.protocol.table import Flag, Side
from proofbook.sim.flow import Cancel, Place, SimulationError, count_orders
from proofbook.sim.lobster import (
    FlowError,
    FlowMalformed,
    FlowTooLarge,
    FlowUnreadable,
    Replay,
    parse_message,
    read_messages,
    replay,
)

LINES = [
    "34200.004241176,1,11,18,5853300,1",  # a buy of 18 at 585.33
    "34200.01,1,12,20,5853500,-1",  # a sell of 20 at 585.35
    "34200.02,2,12,5,5853500,-1",  # 5 of it are taken back
    "34200.03,4,11,8,5853300,1",  # 8 of the buy are hit
    "34200.04,4,11,10,5853300,1",  # and the rest
    "34200.05,5,0,100,5853400,1",  # hidden: left out
    "34200.06,3,12,15,5853500,-1",  # the sell is deleted
    "34200.07,3,99,15,5853500,-1",  # of one that was never seen
    "34200.08,4,77,30,5853600,-1",  # hit, and from before the start
    "34200.09,7,0,0,-1,-1",  # a halt
]


def write(path, lines=LINES, packed=False):
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


def intents(lines=LINES, **options):
    values: dict[str, Any] = {"symbol": "STK/USD", "tick": 100, "traders": (4, 5, 6), "max_open": 3} | options
    return list(Replay(**values).intents(parse_message(line.encode()) for line in lines))


def test_a_line_is_read_exactly():
    message = parse_message(b"34200.004241176,1,16113575,18,5853300,-1\r\n")
    assert message.time_ns == 34_200_004_241_176
    assert (message.type, message.order, message.size, message.price) == (1, 16113575, 18, 5853300)
    assert message.side is Side.SELL
    assert parse_message(b"1,1,1,1,1,1").time_ns == 10**9
    assert parse_message(b"1.5,1,1,1,1,1").time_ns == 1_500_000_000


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_packed_or_plain(tmp_path, packed):
    messages = list(read_messages(write(tmp_path / "m", packed=packed)))
    assert [m.type for m in messages] == [1, 1, 2, 4, 4, 5, 3, 3, 4, 7]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "34200.1,1,1,1,1",
        "34200.1,1,1,1,1,1,1",
        "34200.1,0,1,1,1,1",
        "34200.1,8,1,1,1,1",
        "34200.1,1,1,1,1,2",
        "34200.1,1,1,1,1,0",
        "34200.1,1,1,0,1,1",
        "34200.1,1,1,-5,1,1",
        "34200.1,1,1,1,0,1",
        "34200.1,1,1,1,-7,1",
        "34200.1,1,1,10000001,1,1",
        "34200.1,1,1,1,10000000001,1",
        "34200.1,1,9223372036854775808,1,1,1",
        "86400,1,1,1,1,1",
        "-1,1,1,1,1,1",
        "1e3,1,1,1,1,1",
        "34200.1,1,1,1.5,1,1",
        "34200.1, 1,1,1,1,1",
        "time,type,id,size,price,direction",
        "\u0663,1,1,1,1,1",
    ],
)
def test_what_is_no_message_is_refused_with_its_line(tmp_path, line):
    with pytest.raises(FlowMalformed, match="line 2") as caught:
        list(read_messages(write(tmp_path / "m", [LINES[0], line, LINES[1]])))
    assert caught.value.code == "flow_malformed"


def test_time_must_not_go_back(tmp_path):
    with pytest.raises(FlowMalformed, match="line 2 goes back"):
        list(read_messages(write(tmp_path / "m", [LINES[1], LINES[0]])))


def test_a_line_without_end_is_not_read_whole(tmp_path):
    for packed in (False, True):
        with pytest.raises(FlowTooLarge) as caught:
            list(read_messages(write(tmp_path / "m", [LINES[0], "1" * 10_000_000], packed)))
        assert caught.value.code == "flow_too_large"


def test_a_damaged_or_missing_file_is_an_error_with_a_code(tmp_path):
    whole = write(tmp_path / "m", LINES * 1, packed=True).read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-12])
    (tmp_path / "spoilt").write_bytes(whole[:20] + bytes([whole[20] ^ 0xFF]) + whole[21:])
    for name in ("cut", "spoilt", "missing", "."):
        with pytest.raises(FlowUnreadable) as caught:
            list(read_messages(tmp_path / name))
        assert caught.value.code == "flow_unreadable"


def test_only_as_much_is_read_as_is_asked_for(tmp_path):
    path = write(tmp_path / "m", [*LINES, "this is no message"])
    assert len(list(islice(read_messages(path), len(LINES)))) == len(LINES)


def test_messages_become_orders_and_cancels():
    first, second, *rest = intents()
    # Order 11 is trader 6's (11 mod 3 = 2), order 12 trader 4's; prices are in ticks of a hundredth of theirs.
    assert first == Place(1, 6, "STK/USD", Side.BUY, 585_330_000, 18)
    assert second == Place(2, 4, "STK/USD", Side.SELL, 585_350_000, 20)
    assert rest[:2] == [Cancel(2, 4), Place(3, 4, "STK/USD", Side.SELL, 585_350_000, 15)]
    # Sellers hit the buy: somebody else, immediately or not at all. Executed whole, nothing of it stays.
    assert rest[2] == Place(4, 5, "STK/USD", Side.SELL, 585_330_000, 8, Flag.IOC)
    assert rest[3:5] == [Place(5, 5, "STK/USD", Side.SELL, 585_330_000, 10, Flag.IOC), Cancel(1, 6)]
    assert rest[5] == Cancel(3, 4)
    # One from before the file's start is placed, hit and gone.
    rested, taken, gone = rest[6:]
    assert rested == Place(6, 6, "STK/USD", Side.SELL, 585_360_000, 30)
    assert (taken.side, taken.flags, taken.lots) == (Side.BUY, Flag.IOC, 30) and taken.trader != 6
    assert gone == Cancel(6, 6)


def test_no_trader_has_more_orders_resting_than_allowed():
    lines = [f"34200,1,{order},10,{5_000_000 + order},1" for order in range(60)]
    resting: dict[int, set[int]] = {4: set(), 5: set(), 6: set()}
    for intent in intents(lines):
        if isinstance(intent, Place):
            resting[intent.trader].add(intent.ref)
        else:
            resting[intent.trader].remove(intent.ref)
        assert all(len(refs) <= 3 for refs in resting.values())
    assert all(len(refs) == 3 for refs in resting.values())


def test_a_replay_stops_at_the_number_of_orders(tmp_path):
    path = write(tmp_path / "m", LINES, packed=True)
    for orders, wanted in ((1, 1), (4, 4), (100, 7)):
        rounds = replay(path, Replay("S", 1, (0, 1), 5), orders)
        assert count_orders(rounds) == wanted
        assert all(0 < len(r) <= 20 for r in rounds)


def test_a_replay_of_nothing_is_an_error(tmp_path):
    for lines in ([], [LINES[-1]]):
        with pytest.raises(FlowError, match="holds no order"):
            replay(write(tmp_path / "m", lines), Replay("S", 1, (0, 1), 5), 10)


@pytest.mark.parametrize("options", [{"traders": (4,)}, {"traders": (4, 4)}, {"tick": 0}, {"max_open": 0}])
def test_a_replay_needs_sensible_arguments(options):
    with pytest.raises(SimulationError):
        intents(**options)
    for orders in (0, 100_001):
        with pytest.raises(SimulationError):
            replay(Path("unread"), Replay("S", 1, (0, 1), 5), orders)

"""The one table: every width, depth, code and word layout of the protocol.

Circom and Solidity constants are generated from this module (`proofbook.protocol.generate`); `make lint` fails when
they are stale.
The layouts are those of docs/spec.md. A layout is a tuple of (field, bits), least significant field first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

# --- widths, in bits
ACCOUNT_BITS: Final = 24
TOKEN_BITS: Final = 16
AMOUNT_BITS: Final = 64
ID_BITS: Final = 64
FEE_BPS_BITS: Final = 14
TIME_BITS: Final = 32
FLAG_BITS: Final = 8
TYPE_BITS: Final = 4
OWNER_BITS: Final = 160
COUNT_BITS: Final = 16

# --- shapes
ACCOUNT_ARITY: Final = 8
ORDER_ARITY: Final = 4
POSITIONS: Final = 15
SPONGE_RATE: Final = 15
MAX_ACTIONS: Final = 240
HEADER_WORDS: Final = 4
REQUEST_WORDS: Final = 4
ACTION_WORDS: Final = 2
FEE_WORDS: Final = 1
REQUEST_MULT_BITS: Final = 8
TRANSFER_MULT_BITS: Final = 7

# --- values
BPS: Final = 10_000
MAX_AMOUNT: Final = 2**AMOUNT_BITS - 1
SLOT_CLOSED: Final = MAX_AMOUNT
"""`filled` of a slot whose id can never fill again (cancelled, withdrawn, transferred)."""
ETH_TOKEN: Final = 1
ETH_QUANTUM: Final = 10**9
FEE_ACCOUNT: Final = 0
DOMAIN_TAG: Final = "proofbook/domain/v1"
CHALLENGE_TAG: Final = "proofbook/z/v1"


class RequestKind(IntEnum):
    """Kinds of L1 requests."""

    NONE = 0
    OPEN = 1
    DEPOSIT = 2
    KEY = 3
    EXIT = 4


class ActionType(IntEnum):
    """Types of signed actions."""

    NONE = 0
    ORDER = 1
    WITHDRAW = 2
    TRANSFER = 3
    CANCEL = 4


class Side(IntEnum):
    """An order's side, seen from the base token."""

    BUY = 0
    SELL = 1


class Flag(IntEnum):
    """Bits of a signed action's flags."""

    IOC = 1
    FOK = 2
    POST_ONLY = 4
    MARKET = 8


Layout = tuple[tuple[str, int], ...]

HEADER_LAYOUT: Final[Layout] = (
    ("size_id", COUNT_BITS),
    ("number", 64),
    ("timestamp", TIME_BITS),
    ("fee_account", ACCOUNT_BITS),
    ("n_requests", COUNT_BITS),
    ("n_actions", COUNT_BITS),
    ("n_fees", COUNT_BITS),
)
REQUEST_LAYOUT: Final[Layout] = (
    ("kind", TYPE_BITS),
    ("account", ACCOUNT_BITS),
    ("token", TOKEN_BITS),
    ("amount", AMOUNT_BITS),
    ("outcome", AMOUNT_BITS),
)
ACTION_LAYOUT: Final[Layout] = (
    ("type", TYPE_BITS),
    ("side", 1),
    ("account", ACCOUNT_BITS),
    ("id", ID_BITS),
    ("base", TOKEN_BITS),
    ("quote", TOKEN_BITS),
)
FILL_LAYOUT: Final[Layout] = (("ex_base", AMOUNT_BITS), ("ex_quote", AMOUNT_BITS), ("aux", AMOUNT_BITS))
FEE_LAYOUT: Final[Layout] = (("token", TOKEN_BITS), ("amount", AMOUNT_BITS))
MESSAGE1_LAYOUT: Final[Layout] = (
    *ACTION_LAYOUT,
    ("max_fee_bps", FEE_BPS_BITS),
    ("valid_until", TIME_BITS),
    ("flags", FLAG_BITS),
)
MESSAGE2_LAYOUT: Final[Layout] = (
    ("base_amount", AMOUNT_BITS),
    ("quote_amount", AMOUNT_BITS),
    ("receiver", ACCOUNT_BITS),
)
ACTION_CALLDATA_BYTES: Final = 40
FEE_CALLDATA_BYTES: Final = 10


@dataclass(frozen=True, slots=True)
class Preset:
    """Depths of the two trees.

    Attributes
    ----------
    name : str
        `minimal` or `mainnet`.
    account_depth : int
        Levels of the 8-ary account tree.
    order_depth : int
        Levels of an account's 4-ary order-slot tree.
    """

    name: str
    account_depth: int
    order_depth: int

    @property
    def index_bits(self) -> int:
        """Bits of an account index."""
        return 3 * self.account_depth

    @property
    def accounts(self) -> int:
        """Number of leaves of the account tree."""
        return 1 << self.index_bits

    @property
    def slots(self) -> int:
        """Number of order slots of an account."""
        return 1 << (2 * self.order_depth)


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows of each kind a batch circuit has.

    Attributes
    ----------
    requests, actions, accounts, fees : int
        Rows, each at least 1.
    """

    requests: int
    actions: int
    accounts: int
    fees: int

    @property
    def words(self) -> int:
        """Number of words of D."""
        return HEADER_WORDS + REQUEST_WORDS * self.requests + ACTION_WORDS * self.actions + FEE_WORDS * self.fees


MINIMAL: Final = Preset("minimal", account_depth=2, order_depth=2)
MAINNET: Final = Preset("mainnet", account_depth=8, order_depth=4)
PRESETS: Final = {p.name: p for p in (MINIMAL, MAINNET)}

SIZES: Final[dict[str, tuple[Size, ...]]] = {
    "minimal": (Size(4, 4, 6, 2), Size(8, 16, 10, 2)),
    "mainnet": (Size(4, 4, 6, 2), Size(4, 16, 12, 4), Size(8, 32, 24, 4)),
}
"""Batch sizes a deployment may offer, smallest first; a deployment offers the first so many of them, by position."""

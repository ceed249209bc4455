from typing import Any

import msgspec
import pytest

from proofbook.operator.codes import Code, Refused
from proofbook.operator.markets import MAX_CONFIG_BYTES, Market, MarketError, Markets, load_markets, parse_markets

GOOD: dict[str, Any] = {
    "symbol": "A/B",
    "base": 1,
    "quote": 2,
    "lot": 10,
    "maker_fee_bps": 1,
    "taker_fee_bps": 2,
    "max_lots": 100,
    "max_price": 1000,
}


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": ""},
        {"symbol": "A B"},
        {"symbol": "x" * 33},
        {"base": 0},
        {"base": 65536},
        {"quote": 1},
        {"lot": 0},
        {"lot": 2**64},
        {"max_lots": 0},
        {"max_price": 0},
        {"max_lots": 2**61},
        {"max_price": 2**60},
        {"maker_fee_bps": -1},
        {"taker_fee_bps": 10_001},
    ],
)
def test_settings_out_of_range_are_refused(change):
    assert Market(**GOOD).lot == 10
    with pytest.raises(MarketError) as caught:
        Market(**(GOOD | change))
    assert caught.value.code == "market_config"


def test_markets_share_neither_symbol_nor_pair():
    one = Market(**GOOD)
    for other in (GOOD | {"symbol": "B/A", "base": 2, "quote": 1}, GOOD | {"base": 3}, GOOD | {"symbol": "C"}):
        with pytest.raises(MarketError):
            Markets([one, Market(**other)])
    with pytest.raises(MarketError):
        Markets([])


@pytest.mark.parametrize(
    ("amounts", "code"),
    [
        ((0, 10), Code.LOT_SIZE),
        ((15, 10), Code.LOT_SIZE),
        ((1010, 101), Code.ORDER_SIZE),
        ((20, 0), Code.PRICE_TICK),
        ((20, 3), Code.PRICE_TICK),
        ((20, 2002), Code.PRICE_RANGE),
    ],
)
def test_amounts_off_the_grid_are_refused(amounts, code):
    market = Market(**GOOD)
    assert market.get_price_and_lots(20, 2000) == (1000, 2)
    with pytest.raises(Refused) as caught:
        market.get_price_and_lots(*amounts)
    assert caught.value.code == code


def test_files_of_both_kinds_say_the_same(tmp_path):
    toml = "[[markets]]\n" + "".join(f"{k} = {v!r}\n".replace("'", '"') for k, v in GOOD.items())
    (tmp_path / "m.toml").write_text(toml)
    (tmp_path / "m.json").write_bytes(msgspec.json.encode({"markets": [GOOD]}))
    assert load_markets(tmp_path / "m.toml").all == load_markets(tmp_path / "m.json").all == (Market(**GOOD),)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "toml"),
        ("x = 1", "toml"),
        ("[[markets]]\nsymbol = 1", "toml"),
        ("[[", "toml"),
        ("{", "json"),
        ('{"markets": []}', "json"),
        (msgspec.json.encode({"markets": [GOOD | {"extra": 1}]}).decode(), "json"),
        (msgspec.json.encode({"markets": [GOOD | {"lot": 1.5}]}).decode(), "json"),
        ('{"markets": []}', "yaml"),
        (" " * (MAX_CONFIG_BYTES + 1), "json"),
    ],
)
def test_broken_files_are_refused(text, kind, tmp_path):
    with pytest.raises(MarketError):
        parse_markets(text, kind)
    path = tmp_path / f"m.{kind}"
    path.write_text(text)
    with pytest.raises(MarketError):
        load_markets(path)


def test_a_missing_file_is_a_typed_error(tmp_path):
    with pytest.raises(MarketError):
        load_markets(tmp_path / "none.toml")

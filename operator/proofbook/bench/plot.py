"""A figure without a plotting library: how costs grow with the work, on logarithmic axes, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Final

Point = tuple[float, float]
WIDTH: Final = 360
HEIGHT: Final = 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 34, 40
_COLOURS: Final = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram.

    Attributes
    ----------
    title, x, y : str
        What it shows, and what its axes count.
    lines : dict of str to sequence of (float, float)
        Points above 0 by the line's name.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[Point]]


def get_decades(values: Sequence[float]) -> tuple[int, int]:
    """Return exponents of ten that enclose all values; `ValueError` for none, or one that is not above 0."""
    if not values or min(values) <= 0:
        raise ValueError("a logarithmic axis needs values above 0")
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    return low, max(high, low + 1)


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _label(exponent: int) -> str:
    return f"{10**exponent:,}" if 0 <= exponent <= 6 else f"1e{exponent}"


def draw_panel(panel: Panel, left: float) -> str:
    """Return a panel's SVG elements, its left edge at ``left``."""
    points = [point for line in panel.lines.values() for point in line]
    (x0, x1), (y0, y1) = get_decades([p[0] for p in points]), get_decades([p[1] for p in points])
    wide, high = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def place(point: Point) -> Point:
        across, up = (log10(point[0]) - x0) / (x1 - x0), (log10(point[1]) - y0) / (y1 - y0)
        return left + _LEFT + across * wide, _TOP + (1 - up) * high

    parts = [_text(left + _LEFT, 18, panel.title, 'font-weight="bold"')]
    parts.append(f'<rect x="{left + _LEFT}" y="{_TOP}" width="{wide}" height="{high}" fill="none" stroke="#999"/>')
    for exponent in range(x0, x1 + 1):
        x, _ = place((10.0**exponent, 10.0**y0))
        parts.append(f'<path d="M{x:.1f} {_TOP}v{high}" stroke="#ddd"/>')
        parts.append(_text(x, _TOP + high + 14, _label(exponent), 'text-anchor="middle"'))
    for exponent in range(y0, y1 + 1):
        _, y = place((10.0**x0, 10.0**exponent))
        parts.append(f'<path d="M{left + _LEFT} {y:.1f}h{wide}" stroke="#ddd"/>')
        parts.append(_text(left + _LEFT - 5, y + 4, _label(exponent), 'text-anchor="end"'))
    parts.append(_text(left + _LEFT + wide / 2, HEIGHT - 8, f"{panel.x} → {panel.y}", 'text-anchor="middle"'))
    for nth, (name, line) in enumerate(panel.lines.items()):
        colour, placed = _COLOURS[nth % len(_COLOURS)], [place(point) for point in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        parts.append(_text(left + _LEFT + 8, _TOP + 16 + 14 * nth, name, f'fill="{colour}"'))
    return "\n".join(parts)


def draw(panels: Sequence[Panel]) -> str:
    """Return panels side by side as an SVG document; `ValueError` where a value can't stand on its axis."""
    body = "\n".join(draw_panel(panel, nth * WIDTH) for nth, panel in enumerate(panels))
    size = f'width="{len(panels) * WIDTH}" height="{HEIGHT}"'
    style = 'font-family="sans-serif" font-size="11"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n<rect {size} fill="white"/>\n{body}\n</svg>\n'

"""Numbers, intervals, times and lists of seeds as people read them. A cell is a text, or a text and a smaller one below."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ganlab.utils.statistics import Estimate, quartiles


def number(x: float, sign: bool = False) -> str:
    if math.isinf(x) or x == 0:
        return "0" if x == 0 else "∞" if x > 0 else "-∞"
    text = f"{x:{'+' if sign else ''}.4g}"
    return text if "e" not in text or abs(x) < 1 else f"{x:{'+' if sign else ''},.0f}"


def interval(found: Estimate, sign: bool = False) -> str | tuple[str, str]:
    if found.low is None:
        return number(found.value, sign)
    return number(found.value, sign), f"{number(found.low, sign)} … {number(found.high, sign)}"


def percent(found: Estimate, sign: bool = False, unit: str = "%", of: tuple[int, int] | None = None) -> tuple[str, str] | str:
    def text(x: float) -> str:
        return f"{100 * x:{'+' if sign and x else ''}.3g}"

    value = f"{text(found.value)} {unit}" + (f" ({of[0]} of {of[1]})" if of else "")
    return value if found.low is None else (value, f"{text(found.low)} … {text(found.high)} {unit}")


def plain(cell: str | tuple[str, str]) -> str:
    return cell if isinstance(cell, str) else f"{cell[0]} ({cell[1]})" if cell[1] else cell[0]


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"


def spread(values: Sequence[float], text: Callable[[float], str]) -> str | tuple[str, str]:
    """Median and quartiles; "never" for what is infinite."""
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return "–"
    low, middle, high = ("never" if math.isinf(x) else text(x) for x in quartiles(values))
    return middle if len(values) == 1 or low == high else (middle, f"{low} … {high}")


def span(values: Sequence[float]) -> str:
    """The least and the most, as whole numbers."""
    least, most = (f"{x:,.0f}" for x in (min(values), max(values)))
    return least if least == most else f"{least} … {most}"


def ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 -> "1–3, 7"."""
    parts: list[list[int]] = []
    for n in sorted(set(numbers)):
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in parts)


def short_value(value: str) -> str:
    """A card's value to show: a hash by its beginning, a number with 4 digits."""
    if len(value) == 64 and all(c in "0123456789abcdef" for c in value):
        return f"{value[:16]}…"
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value

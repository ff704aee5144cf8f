"""Numbers, intervals, durations and lists of seeds as text. A table cell is a text, or a text and a smaller one below it."""

import math
from collections.abc import Callable, Sequence
from statistics import median

from ganlab.utils.statistics import Estimate, mean_interval, percent, quartiles

Cell = str | tuple[str, str]


def format_number(x: float, sign: bool = False) -> str:
    """Four significant digits; large numbers as whole ones with thousands separators."""
    if math.isinf(x) or x == 0:
        return "0" if x == 0 else "∞" if x > 0 else "-∞"
    text = f"{x:{'+' if sign else ''}.4g}"
    return text if "e" not in text or abs(x) < 1 else f"{x:{'+' if sign else ''},.0f}"


def format_estimate(estimate: Estimate, sign: bool = False) -> Cell:
    """A value over its interval."""
    value = format_number(estimate.value, sign)
    if estimate.low is None or estimate.high is None:
        return value
    return value, f"{format_number(estimate.low, sign)} … {format_number(estimate.high, sign)}"


def format_mean(values: Sequence[float]) -> Cell:
    """The mean over its interval; "–" without values. Of an infinite mean, how many values are infinite, and the median."""
    if not values:
        return "–"
    estimate = mean_interval(values)
    if math.isfinite(estimate.value):
        return format_estimate(estimate)
    infinite = sum(map(math.isinf, values))
    return ("∞", f"∞ in {infinite} of {len(values)}; median {format_number(median(values))}") if len(values) > 1 else "∞"


def format_p_value(p: float) -> str:
    return f"{p:.2g}" if p >= 0.0001 else "< 0.0001"


def format_rate(estimate: Estimate, sign: bool = False, unit: str = "%", counts: tuple[int, int] | None = None) -> Cell:
    """A rate in percent over its interval. `counts`: (successes, total), shown beside it."""
    value = f"{percent(estimate.value, sign)} {unit}" + (f" ({counts[0]} of {counts[1]})" if counts else "")
    if estimate.low is None or estimate.high is None:
        return value
    return value, f"{percent(estimate.low, sign)} … {percent(estimate.high, sign)} {unit}"


def cell_text(cell: Cell) -> str:
    """A cell in one line, its second text in parentheses."""
    return cell if isinstance(cell, str) else f"{cell[0]} ({cell[1]})" if cell[1] else cell[0]


def format_duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"


def format_quartiles(values: Sequence[float], text: Callable[[float], str]) -> Cell:
    """Median over quartiles, nan left out; "never" for infinity."""
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return "–"
    low, middle, high = ("never" if math.isinf(x) else text(x) for x in quartiles(values))
    return middle if len(values) == 1 or low == high else (middle, f"{low} … {high}")


def format_range(values: Sequence[float]) -> str:
    """The smallest and the largest value, as whole numbers."""
    low, high = (f"{x:,.0f}" for x in (min(values), max(values)))
    return low if low == high else f"{low} … {high}"


def format_seeds(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 -> "1–3, 7"."""
    parts: list[list[int]] = []
    for n in sorted(set(numbers)):
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in parts)


def field_title(name: str) -> str:
    """A field of a protocol as text; a config key stays as it is typed."""
    return name if "." in name else name.replace("_", " ")


def shorten_value(value: str) -> str:
    """The first 16 digits of a SHA-256; of a number that is longer than 8 characters four significant digits."""
    if len(value) == 64 and all(c in "0123456789abcdef" for c in value):
        return f"{value[:16]}…"
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"

"""Checks of settings. Each returns the value, or raises ValueError with the setting's name, the value and what is allowed."""

import math


def validate_int(name: str, value: int, minimum: int = 1, maximum: int | None = None) -> int:
    """An int in [minimum, maximum]; True and False are refused."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum or (maximum is not None and value > maximum):
        allowed = f"of at least {minimum}" if maximum is None else f"in {minimum} … {maximum}"
        raise ValueError(f"{name} must be an integer {allowed}, got {value!r}")
    return value


def validate_number(
    name: str, value: float, *, minimum: float | None = None, above: float | None = None, below: float | None = None
) -> float:
    """A finite int or float with minimum <= value, above < value, value < below; True and False are refused."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    in_range = is_number and not (
        (minimum is not None and value < minimum)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    )
    if not in_range:
        bounds = {"of at least": minimum, "above": above, "below": below}
        allowed = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
        raise ValueError(f"{name} must be a number {allowed}".rstrip() + f", got {value!r}")
    return value

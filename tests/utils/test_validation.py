import math

import pytest

from ganlab.utils.validation import validate_int, validate_number


def test_valid_values_are_returned():
    assert validate_int("n", 3) == 3 and validate_int("n", 0, 0) == 0 and validate_int("n", 7, maximum=7) == 7
    assert validate_number("x", 0.5, above=0, below=1) == 0.5 and validate_number("x", 0, minimum=0) == 0


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", True, None, math.nan])
def test_validate_int_rejects(value):
    with pytest.raises(ValueError, match="data.size must be an integer of at least 1, got "):
        validate_int("data.size", value)


def test_validate_int_names_the_range():
    with pytest.raises(ValueError, match="^pack must be an integer in 1 … 4, got 5$"):
        validate_int("pack", 5, maximum=4)


@pytest.mark.parametrize("value", [0, 1, -0.5, True, "0.5", None, math.nan, math.inf])
def test_validate_number_rejects(value):
    with pytest.raises(ValueError, match="^x must be a number above 0 and below 1, got "):
        validate_number("x", value, above=0, below=1)


def test_validate_number_without_bounds_rejects_non_finite_values():
    with pytest.raises(ValueError, match="^x must be a number, got inf$"):
        validate_number("x", math.inf)

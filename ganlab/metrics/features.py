"""What every metric of features checks before it computes: enough samples, and values that linear algebra can take."""

from torch import Tensor

LARGEST = 1e50  # its sixth power, of the kernel distance, is still a float64; float32 ends at 3e38


def validate_features(metric: str, *sets: Tensor, minimum: int = 1) -> None:
    """Raise ValueError unless every set [n, ...] has `minimum` samples whose values are finite and at most 1e50.

    LAPACK's eigenvalue routines may end the process at a nan; sums over neighbors would turn it into a plausible number.
    """
    counts = [len(x) for x in sets]
    if min(counts) < minimum:
        sides = " on each side" if len(sets) > 1 else ""
        got = " and ".join(map(str, counts))
        raise ValueError(f"{metric} needs at least {minimum} sample{'s' * (minimum > 1)}{sides}, got {got}")
    for x in sets:
        if x.dtype.is_floating_point and (bad := int((~(x.isfinite() & (x.abs() <= LARGEST))).flatten(1).any(1).sum())):
            raise ValueError(f"{metric} needs finite features, got nan, inf or values above 1e50 in {bad} of {len(x)} samples")

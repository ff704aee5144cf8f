"""ganlab: a laboratory for GAN losses."""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

__all__ = [
    "CGAN", "GAN", "KLGAN", "LSGAN", "WGAN", "AlphaGAN", "Ensemble", "HingeGAN", "JensenShannonGAN", "MinimaxGAN",
    "NonSaturatingGAN", "PearsonGAN", "RaGAN", "ReverseKLGAN", "RpGAN", "SquaredHellingerGAN", "StepOutputs",
    "load",
]  # fmt: skip

PACKAGES = (
    "analysis", "callbacks", "cli", "config", "data", "diagnostics", "losses", "metrics", "models", "networks",
    "regularizers", "report", "runs", "utils",
)  # fmt: skip
__all__ += PACKAGES

# Names are imported when they are used: torch and lightning take seconds, which a typo on the command line should not wait.
_HOMES = {
    "GAN": "ganlab.models.gan",
    "StepOutputs": "ganlab.models.gan",
    "Ensemble": "ganlab.models.ensemble",
    "load": "ganlab.runs.loading",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ganlab' has no attribute {name!r}; it has {', '.join(__all__)}")
    if name in PACKAGES:
        return import_module(f"ganlab.{name}")
    value = globals()[name] = getattr(import_module(_HOMES.get(name, "ganlab.losses")), name)
    return value


def __dir__() -> list[str]:
    return __all__

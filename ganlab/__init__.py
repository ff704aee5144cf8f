"""ganlab: a laboratory for GAN losses."""

from importlib import import_module

__version__ = "0.2.0"

__all__ = [
    "CGAN",
    "GAN",
    "KLGAN",
    "LSGAN",
    "WGAN",
    "AlphaGAN",
    "Ensemble",
    "HingeGAN",
    "JensenShannonGAN",
    "MinimaxGAN",
    "NonSaturatingGAN",
    "PearsonGAN",
    "RaGAN",
    "ReverseKLGAN",
    "RpGAN",
    "SquaredHellingerGAN",
    "StepOutputs",
    "load",
]

# torch and lightning take seconds to import; a typo on the command line should not wait for them
_HOMES = {
    "GAN": "ganlab.models.gan",
    "StepOutputs": "ganlab.models.gan",
    "Ensemble": "ganlab.models.ensemble",
    "load": "ganlab.runs.loading",
}


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'ganlab' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES.get(name, "ganlab.losses")), name)


def __dir__():
    return __all__

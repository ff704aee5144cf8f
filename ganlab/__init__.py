"""ganlab: a laboratory for GAN losses."""

from importlib import import_module

__version__ = "0.1.0"

# torch and lightning take seconds to import; a typo on the command line should not wait for them
_FAMILIES = (
    "CGAN", "LSGAN", "WGAN", "AlphaGAN", "HingeGAN", "JensenShannonGAN", "KLGAN", "MinimaxGAN", "NonSaturatingGAN",
    "PearsonGAN", "RaGAN", "ReverseKLGAN", "RpGAN", "SquaredHellingerGAN",
)  # fmt: skip
_HOMES = {
    "GAN": "ganlab.gan",
    "Play": "ganlab.gan",
    "load": "ganlab.loading",
    **dict.fromkeys(_FAMILIES, "ganlab.losses"),
}
__all__ = ["GAN", "Play", "load", *_FAMILIES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'ganlab' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__():
    return __all__

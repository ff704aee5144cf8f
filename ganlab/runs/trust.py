"""Which classes a saved configuration may build: a run or checkpoint may be a stranger's, and building runs code."""

from collections.abc import Iterable, Iterator, Sequence
from types import FunctionType

from hydra.utils import get_object

ALWAYS = ("ganlab", "torch.optim")  # whose classes every checkpoint may name
LIBRARIES = ("lightning", "torchmetrics")  # what a whole run names besides


def targets(config) -> Iterator[str]:
    """Every `_target_` of a nested config, and every string with an interpolation, which could make one."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield str(config["_target_"])
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for item in config:
            yield from targets(item)
    elif isinstance(config, str) and "${" in config:  # a run saves its config resolved
        yield config


def require_trusted(names: Iterable[str], trust: Sequence[str]) -> None:
    """
    Raises:
        ValueError: a name leads to no class of a trusted module.
    """
    if found := untrusted(names, trust):
        modules = modules_to_trust(trust, found)
        raise ValueError(
            f"the run names {' and '.join(found)}, which {'is' if len(found) == 1 else 'are'} not ganlab's; if you trust "
            f"{'its module' if len(found) == 1 else 'their modules'}, pass trust={modules} to ganlab.load, or "
            f"trust={','.join(modules)} on the command line"
        )


def untrusted(names: Iterable[str], trust: Sequence[str]) -> list[str]:
    """The names that lead to nothing *defined* in a trusted module (`ganlab.x.os.system` is not defined in ganlab).

    Classes of ganlab, of torch's optimizers and of the modules in `trust` may be built. Functions may be called only if
    they are defined in a module of the user's own in `trust`: a learning-rate schedule can be one, and ganlab has some
    that write files.

    Raises:
        ValueError: a name in a trusted module cannot be imported.
    """
    users = [module for module in trust if module not in LIBRARIES]

    def lies_in(modules: Sequence[str], name: str) -> bool:
        return any(f"{name}.".startswith(f"{module}.") for module in modules)

    found = []
    for name in dict.fromkeys(names):
        try:
            kind = get_object(name) if lies_in((*ALWAYS, *trust), name) else None
        except ImportError as error:
            raise ValueError(f"the run names {name}, which cannot be imported: {str(error).splitlines()[0]}") from error
        if not isinstance(kind, (type, FunctionType)):
            found.append(name)
        elif not lies_in((*ALWAYS, *trust) if isinstance(kind, type) else users, kind.__module__):
            found.append(f"{kind.__module__}.{kind.__qualname__}")
    return found


def modules_to_trust(trust: Sequence[str], found: Iterable[str]) -> list[str]:
    """What to type so that these are trusted, with what was typed already."""
    typed = (name for name in trust if name not in LIBRARIES)
    return list(dict.fromkeys([*typed, *(name.partition(".")[0] for name in found)]))

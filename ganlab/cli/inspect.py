"""`python -m ganlab inspect …`: what a loss does to the generator, whether its game converges, whether it is right."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from ganlab import analysis
from ganlab.analysis.figure import draw
from ganlab.models.gan import GAN
from ganlab.utils.files import write_json
from ganlab.utils.tracebacks import is_user_code

PLAYERS = set(inspect.signature(GAN.__init__).parameters)  # settings that say nothing about the loss
STEPS = (0.2, 0.02, 0.002)  # for the Dirac-GAN: the paper's, and shorter ones for games too stiff for it
TOLERANCE = 1e-3  # between what a family declares that D measures and what is found; both are exact to about 1e-6
MARKS = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "[dim]–[/]"}


@dataclass
class Findings:
    """What was found. A part that the family's own code broke is None; its reason is a failed check."""

    name: str
    title: str
    summary: str  # the first line of the class's docstring
    notes: list[str]
    saturation: analysis.Saturation | None = None
    dirac: analysis.DiracGAN | None = None
    optimum: analysis.OptimalDiscriminator | None = None
    checks: list[analysis.Check] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)  # of losses of one's own: {"generator_loss": "my_gan.py, line 12"}
    seconds: float = 0.0

    @property
    def failed(self) -> list[analysis.Check]:
        return [check for check in self.checks if check.ok is False]


def run(cfg: DictConfig) -> None:
    """Inspect what the config composes. Ends with exit code 1 if a check failed."""
    started = time.perf_counter()
    torch.set_num_threads(1)  # thousands of tiny operations: threads would only wait for each other
    config = OmegaConf.to_container(cfg, resolve=True)
    folder = Path(config["run_dir"])
    family, regularizers, notes = family_of(config)
    found = run_check(family, regularizers, notes)
    draw(folder / "inspect.png", found, others(family))
    found.seconds = time.perf_counter() - started
    write_json(folder / "inspect.json", as_json(found))
    show(found, folder)
    if found.failed:
        raise SystemExit(1)


def family_of(config: dict) -> tuple[Callable[..., GAN], list[str], list[str]]:
    """The family with its own settings and regularizers, their names, and notes on what inspect leaves out.

    Raises:
        ValueError: gan._target_ is no GAN.
    """
    gan = dict(config["gan"])
    kind = get_class(gan.pop("_target_"))
    if not issubclass(kind, GAN):
        raise ValueError(f"gan._target_ must be a subclass of ganlab.GAN, got {kind.__module__}.{kind.__qualname__}")
    own = instantiate({key: value for key, value in gan.items() if key not in PLAYERS}, _convert_="all")
    regularizers = instantiate(gan["regularizers"] or {}, _convert_="all")
    notes = []
    if config["networks"]["discriminator"].get("spectral_norm"):
        notes.append("spectral norm belongs to the network: the players here are a point and a slope, and have none")
    if gan["pack"] > 1:
        notes.append(f"gan.pack={gan['pack']} is left out: the family is looked at sample by sample")
    return functools.partial(kind, **own, regularizers=regularizers), list(regularizers), notes


def run_check(family: Callable[..., GAN], regularizers: list[str], notes: list[str]) -> Findings:
    """All four parts; whatever the family's own code raises becomes a failed check."""
    kind = analysis.family_class(family)
    summary = (kind.__doc__ or "").strip().partition("\n")[0]
    found = Findings(kind.__name__, " + ".join([kind.__name__, *regularizers]), summary, notes, places=places(kind))
    for part, name in ((analysis.saturation, "saturation"), (playable, "dirac"), (analysis.optimal_discriminator, "optimum")):
        try:
            setattr(found, name, part(family))
        except Exception as error:  # a user's loss may raise anything
            sentence = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            found.checks.append(analysis.Check(f"{name} can be worked out", False, kind.__name__, sentence, ""))
    found.checks += declared(found.optimum) + analysis.conformance(family)
    return found


def places(kind: type[GAN]) -> dict[str, str]:
    found = {}
    for hook in ("discriminator_loss", "generator_loss"):
        code = getattr(inspect.unwrap(getattr(kind, hook)), "__code__", None)
        if code and is_user_code(code.co_filename):
            found[hook] = f"{Path(code.co_filename).name}, line {code.co_firstlineno}"
    return found


def playable(family: Callable[..., GAN]) -> analysis.DiracGAN:
    """The Dirac-GAN with the longest step that does not overflow."""
    for step in STEPS:
        game = analysis.dirac_gan(family, lr=step)
        if game.radius_simultaneous is None or max(game.radius_simultaneous, game.radius_alternating) < 1e3:
            break
    return game


def declared(optimum: analysis.OptimalDiscriminator | None) -> list[analysis.Check]:
    """Whether D's best logits and the divergence are those that the class declares."""
    if optimum is None:
        return []
    checks = []
    for name, error in (("optimal_logit", optimum.error), ("divergence", optimum.value_error)):
        ok = None if error is None else error <= TOLERANCE
        message = "" if ok is not False else f"declared and found values differ by up to {error:.3g}"
        checks.append(analysis.Check(f"declared {name}", ok, name, message, ""))
    return checks


def others(family: Callable[..., GAN]) -> dict[str, analysis.Saturation]:
    """The public families' saturation, to draw behind the one that is inspected."""
    own = analysis.family_class(family)
    return {name: analysis.saturation(kind) for name, kind in analysis.shipped_families().items() if kind is not own}


def as_json(found: Findings) -> dict:
    """Everything that was found, as plain values; a complex number is [real, imaginary]."""
    return plain(asdict(found)) | {"failed": len(found.failed), "version": version("ganlab")}


def plain(value):
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def show(found: Findings, folder: Path) -> None:
    """The card."""
    console = Console(highlight=False, width=min(Console().width, 100))
    card = Table.grid(padding=(0, 2))
    card.add_column(style="bold", no_wrap=True)
    card.add_column()
    if (s := found.saturation) is not None:
        between = f"{s.at_minus_10:.3g} at f = -10, {s.gradient[0]:.3g} at f = -30"  # where the verdict looks
        card.add_row("saturation", f"{s.verdict}: |dL_G/df| = {between}")
    if (d := found.dirac) is not None:
        card.add_row("local convergence", f"[bold]{d.verdict}[/]. {escape(d.reason)}")
        if d.eigenvalues is not None:
            card.add_row("", f"eigenvalues {d.spectrum}")
        if d.radius_simultaneous is not None:
            card.add_row(
                "",
                f"500 steps of {d.lr:g} from (1, -1) end at radius {d.radius_simultaneous:.3g} simultaneous, "
                f"{d.radius_alternating:.3g} alternating",
            )
    if (o := found.optimum) is not None:
        card.add_row("what D measures", escape(o.name or "not declared by the class"))
        if o.error is not None:
            card.add_row("", f"its best logits as declared, to {o.error:.1g}")
        if o.value_error is not None:
            card.add_row("", f"its best value as declared, to {o.value_error:.1g}")
    console.rule(f"[bold]{escape(found.title)}", align="left")
    console.print(escape(found.summary), style="dim")
    console.print(card)
    passed = sum(check.ok is True for check in found.checks)
    console.print(f"\n[bold]conformance[/]  {passed} checks passed, {len(found.failed)} failed; each by name in inspect.json")
    for place in dict.fromkeys(check.where for check in found.checks):
        answers = [check.ok for check in found.checks if check.where == place and check.ok is not None]
        if answers:
            console.print(f"  {MARKS[all(answers)]} {sum(answers)} of {len(answers)}  [dim]{escape(place)}[/]")
    told = set()
    for check in found.failed:
        where = f"{check.where} in {found.places[check.where]}" if check.where in found.places else check.where
        console.print(f"{MARKS[False]} [bold]{check.name}[/] ({escape(where)}): {escape(check.message)}")
        if check.paper and check.paper not in told:
            console.print(f"  {escape(check.paper)}", style="dim")
        told.add(check.paper)
    for note in found.notes:
        console.print(escape(f"note: {note}"), style="dim")
    paths = f"\npicture      {folder / 'inspect.png'}\neverything   {folder / 'inspect.json'}"
    console.print(paths, markup=False, soft_wrap=True)

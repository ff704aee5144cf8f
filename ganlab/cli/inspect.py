"""Inspect a loss before anything is trained: does it saturate, does training converge, is it implemented correctly?

    python -m ganlab inspect loss=minimax
    python -m ganlab inspect loss=wgan 'regularizer=[gp]' regularizer.gp.weight=1
    python -m ganlab inspect gan._target_=my_gan.MyGAN      # your own class, in my_gan.py in the current directory

It takes the overrides that training takes, one loss at a time. Only the loss, its settings and its regularizers matter,
not the data and the networks. Within seconds it prints:

  saturation           the generator's gradient where the discriminator recognizes the fakes
  local convergence    the Dirac-GAN (Mescheder et al. 2018): eigenvalues, and the end of two trajectories
  what D measures      the divergence that the class declares, against D's loss at its minimum
  conformance          checks of both losses, each regularizer and the training step, each with its paper

It writes inspect.png (these four as a picture) and inspect.json (all numbers and checks) into the output directory,
outputs/inspect-…; choose another with hydra.run.dir=DIR. The exit code is 1 if a check failed, else 0;
what is only noticed (it may be meant, and nothing claims otherwise) is printed, and fails nothing.
"""

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from torch import Tensor

from ganlab import analysis
from ganlab.analysis.checks.base import error_and_line, user_location
from ganlab.analysis.figure import draw
from ganlab.analysis.minimal import Family
from ganlab.models.gan import GAN
from ganlab.utils.files import write_json

GAN_SETTINGS = set(inspect.signature(GAN.__init__).parameters)  # of every family; the others belong to the loss
STEP_SIZES = (0.2, 0.02, 0.002)  # of the Dirac-GAN: the paper's, and shorter ones for games that overflow with it
MARKS = {"fail": "[bold red]✗[/]", "notice": "[yellow]![/]", "pass": "[green]✓[/]"}  # worst first


@dataclass
class Inspection:
    """The results. A part that raised an exception is None, and a failed check says why."""

    name: str
    title: str
    summary: str  # the first line of the class's docstring
    saturation: analysis.Saturation | None = None
    dirac_gan: analysis.DiracGAN | None = None
    optimal_discriminator: analysis.OptimalDiscriminator | None = None
    checks: list[analysis.Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is left out
    locations: dict[str, str] = field(default_factory=dict)  # of the user's losses: {"generator_loss": "my_gan.py, line 12"}

    @property
    def failed(self) -> list[analysis.Check]:
        return self.checks_that("fail")

    def checks_that(self, state: str) -> list[analysis.Check]:
        return [check for check in self.checks if check.state == state]


def run(config: dict, folder: Path) -> None:
    """Inspect the loss of a resolved config, write inspect.png and inspect.json, and exit with code 1 if a check failed."""
    torch.set_num_threads(1)  # the tensors are tiny: more threads would only wait for each other
    family = build_family(config["gan"])
    step_settings = instantiate({key: config["gan"][key] for key in ("pack", "conditioning")}, _convert_="all")
    inspection = inspect_loss(family, **step_settings)
    if config["networks"]["discriminator"].get("spectral_norm"):
        inspection.notes.append("spectral norm belongs to the network, and the players here (a point and a slope) have none")
    if config["gan"]["pack"] > 1:
        inspection.notes.append(f"gan.pack={config['gan']['pack']} matters to the checks alone: the theory is sample by sample")
    others = [analysis.saturation(other) for other in analysis.shipped_families().values() if other is not family.func]
    folder.mkdir(parents=True, exist_ok=True)
    draw(folder / "inspect.png", inspection, others)
    results = as_json(asdict(inspection)) | {"failed": len(inspection.failed), "version": version("ganlab")}
    write_json(folder / "inspect.json", results)
    show(inspection, folder)
    if inspection.failed:
        raise SystemExit(1)


def build_family(gan: dict) -> partial[GAN]:
    """The family with its own settings and regularizers; ValueError if it is not a subclass of GAN."""
    kind = get_class(gan["_target_"])
    if not issubclass(kind, GAN):
        raise ValueError(f"gan._target_ must be a subclass of ganlab.GAN, got {kind.__module__}.{kind.__qualname__}")
    settings = {key: value for key, value in gan.items() if key not in {"_target_", *GAN_SETTINGS}}
    parts = instantiate(settings | {"regularizers": gan["regularizers"] or {}}, _convert_="all")
    return partial(kind, **parts)


def inspect_loss(family: partial[GAN], **settings) -> Inspection:
    """All parts; an exception of the family's code becomes a failed check. `settings`: pack and conditioning of the step."""
    kind = family.func
    title, docstring = " + ".join([kind.__name__, *family.keywords["regularizers"]]), (kind.__doc__ or "").strip()
    inspection = Inspection(kind.__name__, title, docstring.partition("\n")[0])
    for analyze in (analysis.saturation, dirac_gan, analysis.optimal_discriminator):
        name = analyze.__name__  # the field's, too
        try:
            setattr(inspection, name, analyze(family))
        except Exception as error:  # a user's loss may raise anything
            check = analysis.Check(f"{name} can be computed", "fail", kind.__name__, error_and_line(error), "")
            inspection.checks.append(check)
    inspection.checks += analysis.conformance(partial(family, **settings), inspection.optimal_discriminator)
    locations = {loss: user_location(getattr(kind, loss)) for loss in ("discriminator_loss", "generator_loss")}
    inspection.locations = {loss: location for loss, location in locations.items() if location}
    return inspection


def dirac_gan(family: Family) -> analysis.DiracGAN:
    """The Dirac-GAN with the longest step that does not overflow."""
    for lr in STEP_SIZES:
        game = analysis.dirac_gan(family, lr=lr)
        if game.radius_simultaneous is None or max(game.radius_simultaneous, game.radius_alternating) < 1e3:
            break
    return game


def as_json(value: Any) -> Any:
    """Plain values; a tensor is a list, a complex number [real, imaginary]."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def show(inspection: Inspection, folder: Path) -> None:
    console = Console(highlight=False, width=min(Console().width, 100))
    console.rule(f"[bold]{escape(inspection.title)}", align="left")
    console.print(escape(inspection.summary), style="dim")
    console.print(theory_table(inspection))
    answered = [check for check in inspection.checks if check.state in MARKS]
    passed, noticed, failed = (inspection.checks_that(state) for state in ("pass", "notice", "fail"))
    counts = f"{len(passed)} checks passed, {len(noticed)} noticed, {len(failed)} failed"
    console.print(f"\n[bold]conformance[/]  {counts}; inspect.json names each")
    for where in dict.fromkeys(check.where for check in answered):
        states = [check.state for check in answered if check.where == where]
        worst = next(mark for state, mark in MARKS.items() if state in states)
        console.print(f"  {worst} {states.count('pass')} of {len(states)}  [dim]{escape(where)}[/]")
    papers = {""}
    for check in failed + noticed:
        location = inspection.locations.get(check.where)
        where = f"{check.where} in {location}" if location else check.where
        console.print(f"{MARKS[check.state]} [bold]{escape(check.name)}[/] ({escape(where)}): {escape(check.message)}")
        if check.paper not in papers:
            console.print(f"  {escape(check.paper)}", style="dim")
        papers.add(check.paper)
    for note in inspection.notes:
        console.print(escape(f"note: {note}"), style="dim")
    console.print(f"\npicture      {folder}/inspect.png\neverything   {folder}/inspect.json", markup=False, soft_wrap=True)


def theory_table(inspection: Inspection) -> Table:
    table = Table.grid(Column(style="bold", no_wrap=True), Column(), padding=(0, 2))
    if (saturation := inspection.saturation) is not None:
        gradients = f"{saturation.at_minus_10:.3g} at f = -10, {saturation.gradient[0]:.3g} at f = -30"
        table.add_row("saturation", f"{saturation.verdict}: |dL_G/df| = {gradients}")
    if (game := inspection.dirac_gan) is not None:
        table.add_row("local convergence", f"[bold]{game.verdict}[/]. {escape(game.reason)}")
        if game.eigenvalues is not None:
            table.add_row("", f"eigenvalues {game.spectrum}")
        if game.radius_simultaneous is not None:
            radii = f"{game.radius_simultaneous:.3g} simultaneous, {game.radius_alternating:.3g} alternating"
            table.add_row("", f"500 steps of {game.lr:g} from (1, -1) end at radius {radii}")
    if (optimum := inspection.optimal_discriminator) is not None:
        table.add_row("what D measures", escape(optimum.name or "not declared by the class"))
        if optimum.error is not None:
            table.add_row("", f"its optimal logits as declared, to {optimum.error:.1g}")
        if optimum.value_error is not None:
            table.add_row("", f"its optimal value as declared, to {optimum.value_error:.1g}")
    return table

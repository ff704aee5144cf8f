"""The smallest game there is, the Dirac-GAN (Mescheder, Geiger & Nowozin 2018), played by the rule that trains networks."""

from __future__ import annotations

import cmath
import contextlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganlab.analysis.minimal import Family, LinearCritic, Point, minimal_gan
from ganlab.analysis.optimal_discriminator import logit_where_alike
from ganlab.analysis.quantiles import Quantiles
from ganlab.analysis.saturation import derivative

LATE = 10**6  # a turn by which every schedule has begun
ZERO = 1e-6  # of an eigenvalue's real part


@dataclass(frozen=True)
class DiracGAN:
    """How the game of a point theta against a slope psi goes; real is a point at 0, so that (0, 0) is the equilibrium.

    Attributes:
        eigenvalues: of the Jacobian of the field (-dL_G/dtheta, -dL_D/dpsi) at (0, 0), the upper or right one first;
            None where the field jumps.
        discontinuous: whether the field jumps at (0, 0).
        simultaneous, alternating: float64 [steps + 1, 2], (theta, psi) from the start on; alternating: G moves first.
        radius_simultaneous, radius_alternating: of the last point, sqrt(theta^2 + psi^2); infinite where it overflows.
        verdict: "convergent": near the equilibrium, errors shrink exponentially; "center": to first order the players
            circle; "divergent": some errors grow exponentially; "undefined": the field jumps or is not finite.
        reason: for the verdict, in one sentence.
        lr: the length of a step.
        not_defined: why the family cannot play on points, else None. If it cannot, all else but the verdict
            ("undefined") and its reason is None.
    """

    eigenvalues: tuple[complex, complex] | None
    discontinuous: bool | None
    simultaneous: Tensor | None
    alternating: Tensor | None
    radius_simultaneous: float | None
    radius_alternating: float | None
    verdict: str
    reason: str
    lr: float
    not_defined: str | None = None

    @property
    def spectrum(self) -> str:
        """The eigenvalues for people: "-0.15 ± 0.477i", "-0.134, -1.87"."""
        if self.eigenvalues is None:
            return ""
        first, second = self.eigenvalues
        if first.imag == 0 == second.imag:
            return f"{first.real:.3g}, {second.real:.3g}"
        return f"{first.real:.3g} ± {abs(first.imag):.3g}i" if abs(first.real) > ZERO else f"±{abs(first.imag):.3g}i"


@torch.inference_mode(False)
@torch.enable_grad()
def dirac_gan(family: Family, *, steps: int = 500, lr: float = 0.2, start: tuple[float, float] = (1.0, -1.0)) -> DiracGAN:
    """Local convergence and two trajectories of D(x) = psi x + c against G(z) = theta, in float64.

    c is the logit that D's loss prefers where real and fake are alike. The field is what gradient descent follows on
    the family's objectives, its regularizers included (of lazy ones, the mean over a cycle); each step of D is
    projected. Both players take one turn each, whatever `n_critic` says. Where a part draws normal or uniform numbers,
    their quantiles stand in, on a grid over the batch: means then have the exact first two moments, which is all
    that the Jacobian needs.

    Args:
        start: (theta, psi). (1, -1) is the paper's (1, 1), whose D is high on *fakes*.

    Raises:
        ValueError: a loss is not a scalar.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        offset = logit_where_alike(minimal_gan(family, Point(), LinearCritic(torch.zeros(1))))
        try:
            game = _Game(family, offset)
        except ValueError as refusal:
            reason = "The family refuses to play on points"
            return DiracGAN(None, None, None, None, None, None, "undefined", f"{reason}: {refusal}", lr, str(refusal))
        jump = game.jump()
        jacobian = None if jump else game.jacobian()
        paths = []
        for alternating in (False, True):
            game = _Game(family, offset)  # moving averages and the like start anew
            paths.append(game.walk(steps, lr, start, alternating))
    eigenvalues = None if jacobian is None or not jacobian.isfinite().all() else _eigenvalues(jacobian)
    radii = [r if math.isfinite(r) else math.inf for r in (path[-1].norm().item() for path in paths)]
    return DiracGAN(eigenvalues, jump > 0, *paths, *radii, *_judge(eigenvalues, jump), lr)


class _Slope(nn.Module):
    """D(x) = psi x + offset; of a pack of points it hears the mean."""

    def __init__(self, offset: float):
        super().__init__()
        self.psi = nn.Parameter(torch.zeros(1))
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float64))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.psi * x.flatten(1).mean(1) + self.offset


class _Game:
    """A family whose generator is a point and whose critic is a slope, and the batch that they play on."""

    def __init__(self, family: Family, offset: float):
        self.gan = minimal_gan(family, Point(), _Slope(offset)).double()
        self.theta, self.psi = self.gan.generator.theta, self.gan.discriminator.psi
        self._set_batch(self.gan.pack)
        state = torch.get_rng_state()
        with Quantiles(self.gan.pack) as quantiles:  # at the equilibrium, from which moving averages start
            self.gan.discriminator_objective(self._play(True, False))
        self.randomness = contextlib.nullcontext()
        if not torch.equal(state, torch.get_rng_state()):
            self.randomness = quantiles
            self._set_batch(quantiles.samples)

    def _set_batch(self, n: int) -> None:
        self.real, self.y = torch.zeros(n, 1, dtype=torch.float64), torch.zeros(n, dtype=torch.int64)

    def _play(self, with_real: bool, grad_to_generator: bool):
        z = torch.zeros_like(self.real)  # a point generator ignores it
        return self.gan.forward_pass(self.real, self.y, z=z, with_real=with_real, grad_to_generator=grad_to_generator)

    def _begin(self, turn: int) -> None:
        self.gan.d_updates = turn
        self.gan.on_step_start()

    def pull_on_generator(self, create_graph: bool = False) -> Tensor:
        """-dL_G/dtheta."""
        with self.randomness:
            loss = self.gan.generator_objective(self._play(self.gan.generator_sees_real, True))
            return -derivative(loss, self.theta, create_graph=create_graph)[0]

    def pull_on_discriminator(self, create_graph: bool = False) -> Tensor:
        """-dL_D/dpsi; with a graph, which D's turn does not build, back to theta."""
        with self.randomness:
            loss = self.gan.discriminator_objective(self._play(True, create_graph))
            return -derivative(loss, self.psi, create_graph=create_graph)[0].squeeze(0)

    @torch.no_grad()
    def _move(self, theta: float | Tensor, psi: float | Tensor) -> None:
        self.theta.copy_(torch.as_tensor(theta, dtype=torch.float64))
        self.psi.copy_(torch.as_tensor(psi, dtype=torch.float64))

    def _cycle(self) -> range:
        return range(LATE, LATE + math.lcm(*(r.every for r in self.gan.regularizers.values())))

    def _field(self, theta: float, psi: float) -> Tensor:
        """Both pulls [2], late in training, the mean over a cycle of the lazy regularizers."""
        self._move(theta, psi)
        pulls = []
        for turn in self._cycle():
            self._begin(turn)
            pulls.append(torch.stack([self.pull_on_generator(), self.pull_on_discriminator()]))
        return torch.stack(pulls).mean(0)

    def _across(self, h: float) -> Tensor:
        """[2, 2]: change of each pull from -h to +h, along theta and along psi."""
        return torch.stack([self._field(h, 0) - self._field(-h, 0), self._field(0, h) - self._field(0, -h)], dim=1)

    def jump(self) -> float:
        """The field's jump across (0, 0), or 0."""
        near, far = self._across(1e-5).norm().item(), self._across(1e-3).norm().item()
        return near if near > ZERO and near > far / 2 else 0.0  # a smooth field's change shrinks a hundredfold

    def jacobian(self) -> Tensor:
        """[2, 2] at (0, 0), of (pull on theta, pull on psi) by (theta, psi)."""
        self._move(0, 0)
        rows = []
        for turn in self._cycle():
            self._begin(turn)
            pulls = self.pull_on_generator(create_graph=True), self.pull_on_discriminator(create_graph=True)
            rows.append(torch.stack([torch.hstack(derivative(pull, self.theta, self.psi)) for pull in pulls]))
        return torch.stack(rows).mean(0)

    def walk(self, steps: int, lr: float, start: tuple[float, float], alternating: bool) -> Tensor:
        """[steps + 1, 2]: gradient descent from the start; if alternating, D answers G's new point."""
        self._move(*start)
        path = torch.empty(steps + 1, 2, dtype=torch.float64)
        path[0] = torch.tensor(start, dtype=torch.float64)
        for turn in range(steps):
            self._begin(turn)
            theta = self.theta.detach() + lr * self.pull_on_generator()
            if alternating:
                self._move(theta, self.psi.detach())
            self._move(theta, self.psi.detach() + lr * self.pull_on_discriminator())
            for regularizer in self.gan.regularizers.values():
                regularizer.project(self.gan.discriminator)
            path[turn + 1, 0], path[turn + 1, 1] = self.theta.detach(), self.psi.detach()
        return path


def _eigenvalues(jacobian: Tensor) -> tuple[complex, complex]:
    (a, b), (c, d) = jacobian.tolist()
    half = cmath.sqrt((a - d) ** 2 / 4 + b * c)
    return (a + d) / 2 + half, (a + d) / 2 - half


def _judge(eigenvalues: tuple[complex, complex] | None, jump: float) -> tuple[str, str]:
    """Verdict and reason."""
    if jump:
        return "undefined", f"The field jumps by {jump:.3g} at the equilibrium, and constant steps do not settle there"
    if eigenvalues is None:
        return "undefined", "The field is not finite at the equilibrium"
    largest, smallest = (e.real for e in eigenvalues)
    if largest > ZERO:
        return "divergent", f"An eigenvalue has the real part {largest:.3g} > 0: some errors grow exponentially"
    if largest < -ZERO:
        return "convergent", f"Both eigenvalues have real parts of at most {largest:.3g}: errors shrink exponentially"
    if smallest < -ZERO or abs(eigenvalues[0].imag) < ZERO:
        return "center", "An eigenvalue is 0: in some direction nothing pulls the players back, to first order"
    return "center", f"The eigenvalues are ±{eigenvalues[0].imag:.3g}i: to first order the players circle for ever"

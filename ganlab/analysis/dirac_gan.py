"""The Dirac-GAN (Mescheder, Geiger & Nowozin 2018), the smallest GAN: a point against a slope, with ganlab's own losses."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ganlab.analysis.minimal import Family, Point, derivative, minimal_gan
from ganlab.analysis.optimal_discriminator import logit_where_equal

LATE_STEP = 10**6  # every schedule has ended by then
ZERO = 1e-6  # real parts of eigenvalues up to here count as 0
ROWS = 256  # samples, or packs of samples, in a grid of quantiles (at most)
DRAWS = {torch.randn: "normal", torch.randn_like: "normal", torch.rand: "uniform", torch.rand_like: "uniform"}


@dataclass(frozen=True)
class DiracGAN:
    """Local convergence and two trajectories of a point theta against a slope psi; real data is a point at 0.

    Attributes:
        eigenvalues: of the Jacobian of the field (-dL_G/dtheta, -dL_D/dpsi) at the equilibrium (0, 0), the upper or right
            one first; None where the field is discontinuous or not finite.
        discontinuous: whether the field jumps at (0, 0).
        simultaneous, alternating: float64 [steps + 1, 2], (theta, psi) from the start on; alternating: G moves first.
        radius_simultaneous, radius_alternating: sqrt(theta^2 + psi^2) at the end; infinite where it overflows.
        verdict: "convergent": near the equilibrium, errors shrink exponentially; "center": to first order the players
            circle; "divergent": some errors grow exponentially; "undefined": the field jumps or is not finite.
        reason: for the verdict, in one sentence.
        lr: the step size.

    Where the family cannot be trained on points, all but verdict ("undefined"), reason and lr are None.
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

    @property
    def spectrum(self) -> str:
        """The eigenvalues as text: "-0.15 ± 0.477i", "-0.134, -1.87"."""
        if self.eigenvalues is None:
            return ""
        first, second = self.eigenvalues
        if first.imag == 0 == second.imag:
            return f"{first.real:.3g}, {second.real:.3g}"
        return f"{first.real:.3g} ± {abs(first.imag):.3g}i" if abs(first.real) > ZERO else f"±{abs(first.imag):.3g}i"


@torch.inference_mode(False)
@torch.enable_grad()
def dirac_gan(family: Family, *, steps: int = 500, lr: float = 0.2, start: tuple[float, float] = (1.0, -1.0)) -> DiracGAN:
    """Eigenvalues at the equilibrium and two trajectories of D(x) = psi x + c against G(z) = theta, in float64.

    c is the logit that D's loss prefers where real and fake are equally likely. Both players take gradient steps on the
    family's terms, penalties included (in the eigenvalues, lazy ones with their mean over a cycle), one step of D per
    step of G whatever `n_critic` says; regularizers project D after its step. Normal and uniform random numbers are
    replaced by their quantiles on a grid over the batch: means then have the exact first two moments, which is all
    that the Jacobian needs.

    Args:
        start: (theta, psi). (1, -1) is the paper's (1, 1), whose D is high on *fakes*.

    Raises:
        ValueError: a loss is not a scalar.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        offset = logit_where_equal(minimal_gan(family))
        try:
            game = _Game(family, offset)
        except ValueError as error:
            reason = f"The family cannot be trained on points: {error}"
            return DiracGAN(None, None, None, None, None, None, "undefined", reason, lr)
        jump = game.jump()
        eigenvalues = None if jump else game.eigenvalues()
        # a new game each, since regularizers may have a memory
        paths = [_Game(family, offset).train(steps, lr, start, alternating) for alternating in (False, True)]
    radii = [r if math.isfinite(r) else math.inf for r in (path[-1].norm().item() for path in paths)]
    verdict, reason = _verdict(eigenvalues, jump)
    return DiracGAN(eigenvalues, jump > 0, paths[0], paths[1], radii[0], radii[1], verdict, reason, lr)


class _Slope(nn.Module):
    """D(x) = psi x + offset; for packed samples, of their mean."""

    def __init__(self, offset: float):
        super().__init__()
        self.psi, self.offset = nn.Parameter(torch.zeros(1)), offset

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.psi * x.flatten(1).mean(1) + self.offset


class _Game:
    """A family with a point as generator and a slope as discriminator, and the batch that they are trained on."""

    def __init__(self, family: Family, offset: float):
        point, slope = Point(), _Slope(offset)
        self.gan = minimal_gan(family, point, slope).double()
        self.theta, self.psi = point.theta, slope.psi
        self.quantiles = _Quantiles(self.gan.pack)
        n = self.quantiles.samples
        self.real = self.z = torch.zeros(n, 1, dtype=torch.float64)  # a point generator ignores z
        self.y = torch.zeros(n, dtype=torch.int64)
        self.discriminator_descent()  # at the equilibrium, where moving averages start

    def generator_descent(self, create_graph: bool = False) -> Tensor:
        """G's descent direction, -dL_G/dtheta."""
        with_real = self.gan.generator_sees_real
        with self.quantiles:
            outputs = self.gan.forward_pass(self.real, self.y, z=self.z, with_real=with_real, grad_to_generator=True)
            return -derivative(self.gan.generator_objective(outputs), self.theta, create_graph=create_graph)[0]

    def discriminator_descent(self, create_graph: bool = False) -> Tensor:
        """-dL_D/dpsi; `create_graph`: with a graph back to theta, which D's training step does not build."""
        with self.quantiles:
            outputs = self.gan.forward_pass(self.real, self.y, z=self.z, with_real=True, grad_to_generator=create_graph)
            return -derivative(self.gan.discriminator_objective(outputs), self.psi, create_graph=create_graph)[0].squeeze(0)

    def _start_step(self, step: int) -> None:
        self.gan.d_updates = step
        self.gan.on_step_start()

    @torch.no_grad()
    def _set_weights(self, theta: float | Tensor, psi: float | Tensor) -> None:
        self.theta.copy_(torch.as_tensor(theta, dtype=torch.float64))
        self.psi.copy_(torch.as_tensor(psi, dtype=torch.float64))

    def _late_mean(self, theta: float, psi: float, evaluate: Callable[[], Tensor]) -> Tensor:
        """The mean late in training, at these weights, over a cycle of the lazy regularizers."""
        self._set_weights(theta, psi)
        values = []
        for step in range(LATE_STEP, LATE_STEP + math.lcm(*(r.every for r in self.gan.regularizers.values()))):
            self._start_step(step)
            values.append(evaluate())
        return torch.stack(values).mean(0)

    def _field(self, create_graph: bool = False) -> Tensor:
        """[2]: (-dL_G/dtheta, -dL_D/dpsi)."""
        return torch.stack([self.generator_descent(create_graph), self.discriminator_descent(create_graph)])

    def jump(self) -> float:
        """The size of the field's discontinuity at (0, 0), or 0."""

        def change(h: float) -> float:  # from -h to +h, along theta and along psi
            ends = [self._late_mean(theta, psi, self._field) for theta, psi in ((h, 0), (-h, 0), (0, h), (0, -h))]
            return torch.cat([ends[0] - ends[1], ends[2] - ends[3]]).norm().item()

        near, far = change(1e-5), change(1e-3)
        return near if near > ZERO and near > far / 2 else 0.0  # a smooth field's change shrinks a hundredfold

    def eigenvalues(self) -> tuple[complex, complex] | None:
        """Of the field's Jacobian at (0, 0), the upper or right one first; None if it is not finite."""

        def jacobian() -> Tensor:  # [2, 2]: the derivatives by (theta, psi)
            return torch.stack(
                [torch.hstack(derivative(part, self.theta, self.psi)) for part in self._field(create_graph=True)]
            )

        mean = self._late_mean(0, 0, jacobian)
        if not mean.isfinite().all():
            return None
        first, second = sorted(torch.linalg.eigvals(mean).tolist(), key=lambda e: (e.real, e.imag), reverse=True)
        return first, second

    def train(self, steps: int, lr: float, start: tuple[float, float], alternating: bool) -> Tensor:
        """[steps + 1, 2]: gradient descent from the start; if alternating, D's gradient is taken after G's step."""
        self._set_weights(*start)
        points = [torch.tensor(start, dtype=torch.float64)]
        for step in range(steps):
            self._start_step(step)
            theta = self.theta.detach() + lr * self.generator_descent()
            if alternating:
                self._set_weights(theta, self.psi.detach())
            self._set_weights(theta, self.psi.detach() + lr * self.discriminator_descent())
            for regularizer in self.gan.regularizers.values():
                regularizer.project(self.gan.discriminator)
            points.append(torch.hstack([self.theta.detach(), self.psi.detach()]))
        return torch.stack(points)


class _Quantiles(TorchFunctionMode):
    """Within this context, torch's normal and uniform functions return quantiles with exact mean and variance.

    Calls alternate between two independent sequences of quantiles, since a forward pass augments its fakes and then its
    real samples, which must not share their noise. The samples of a pack are independent, too.

    Attributes:
        samples: the batch size that covers the grid once.
    """

    def __init__(self, pack: int):
        super().__init__()
        levels = max(2, math.floor(ROWS ** (1 / (2 * pack)) + 1e-6))  # a root may round to just below a whole number
        grid = torch.cartesian_prod(*[torch.arange(levels)] * (2 * pack))
        self.ranks = grid[:, :pack].flatten(), grid[:, pack:].flatten()
        self.samples = len(self.ranks[0])
        share = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
        scores = torch.special.ndtri(share)
        uniform = 0.5 + (share - 0.5) / math.sqrt(1 - 1 / levels**2)
        self.quantiles = {"normal": scores / scores.std(correction=0), "uniform": uniform}

    def __enter__(self):
        self.calls = 0
        return super().__enter__()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func not in DRAWS:
            return result
        blocks = math.ceil(result.numel() / self.samples)
        ranks = torch.cat([self.ranks[(self.calls + block) % 2] for block in range(blocks)])[: result.numel()]
        self.calls += 1
        return result.copy_(self.quantiles[DRAWS[func]][ranks].reshape(result.shape))


def _verdict(eigenvalues: tuple[complex, complex] | None, jump: float) -> tuple[str, str]:
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

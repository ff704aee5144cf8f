"""What the four files share: records, small networks, and float64 NumPy references."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ganlab.models.conditioning import AuxiliaryClassifier, ClassLabels
from ganlab.models.gan import GAN, StepOutputs

warnings.filterwarnings("ignore")


class Wrong(NamedTuple):
    name: str
    factory: Callable  # family: class, or functools.partial(class, regularizers={...}); `fresh` copies what has state
    claims: bool  # the class name or an ancestor claims to be a known loss or penalty
    defect: str
    evidence: Callable[[], dict]
    right_reason: tuple[str, ...]
    source: str
    needs: str = ""  # "labels", "ac" (auxiliary classifier), "images", "pack" (gan.pack=2): what the factory must be built with for the defect to act


class Sound(NamedTuple):
    name: str
    factory: Callable
    claims: bool
    why: str
    source: str
    check: Callable[[], dict]
    needs: str = ""


# Networks


class TinyG(nn.Module):
    def __init__(self, shape=(2,), classes=0, latent_dim=4):
        super().__init__()
        self.latent_dim, self.shape, self.classes = latent_dim, tuple(shape), classes
        self.net = nn.Sequential(nn.Linear(latent_dim + classes, 16), nn.Tanh(), nn.Linear(16, int(np.prod(shape))))

    def forward(self, z, y=None):
        if self.classes:
            z = torch.cat([z, nn.functional.one_hot(y, self.classes).to(z.dtype)], 1)
        return self.net(z).reshape(len(z), *self.shape)


class TinyD(nn.Module):
    def __init__(self, shape=(2,), classes=0, pack=1, auxiliary=False):
        super().__init__()
        self.classes = 0 if auxiliary else classes
        size = pack * (int(np.prod(shape)) + self.classes)
        self.body = nn.Sequential(nn.Linear(size, 16), nn.Tanh())
        self.head, self.aux = nn.Linear(16, 1), nn.Linear(16, classes) if auxiliary else None

    def features(self, x, y):
        x = x.flatten(1)
        if self.classes:
            x = torch.cat([x, nn.functional.one_hot(y, self.classes).flatten(1).to(x.dtype)], 1)
        return self.body(x)

    def forward(self, x, y=None):
        return self.head(self.features(x, y))[:, 0]


class TinyACD(TinyD):
    def forward_with_classes(self, x, y=None):
        h = self.features(x, y)
        return self.head(h)[:, 0], self.aux(h)


class QuadraticD(nn.Module):
    """D(x) = sum a x^2/2 + w x + e_y: its gradient is a x + w."""

    def __init__(self, shape=(2,), a=0.7, w=0.5, classes=0, pack=1):
        super().__init__()
        n = pack * int(np.prod(shape))
        self.a = nn.Parameter(torch.linspace(0.5, 1.5, n, dtype=torch.float64) * a)
        self.w = nn.Parameter(torch.linspace(1, -0.5, n, dtype=torch.float64) * w)
        self.scale = nn.Parameter(torch.linspace(1, 3, classes, dtype=torch.float64)) if classes else None
        self.seen = []

    def forward(self, x, y=None):
        self.seen.append(x.detach().double().numpy())
        flat = x.flatten(1)
        out = (self.a.to(x.dtype) * flat.square() / 2 + self.w.to(x.dtype) * flat).sum(1)
        return out if self.scale is None else out * self.scale.to(x.dtype)[y]

    def numbers(self):
        return self.a.detach().numpy().copy(), self.w.detach().numpy().copy()


def fresh(factory):
    """The factory with its own copies of the regularizers, whose buffers several GANs would share otherwise."""
    if isinstance(factory, partial):
        return partial(factory.func, *factory.args, **copy.deepcopy(factory.keywords))
    return factory


def build(factory, shape=(2,), needs="", pack=1, discriminator=None, generator=None, **settings) -> GAN:
    torch.manual_seed(0)
    classes = 3 if needs in ("labels", "ac") else 0
    conditioning = {"labels": lambda: ClassLabels(3), "ac": lambda: AuxiliaryClassifier(3, 1.0)}.get(needs, lambda: None)()
    d = (TinyACD if needs == "ac" else TinyD)(shape, classes, pack, needs == "ac")
    return fresh(factory)(
        generator or TinyG(shape, classes), discriminator or d,
        generator_optimizer=partial(torch.optim.SGD, lr=0.1), discriminator_optimizer=partial(torch.optim.SGD, lr=0.1),
        conditioning=conditioning, pack=pack, **settings,
    )  # fmt: skip


# Logits, NumPy losses

R = np.array([1.3, -0.4, 2.15, 0.25, -1.7, 0.85])
F = np.array([-0.95, 0.6, -1.45, 0.35, 1.15, -2.2])


def sp(x):
    return np.logaddexp(0, x)


def sig(x):
    return np.exp(-np.logaddexp(0, -x))


def relu(x):
    return np.maximum(x, 0)


def bce_d(r, f):
    return sp(-r).mean() + sp(f).mean()


NS = bce_d, lambda f, r: sp(-f).mean()
MM = bce_d, lambda f, r: -sp(f).mean()
LS = (lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2), lambda f, r: ((f - 1) ** 2).mean() / 2
HINGE = (lambda r, f: relu(1 - r).mean() + relu(1 + f).mean()), lambda f, r: -f.mean()
W = (lambda r, f: f.mean() - r.mean()), lambda f, r: -f.mean()
RP = (lambda r, f: sp(f - r).mean()), lambda f, r: sp(r - f).mean()
RA = (
    lambda r, f: (sp(f.mean() - r).mean() + sp(f - r.mean()).mean()) / 2,
    lambda f, r: (sp(r.mean() - f).mean() + sp(r - f.mean()).mean()) / 2,
)
RALS = (
    lambda r, f: (((r - f.mean() - 1) ** 2).mean() + ((f - r.mean() + 1) ** 2).mean()) / 2,
    lambda f, r: (((f - r.mean() - 1) ** 2).mean() + ((r - f.mean() + 1) ** 2).mean()) / 2,
)
RAHINGE = (
    lambda r, f: (relu(1 - (r - f.mean())).mean() + relu(1 + (f - r.mean())).mean()) / 2,
    lambda f, r: (relu(1 - (f - r.mean())).mean() + relu(1 + (r - f.mean())).mean()) / 2,
)


def numeric(function, x, h=1e-5):
    gradient = np.zeros_like(x)
    for i in range(x.size):
        up, down = x.copy(), x.copy()
        up.flat[i] += h
        down.flat[i] -= h
        gradient.flat[i] = (function(up) - function(down)) / (2 * h)
    return gradient


def d_gradient(factory, r=R, f=F, dtype=torch.float64, gan=None):
    gan = gan or build(factory)
    rt, ft = torch.tensor(r, dtype=dtype, requires_grad=True), torch.tensor(f, dtype=dtype, requires_grad=True)
    # copies, since a loss may write into its arguments
    loss = gan.discriminator_loss(rt * 1, ft * 1)
    grads = torch.autograd.grad(loss, (rt, ft), allow_unused=True) if loss.requires_grad else (None, None)
    return np.concatenate([np.zeros(len(x)) if g is None else g.double().numpy() for g, x in zip(grads, (r, f))])


def g_gradient(factory, f=F, r=R, dtype=torch.float64, gan=None):
    gan = gan or build(factory)
    ft, rt = torch.tensor(f, dtype=dtype, requires_grad=True), torch.tensor(r, dtype=dtype)
    loss = gan.generator_loss(ft * 1, rt if gan.generator_sees_real else None)
    grads = torch.autograd.grad(loss, ft, allow_unused=True) if loss.requires_grad else (None,)
    return np.zeros(len(f)) if grads[0] is None else grads[0].double().numpy()


def error(found, right):
    found, right = np.atleast_1d(found).astype(float), np.atleast_1d(right).astype(float)
    if not np.isfinite(found).all():
        return np.inf
    return float(np.abs(found - right).max() / max(np.abs(right).max(), np.abs(found).max(), 1e-12))


def differ(found, right, at_least=0.02):
    e = error(found, right)
    assert e >= at_least, f"not shown wrong: {found} against {right}"
    return {"found": np.round(found, 4).tolist(), "right": np.round(right, 4).tolist()}


def agree(found, right, within=1e-3, what=""):
    e = error(found, right)
    assert e <= within, f"{what} should agree: {found} against {right}"
    return {"found": np.round(found, 4).tolist(), "right": np.round(right, 4).tolist()}


def right_d(pair, r, f):
    return np.concatenate([numeric(lambda x: pair[0](x, f), r), numeric(lambda x: pair[0](r, x), f)])


def right_g(pair, r, f):
    return numeric(lambda x: pair[1](x, r), f)


def wrong_d(pair, r=R, f=F, dtype=torch.float64, other=True):
    """D's gradient differs from the reference, and G's agrees."""

    def evidence(factory):
        if other:
            agree(g_gradient(factory), right_g(pair, R, F), what="G")
        return differ(d_gradient(factory, r, f, dtype), right_d(pair, r, f))

    return evidence


def wrong_g(pair, r=R, f=F, dtype=torch.float64, other=True):
    def evidence(factory):
        if other:
            agree(d_gradient(factory), right_d(pair, R, F), what="D")
        return differ(g_gradient(factory, f, r, dtype), right_g(pair, r, f))

    return evidence


def wrong_both(pair, r=R, f=F, dtype=torch.float64):
    """One cause, which acts on both players."""

    def evidence(factory):
        d = differ(d_gradient(factory, r, f, dtype), right_d(pair, r, f))
        g = differ(g_gradient(factory, f, r, dtype), right_g(pair, r, f))
        return {"D": d, "G": g}

    return evidence


def right(pair, points=((R, F),)):
    """Both gradients agree with the NumPy reference."""

    def check(factory):
        for r, f in points:
            agree(d_gradient(factory, r, f), right_d(pair, r, f), what="D")
            shown = agree(g_gradient(factory, f, r), right_g(pair, r, f), what="G")
        return shown

    return check


# Steps without a trainer


def batch(n=6, shape=(2,), seed=1):
    return np.random.default_rng(seed).normal(size=(n, *shape)) + 0.3


def step(factory, shape=(2,), needs="", pack=1, n=6, discriminator=None, player="d", before=None, **settings):
    """(gan, terms, outputs) of one forward pass in float64, as the base class's step makes it."""
    gan = build(factory, shape, needs, pack, discriminator, **settings).double()
    if before:
        before(gan)
    real = torch.tensor(batch(n, shape))
    y = torch.arange(n) % 3 if needs else None
    z = torch.tensor(batch(n, (4,), seed=2))
    torch.manual_seed(3)
    d = player == "d"
    outputs = gan.forward_pass(real, y, z=z, with_real=d or gan.generator_sees_real, grad_to_generator=not d)
    outputs.step = settings.get("step", outputs.step)
    return gan, outputs


def parameter_gradient(loss, module):
    parameters = list(module.parameters())
    if not loss.requires_grad:
        return np.zeros(sum(p.numel() for p in parameters))
    grads = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return np.concatenate([np.zeros(p.numel()) if g is None else g.double().numpy().ravel() for g, p in zip(grads, parameters)])


def penalty_at(factory, name=None, shape=(2,), n=6, discriminator=None, number=0, real=None, fake=None, y=None, fake_y=None,
               pack=1, gan=None):  # fmt: skip
    """(penalty or None, D, real, fake) of a regularizer on a quadratic critic, in float64."""
    gan = gan or build(factory, shape, pack=pack)
    regularizer = next(iter(gan.regularizers.values())).double()
    d = discriminator or QuadraticD(shape, pack=pack)
    real = batch(n, shape) if real is None else real
    fake = batch(n, shape, seed=2) * 0.8 - 0.5 if fake is None else fake
    rt, ft = torch.tensor(real), torch.tensor(fake)
    outputs = StepOutputs(rt, ft, y, fake_y, d(rt, y), d(ft, fake_y), number, pack=pack)
    d.seen.clear() if hasattr(d, "seen") else None
    torch.manual_seed(5)
    return regularizer.penalty(d, outputs), d, real, fake


def quad_gradients(x, a, w):
    return a * x.reshape(len(x), -1) + w


def numpy_parameter_gradient(value, a, w):
    """d value(a, w) by central differences, in QuadraticD's parameter order."""
    return np.concatenate([numeric(lambda t: value(t, w), a), numeric(lambda t: value(a, t), w)])


def penalty_proof(value, shape=(2,), ok=False, what="gradient", **settings):
    """The penalty's value, or gradient in D's weights, against value(real, fake, a, w) in NumPy."""

    def evidence(factory):
        p, d, real, fake = penalty_at(factory, shape=shape, **settings)
        a, w = d.numbers()
        compare = agree if ok else differ
        if what == "value":
            return compare(p.item(), value(real, fake, a, w))
        found = parameter_gradient(p, d)[: a.size + w.size]
        return compare(found, numpy_parameter_gradient(lambda s, t: value(real, fake, s, t), a, w))

    return evidence


def register(cases, record):
    def case(cls, claims, text, evidence, *rest, factory=None, needs="", name=None):
        factory = factory or cls
        accepts = inspect.signature(evidence).parameters
        bound = partial(evidence, factory) if accepts else evidence
        if record is Wrong:
            reasons, source = rest
            cases.append(Wrong(name or cls.__name__, factory, claims, text, bound, tuple(reasons)[:4], source, needs))
        else:
            (source,) = rest
            cases.append(Sound(name or cls.__name__, factory, claims, text, source, bound, needs))

    return case

"""trainer=deterministic on a GPU: no run uses an operation that torch would refuse there."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ganlab.networks import ResNetDiscriminator, ResNetGenerator

# torch.use_deterministic_algorithms(True) raises for these on CUDA tensors: its docstring, torch 2.11 to 2.15; multinomial
# and cumsum of floats up to 2.14. Left out: nanmedian, which the verdicts take of numbers that are on the CPU by then.
REFUSED = {
    "median.dim", "kthvalue", "multinomial", "cumsum", "histc", "put_", "scatter_reduce",
    "_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "avg_pool3d_backward", "_adaptive_avg_pool3d_backward",
    "upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward", "upsample_trilinear3d_backward",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "nll_loss2d_forward", "nll_loss2d_backward",
    "grid_sampler_2d_backward", "max_unpool2d", "fractional_max_pool2d_backward",
}  # fmt: skip


class RecordRefused(TorchDispatchMode):
    """Records the operations that torch would refuse, backward passes included."""

    def __init__(self):
        super().__init__()
        self.count, self.refused = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        packet = function._overloadpacket.__name__
        full = f"{packet}.{function._overloadname}"
        weighted = packet == "bincount" and (len(args) > 1 and args[1] is not None or (kwargs or {}).get("weights") is not None)
        integers = packet == "cumsum" and not args[0].is_floating_point()
        if weighted or (not integers and REFUSED & {packet, full}):
            self.refused.add(full)
        return function(*args, **(kwargs or {}))


def test_refused_operations_are_recorded():
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    with RecordRefused() as recorded:
        x.median(0)
        x.detach().flatten()[:3].multinomial(5, replacement=True)
        torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear").sum().backward()
        torch.arange(3).cumsum(0)
        x.median()
    assert recorded.refused == {"median.dim", "multinomial.default", "upsample_bilinear2d_backward.default"}


@pytest.mark.parametrize(
    "overrides",
    [
        "data=digits networks.width=4 label_prior=marginal monitor=[verdicts,counterfactual] "
        "regularizer=[r1,r2_approx,gp,dragan,lecam,diffaugment,consistency,instance_noise,clip]",
        "data=digits networks.width=4 loss=ns conditioning=ac regularizer=[sn]",
        "data=ring loss=rpgan seeds=2 networks.hidden=[8,8] gan.pack=2",
    ],
    ids=["penalties", "auxiliary", "ensemble"],
)
def test_training_uses_no_refused_operation(cli, overrides):
    with RecordRefused() as recorded:
        code, printed = cli(
            *overrides.split(), "max_images=640", "eval_every=320", "data.batch_size=32", "monitor.every=4", "logger=csv",
            "trainer=cpu",
        )  # fmt: skip
    assert code == 0, printed
    assert recorded.count > 10_000 and recorded.refused == set()


def test_resnets_use_no_refused_operation():
    generator = ResNetGenerator(latent_dim=4, channels=1, size=28, width=4, num_classes=3)
    discriminator = ResNetDiscriminator(channels=1, size=28, width=4, projection_classes=3)
    with RecordRefused() as recorded:
        y = torch.tensor([0, 2])
        (gradient,) = torch.autograd.grad(discriminator(generator(torch.randn(2, 4), y), y).sum(), generator.parameters())[:1]
        assert gradient.isfinite().all()
    assert recorded.refused == set()

"""How many members of an ensemble fit into memory."""

from itertools import chain

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ganlab.models.gan import GAN


def memory_per_member(gan: GAN, datamodule) -> int:
    """Bytes that one member of an ensemble takes while it trains, estimated.

    Weights, gradients, two moments and the moving average; twice what the larger of the two steps keeps for its backward
    pass, for the gradients that flow there. The GAN is used for one forward pass of each step: throw it away.
    """
    datamodule.prepare_data()
    datamodule.setup()
    real, y = datamodule.on_after_batch_transfer(next(iter(datamodule.train_dataloader())), 0)
    weights = sum(p.nbytes for p in chain(gan.generator.parameters(), gan.discriminator.parameters()))
    average = sum(p.nbytes for p in gan.generator_ema.parameters())
    return 4 * weights + average + 2 * max(_saved_bytes(step, real, y) for step in (gan.discriminator_step, gan.generator_step))


def _saved_bytes(step, real: Tensor, y: Tensor | None) -> int:
    """Bytes of the distinct tensors that autograd saves in a step."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        kept_alive = step(real, y)
    del kept_alive
    return sum(storages.values())

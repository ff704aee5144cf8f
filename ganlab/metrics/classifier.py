"""The feature extractor of labeled images: a small classifier, trained once on the data set's own train split."""

import hashlib
import logging
import math
import os
import pickle
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganlab.data import Images, Split, to_float
from ganlab.data.batches import is_distributed, is_first_process
from ganlab.metrics.features import validate_features
from ganlab.metrics.knn import Progress
from ganlab.metrics.sampling import SPLIT_NAMES
from ganlab.utils.files import atomic_torch_save
from ganlab.utils.progress import TerminalProgress

log = logging.getLogger("ganlab")

RECIPE_VERSION = 1  # increase it with every change to the network or its training: it is part of the cache key
EPOCHS, MIN_STEPS, BATCH_SIZE, LEARNING_RATE = 3, 150, 256, 0.2


class Classifier(nn.Module):
    """images [n, C, S, S] in [-1, 1] -> (features [n, 64], logits [n, K]), float32. S from 8 to 64.

    Three convolutions, of which as many have stride 2 as bring S to 4 (8 for S > 32). The feature map is flattened, not
    averaged, so that the features keep positions: on Fashion-MNIST 0.91 accuracy instead of 0.89 after two epochs.
    """

    num_features = 64

    def __init__(self, channels: int, size: int, num_classes: int):
        super().__init__()
        halvings = min(3, math.ceil(math.log2(size / 4)))
        layers, width = [], channels
        for i, next_width in enumerate((32, 64, 64)):
            stride = 2 if i < halvings else 1
            layers += [nn.Conv2d(width, next_width, 3, stride, 1, bias=False), nn.BatchNorm2d(next_width), nn.ReLU()]
            width, size = next_width, math.ceil(size / stride)
        dense = nn.Linear(width * size * size, self.num_features, bias=False)
        self.features = nn.Sequential(*layers, nn.Flatten(), dense, nn.BatchNorm1d(self.num_features), nn.ReLU())
        self.head = nn.Linear(self.num_features, num_classes)
        self.to(memory_format=torch.channels_last)  # a third less time on CPUs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x.contiguous(memory_format=torch.channels_last))
        return features.float(), self.head(features).float()


@torch.inference_mode(False)
@torch.enable_grad()
def train_classifier(
    split: Split, num_classes: int, device: torch.device, rate: float = LEARNING_RATE, progress: Progress = iter
) -> Classifier:
    """Train a `Classifier` on images for max(150 steps, 3 epochs) of batch 256, and freeze it.

    SGD with Nesterov momentum and a one-cycle schedule up to `rate`. Deterministic; no device's global RNG changes.

    Args:
        split: x uint8 [N, C, S, S], y int64 [N].

    Raises:
        ValueError: fewer than two images, with which batch norm has no variance.
    """
    validate_features("the classifier's training", split.x, minimum=2)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # not torch.manual_seed, which would reseed the GPUs too
        network = Classifier(split.x.shape[1], split.x.shape[-1], num_classes).to(device)
    optimizer = torch.optim.SGD(network.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batch_size = min(BATCH_SIZE, len(split.x))
    steps = max(MIN_STEPS, EPOCHS * len(split.x) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.25)
    # bf16 saves a third of the time where the processor supports it natively, and costs time elsewhere.
    bf16 = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    generator, order = torch.Generator().manual_seed(0), torch.empty(0, dtype=torch.long)
    for _ in progress(range(steps)):
        if len(order) < batch_size:
            order = torch.randperm(len(split.x), generator=generator)
        batch, order = order[:batch_size], order[batch_size:]
        x, y = to_float(split.x[batch].to(device)), split.y[batch].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            _, logits = network(x)
        optimizer.zero_grad()
        F.cross_entropy(logits, y).backward()
        optimizer.step()
        schedule.step()
    return network.requires_grad_(False).eval()


@torch.no_grad()
def accuracy(network: Classifier, split: Split, device: torch.device) -> float:
    """Share of a split's images (x uint8 [N, C, S, S], y [N], N >= 1) that the network classifies correctly."""
    validate_features("an accuracy", split.x)
    batches = zip(split.x.split(1000), split.y.split(1000))
    return sum(int((network(to_float(x.to(device)))[1].argmax(1).cpu() == y).sum()) for x, y in batches) / len(split.x)


def load_classifier(datamodule: Images, device: torch.device, split: str = "val") -> tuple[Classifier, dict]:
    """Load the data set's frozen `Classifier`, or train and cache it.

    The cache is `<data_dir>/extractors/classifier_<data>_<key>.pt`; its key hashes the train split and the recipe, on which
    everything in the file depends. A file that cannot be read is replaced with a warning. Under torch.distributed all
    processes must call this; the first one loads or trains for all.

    Returns:
        The classifier on `device`, and its card for the protocol: name, recipe, sha256 of the weights, and accuracy on
        `split`, which is measured anew.

    Raises:
        ValueError: the data has fewer than 2 classes, or its images are not square.
    """
    data = type(datamodule).__name__
    if datamodule.num_classes < 2:
        raise ValueError(
            f"metrics=classifier needs data with at least 2 classes, got num_classes={datamodule.num_classes} of {data}: "
            "use metrics=inception or metrics=none"
        )
    if datamodule.shape[1] != datamodule.shape[2]:
        size = "x".join(map(str, datamodule.shape))
        raise ValueError(f"metrics=classifier needs square images, got {size}: use metrics=inception or metrics=none")
    saved = [_load_or_train(datamodule, data.lower(), device) if is_first_process() else {}]
    if is_distributed():
        torch.distributed.broadcast_object_list(saved)
    with torch.random.fork_rng(devices=[]):  # initial weights, overwritten below
        network = Classifier(datamodule.shape[0], datamodule.shape[-1], datamodule.num_classes)
    network.load_state_dict(saved[0]["weights"])
    network = network.requires_grad_(False).eval().to(device)
    share = accuracy(network, getattr(datamodule, split), device)
    if is_first_process():
        log.info("extractor: classifier for %s, accuracy %.3f on the %s", data.lower(), share, SPLIT_NAMES[split])
    return network, saved[0]["card"] | {"accuracy": share}


def _load_or_train(datamodule: Images, data: str, device: torch.device) -> dict:
    key = hashlib.sha256(f"{datamodule.fingerprint} recipe {RECIPE_VERSION}".encode()).hexdigest()
    path = Path(datamodule.data_dir) / "extractors" / f"classifier_{data}_{key[:12]}.pt"
    if path.exists():
        try:
            saved = torch.load(path, weights_only=True, map_location="cpu")
            if _sha256(saved["weights"]) != saved["card"]["sha256"]:
                raise ValueError("its weights do not match their checksum")
            log.info("extractor: classifier for %s, from %s", data, path)
            return saved
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            reason = str(error).split("\n")[0][:120]
            log.warning("extractor: %s cannot be read (%s), training the classifier again", path, reason)
    log.info("extractor: training a classifier on the train split of %s, once", data)
    started = time.perf_counter()
    with TerminalProgress() as bar:
        progress = partial(bar.track, description="training the extractor")
        network = train_classifier(datamodule.train, datamodule.num_classes, device, progress=progress)
    seconds = time.perf_counter() - started
    weights = {name: value.cpu() for name, value in network.state_dict().items()}
    saved = {"weights": weights, "card": {"name": "classifier", "recipe": RECIPE_VERSION, "sha256": _sha256(weights)}}
    try:
        atomic_torch_save(path, saved, suffix=f".{os.getpid()}")  # jobs of a sweep may train it at the same time
        where = f"cached in {path}"
    except OSError as error:
        where = f"not cached ({error})"
    log.info("extractor: classifier for %s, trained in %.0f s, %s", data, seconds, where)
    return saved


def _sha256(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in weights.items():
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()

"""`python -m ganlab export`: the moving average of the generator as one file, with a JSON card beside it.

format=safetensors: its weights; the card holds the network's class and arguments.
format=onnx: usable without ganlab. Inputs z float32 [n, latent_dim] and, of a conditional GAN, y int64 [n]; output x float32.
format=torchscript: the same as a module that torch.jit.load reads, called with (z) or (z, y).
Samples are in [-1, 1] for images. out=NAME.onnx puts the card into NAME.onnx.json.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

import ganlab
from ganlab.cli.options import ExportOptions, parse_options
from ganlab.cli.sample import show
from ganlab.runs.trained import Trained, open_run
from ganlab.utils.files import atomic_path, non_finite_to_none, write_json

SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torchscript": ".pt"}


def main(words: list[str]) -> None:
    """Writes the file and its card, and says where.

    Raises:
        ValueError, FileNotFoundError: an option, the run, or the place to write to will not do; a package is missing.
    """
    options = parse_options(ExportOptions, words)
    kind = options.format
    if kind not in SUFFIXES:
        raise ValueError(f"format must be one of {', '.join(SUFFIXES)}, got {kind!r}")
    trained = open_run(options.run, options.run_seed, options.trust)
    copy = "" if trained.copy is None else f"_seed{trained.copy}"
    out = Path(options.out).expanduser() if options.out else trained.folder / f"generator{copy}{SUFFIXES[kind]}"
    if out.is_dir():
        raise ValueError(f"out={out} is a folder; give a file's name, such as out={out / ('generator' + SUFFIXES[kind])}")
    generator = trained.gan.cpu().generator_ema.eval()
    write = {"safetensors": write_safetensors, "onnx": write_onnx, "torchscript": write_torchscript}[kind]
    with atomic_path(out) as partial:
        write(partial, generator, example(trained))
        about = card(trained, kind) | {"sha256": hashlib.sha256(partial.read_bytes()).hexdigest()}
    beside = out.with_name(out.name + ".json")
    write_json(beside, about)
    show(f"the generator of {trained.name} as {kind}, {out.stat().st_size / 2**20:,.2f} MiB, and its card", out)
    print(beside)


def example(trained: Trained) -> tuple[Tensor, ...]:
    """What the generator is called with: latents [2, latent_dim] and, of a conditional GAN, labels [2]."""
    z = torch.randn(2, trained.gan.generator.latent_dim, generator=torch.Generator().manual_seed(0))
    classes = trained.gan.conditioning.num_classes
    return (z, torch.tensor([0, classes - 1])) if classes else (z,)


def card(trained: Trained, kind: str) -> dict:
    """Where the file comes from, what goes in and out, and how good it is; what is not known is null."""
    gan, config = trained.gan, trained.config
    shape = gan.generate(*example(trained)).shape[1:]
    classes = gan.conditioning.num_classes
    return {
        "format": kind,
        "ganlab": ganlab.__version__,
        "trained_with": trained.state["ganlab"].get("version"),
        "name": trained.name,
        "family": gan.family,
        "network": config["gan"]["generator"],
        "inputs": {"z": f"float32 [n, {gan.generator.latent_dim}] from N(0, I)"}
        | ({"y": f"int64 [n] in 0 … {classes - 1}"} if classes else {}),
        "latent_dim": gan.generator.latent_dim,
        "classes": classes,
        "shape": list(shape),
        "range": [-1, 1] if len(shape) == 3 else None,
        "seed": trained.seed,
        "images_seen": gan.images_seen,
        "ema_decay": gan.ema_decay,
        "quality": quality(trained),
        "quality_of": "this checkpoint" if trained.copy is None else "the median copy of its ensemble",
        "protocol": protocol(trained),
    }


def quality(trained: Trained) -> dict | None:
    """What the run measured when it saved this very checkpoint, not at its end."""
    callbacks = trained.state.get("callbacks") or {}
    found = [state.get("latest") for name, state in callbacks.items() if name.startswith("Evaluation")]
    return non_finite_to_none(found[0]) or None if found else None


def protocol(trained: Trained) -> dict | None:
    """How it was measured, if the run's folder still says so."""
    try:
        return json.loads((trained.folder / "summary.json").read_text()).get("protocol")
    except (OSError, ValueError, AttributeError):
        return None


def write_safetensors(path: Path, generator: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise ValueError(missing("safetensors", error)) from error
    weights = {name: tensor.contiguous() for name, tensor in generator.state_dict().items()}
    path.write_bytes(save(weights, metadata={"format": "pt", "ganlab": ganlab.__version__}))


def write_onnx(path: Path, generator: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    try:
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise ValueError(missing("onnx", error)) from error
    names, n = ["z", "y"][: len(inputs)], torch.export.Dim("n")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # the exporter tells its steps
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            generator, inputs, dynamo=True, verbose=False, input_names=names, output_names=["x"],
            dynamic_shapes=tuple({0: n} for _ in inputs),
        )  # fmt: skip
    path.write_bytes(program.model_proto.SerializeToString())


def write_torchscript(path: Path, generator: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.* is deprecated")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # the test holds it to other batch sizes
        torch.jit.save(torch.jit.trace(generator, inputs, check_trace=False), str(path))


def missing(kind: str, error: ImportError) -> str:
    return f'format={kind} needs {error.name}, which is not installed; pip install "ganlab[export]"'

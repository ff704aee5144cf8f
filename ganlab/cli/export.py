"""Write the generator of a trained GAN (its moving average) to one file, with a JSON card beside it.

    python -m ganlab export run=latest
    python -m ganlab export run=latest format=onnx out=generator.onnx

format=safetensors   the weights; the card holds the network's class and arguments
format=onnx          usable without ganlab: inputs z float32 [n, latent_dim] and, of a conditional GAN, y int64 [n]; output x
format=torchscript   a module for torch.jit.load, called with (z) or (z, y)

The output is float32, of images in [-1, 1]. The card of generator.onnx is generator.onnx.json: inputs, classes, run, metrics.
"""

import hashlib
import io
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

import ganlab
from ganlab.cli.options import ExportOptions, parse_options
from ganlab.cli.output import example_inputs, output_path, sample_shape
from ganlab.runs.open_run import TrainedRun, open_run
from ganlab.utils.files import atomic_path, write_json

SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torchscript": ".pt"}


def main(words: list[str]) -> None:
    options = parse_options(ExportOptions, words)
    kind = options.format
    trained = open_run(options.run, options.run_seed, options.trust)
    out = output_path(options.out, trained, "generator" + SUFFIXES[kind], {"seed": trained.member})
    generator = trained.gan.cpu().generator_ema.eval()
    write = {"safetensors": write_safetensors, "onnx": write_onnx, "torchscript": write_torchscript}[kind]
    with atomic_path(out) as partial:
        try:
            write(partial, generator, example_inputs(trained.gan))
        except ImportError as error:
            extra = 'pip install "ganlab[export]"'
            raise ValueError(f"format={kind} needs {error.name}, which is not installed; {extra}") from error
        card = model_card(trained, kind) | {"sha256": hashlib.sha256(partial.read_bytes()).hexdigest()}
    card_path = out.with_name(out.name + ".json")
    write_json(card_path, card)
    print(f"the generator of {trained.name} as {kind}, {out.stat().st_size / 2**20:,.2f} MiB, and its card\n{out}\n{card_path}")


def model_card(trained: TrainedRun, kind: str) -> dict:
    """Where the file comes from, its inputs and outputs, and how good the samples are; what is unknown is null."""
    gan, shape, classes = trained.gan, list(sample_shape(trained.gan)), trained.gan.conditioning.num_classes
    labels = {"y": f"int64 [n] in 0 … {classes - 1}"} if classes else {}
    callbacks = trained.state.get("callbacks") or {}  # what the run measured when it saved this very checkpoint
    quality = next((state.get("latest") for name, state in callbacks.items() if name.startswith("Evaluation")), None)
    return {
        "format": kind,
        "ganlab": ganlab.__version__,
        "trained_with": trained.state["ganlab"].get("version"),
        "name": trained.name,
        "family": gan.family,
        "network": trained.config["gan"]["generator"],
        "inputs": {"z": f"float32 [n, {gan.generator.latent_dim}] from N(0, I)"} | labels,
        "latent_dim": gan.generator.latent_dim,
        "classes": classes,
        "shape": shape,
        "range": [-1, 1] if len(shape) == 3 else None,
        "seed": trained.seed,
        "images_seen": gan.images_seen,
        "ema_decay": gan.ema_decay,
        "quality": quality or None,
        "quality_of": "this checkpoint" if trained.member is None else "the median member of its ensemble",
        "protocol": trained.run_dir.read_summary().get("protocol"),
    }


def write_safetensors(path: Path, generator: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    from safetensors.torch import save

    weights = {name: tensor.contiguous() for name, tensor in generator.state_dict().items()}
    path.write_bytes(save(weights, metadata={"format": "pt", "ganlab": ganlab.__version__}))


def write_onnx(path: Path, generator: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    import onnxscript  # noqa: F401  torch's exporter needs it

    names, n = ["z", "y"][: len(inputs)], torch.export.Dim("n")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # the exporter prints its steps
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            generator, inputs, dynamo=True, verbose=False, input_names=names, output_names=["x"],
            dynamic_shapes=tuple({0: n} for _ in inputs),
        )  # fmt: skip
    path.write_bytes(program.model_proto.SerializeToString())


def write_torchscript(path: Path, generator: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.* is deprecated")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # a test compares other batch sizes
        torch.jit.save(torch.jit.trace(generator, inputs, check_trace=False), str(path))

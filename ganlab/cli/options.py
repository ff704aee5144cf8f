"""Options of the verbs that compose no configuration: a dataclass each, read from `key=value` words by OmegaConf.

Nothing here imports torch: a mistyped option is refused, and `-h` answered, at once.
"""

import difflib
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import ValidationError

from ganlab.utils.validation import validate_int

Options = TypeVar("Options")
TYPE_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "text"}


def option(default: Any, help: str, minimum: int | None = None, maximum: int | None = None) -> Any:
    """A dataclass field with a default, one line of help, and the range of an integer."""
    metadata = {"help": help, "minimum": minimum, "maximum": maximum}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class RunOptions:
    """Options of every verb that uses a trained run."""

    run: str = option("latest", "run directory, .ckpt file, or latest: the newest run in outputs/")
    run_seed: int | None = option(None, "seed of an ensemble's member (default: the first that did not fail)")
    trust: list[str] = option([], "your own modules whose classes may be built, such as my_gan")


@dataclass
class EvaluateOptions(RunOptions):
    n: int | None = option(
        None, "samples (20 … size of the smaller split), compared with as many real ones (default: as in training)", minimum=20
    )
    split: str = option("test", "real data to compare with: test, or val for the numbers that training logged")
    seed: int = option(0, "seed of the samples", minimum=0)
    draws: int = option(
        10, "sets of samples, each from other latents, for the intervals where n is at most 2,500 (1: no intervals)", minimum=1
    )
    features: str | None = option(None, "feature extractor: points, classifier, channels or inception (default: the run's)")
    out: str | None = option(None, "JSON file or directory (default: evaluation.json in the run directory)")
    data_dir: str | None = option(None, "where data sets and extractors are kept (default: as in training)")
    root: str | None = option(None, "image folder of data=folder, if it has moved")

    def __post_init__(self) -> None:
        if self.split not in ("test", "val"):
            raise ValueError(f"split must be test or val, got {self.split!r}")


@dataclass
class ExportOptions(RunOptions):
    format: str = option("safetensors", "safetensors, onnx or torchscript")
    out: str | None = option(None, "file to write (default: generator.safetensors, .onnx or .pt in the run directory)")

    def __post_init__(self) -> None:
        if self.format not in ("safetensors", "onnx", "torchscript"):
            raise ValueError(f"format must be safetensors, onnx or torchscript, got {self.format!r}")


@dataclass
class InterpolateOptions(RunOptions):
    from_: int = option(1, "seed of the latents at the start", minimum=0)
    to: int | None = option(None, "seed of the latents at the end (default: from + 1; with labels=: from)", minimum=0)
    labels: list[int] = option([], "two classes to interpolate between, such as 3,8")
    label: int | None = option(None, "class of all samples (default: row i has class i mod the number of classes)")
    steps: int = option(10, "samples per row, both ends included", minimum=2)
    rows: int = option(6, "pairs of latents", minimum=1)
    out: str | None = option(None, "*.png or *.gif (default: a PNG in the run directory)")
    data_dir: str | None = option(None, "where data sets are kept (default: as in training)")

    def __post_init__(self) -> None:
        if self.labels and len(self.labels) != 2:
            raise ValueError(f"labels= must be two, such as labels=3,8, got {','.join(map(str, self.labels))}")
        if self.labels and self.label is not None:
            raise ValueError(f"labels= and label= exclude each other, got label={self.label}; leave one out")


@dataclass
class NeighborsOptions(RunOptions):
    n: int = option(8, "samples, a row of the picture each (at most 100)", minimum=1, maximum=100)
    k: int = option(3, "training images per sample (at most 20)", minimum=1, maximum=20)
    label: int | None = option(None, "class of all samples (default: sample i has class i mod the number of classes)")
    seed: int = option(1, "seed of the samples", minimum=0)
    out: str | None = option(None, "*.png (default: in the run directory)")
    data_dir: str | None = option(None, "where data sets are kept (default: as in training)")
    root: str | None = option(None, "image folder of data=folder, if it has moved")


@dataclass
class ReportOptions:
    out: str | None = option(None, "directory to write to (default: the first PATH)")
    metric: str | None = option(None, "metric that ranks the runs (default: the objective of the runs)")


@dataclass
class ResumeOptions:
    resume: str = option("latest", "run directory, sweep directory, or latest: the newest unfinished run in outputs/")
    max_images: int | None = option(None, "new length of the run in real images, also of a finished one", minimum=1)
    trust: list[str] = option([], "your own modules whose classes may be built, such as my_gan")


@dataclass
class SampleOptions(RunOptions):
    n: int = option(64, "number of samples", minimum=1)
    label: int | None = option(None, "class of all samples (default: sample i has class i mod the number of classes)")
    truncation: float | None = option(None, "draw latents from the normal distribution cut to ± this value")
    seed: int = option(1, "seed of the samples", minimum=0)
    out: str | None = option(None, "*.png, *.npy or a new directory (default: a PNG in the run directory)")
    data_dir: str | None = option(None, "where data sets are kept (default: as in training)")


OPTIONS: dict[str, type] = {
    "evaluate": EvaluateOptions,
    "export": ExportOptions,
    "interpolate": InterpolateOptions,
    "neighbors": NeighborsOptions,
    "report": ReportOptions,
    "resume": ResumeOptions,
    "sample": SampleOptions,
}


def parse_options(cls: type[Options], words: Sequence[str]) -> Options:
    """Read `key=value` words into the dataclass `cls`, whose name is the verb's followed by "Options".

    Lists are comma-separated, integers may be written 10_000, and `null` is None or the empty list. A field whose name is
    a Python keyword ends in "_": `from=1` sets `from_`.

        parse_options(SampleOptions, ["n=3", "label=null"]) == SampleOptions(n=3, label=None)

    Raises:
        ValueError: a word is not key=value, its key is unknown or was given before, or its value has another type.
    """
    verb, options = cls.__name__.removesuffix("Options").lower(), _options_by_key(cls)
    config, given = OmegaConf.structured(cls), set[str]()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            hint = f", perhaps {next(iter(options))}={word}" if word == "latest" or Path(word).exists() else ""
            raise ValueError(f"{verb} takes key=value, got {word!r}{hint}; its options are {', '.join(options)}")
        if key not in options:
            near = difflib.get_close_matches(key, options, n=2)
            if verb == "resume" and not near:
                raise ValueError(f"a resumed run keeps its settings, got {word}; only max_images= (and trust=) can be given")
            hint = f", perhaps {' or '.join(near)}" if near else ""
            raise ValueError(f"{verb} has no option {key}={hint}; its options are {', '.join(options)}")
        if key in given:
            raise ValueError(f"{key}= was given twice, the second time as {text!r}; leave one out")
        given.add(key)
        item, kind, is_list = options[key]
        value: Any = text.split(",") if is_list else text
        if text == "null":
            value = [] if is_list else None
        try:  # not as YAML: OmegaConf converts text to the field's type, and a directory 0010 keeps its name
            if not text:
                raise ValidationError
            config[item.name] = value
        except ValidationError:
            several = ", or several separated by commas" if is_list else ""
            raise ValueError(f"{key}= must be {TYPE_NAMES[kind]}{several}, got {text!r}") from None
        if item.metadata["minimum"] is not None and value is not None:
            validate_int(key, config[item.name], item.metadata["minimum"], item.metadata["maximum"])
    return cast(Options, OmegaConf.to_object(config))


def help_text(verb: str, module_doc: str, cls: type) -> str:
    """The verb's docstring, then its options with default, type and help, one a line."""
    rows = []
    for key, (item, kind, is_list) in _options_by_key(cls).items():
        default = "…" if item.default in (None, MISSING) else str(item.default)
        rows.append((f"{key}={default}", f"{kind.__name__},…" if is_list else kind.__name__, item.metadata["help"]))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"  {setting:{widths[0]}}  {kind:{widths[1]}}  {text}" for setting, kind, text in rows]
    return "\n".join([module_doc.strip(), "", f"Options of python -m ganlab {verb}:", *lines])


def _options_by_key(cls: type) -> dict[str, tuple[Field, type, bool]]:
    """Key → (the field, its type or its elements' type, whether it is a list), in the order of the fields."""
    options = {}
    for item in fields(cls):
        kind: Any = (*get_args(item.type), item.type)[0]  # int of int, int | None and list[int]
        options[item.name.removesuffix("_")] = (item, kind, get_origin(item.type) is list)
    return options

"""`python -m ganlab [VERB] key=value …`: train what conf/ and the overrides compose, or use what training left."""

import ast
import io
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from ganlab.cli.handler import errors_as_sentences
from ganlab.cli.options import OPTIONS, help_text, parse_options
from ganlab.config.secrets import validate_words
from ganlab.config.suggestions import misplaced_option
from ganlab.utils import slurm

VERBS = ("inspect", *OPTIONS)


def main() -> None:
    """The command line of `python -m ganlab` and of `ganlab`."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # not in notebooks
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a terminal without Unicode ends no run
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    verb, words = split_verb(sys.argv[1:])
    with errors_as_sentences(verb or "train", show_traceback):
        if words[:1] == ["--version"]:
            print(f"ganlab {import_module('ganlab').__version__}")
            return
        require_verb_first(verb, words)
        validate_words(words)
        if not sys.flags.safe_path:  # python -P
            sys.path.insert(0, os.getcwd())  # for a user's own module: gan._target_=my_gan.MyGAN
        if verb is not None:
            return use_verb(verb, words)
        if problem := misplaced_option(words):
            raise ValueError(problem)
        slurm.requeue_on_signal()
        from ganlab.cli.hydra_app import run_hydra  # start-up time: the other verbs need no Hydra

        run_hydra(show_traceback)


def split_verb(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The verb and the words after it; no verb means to train, and `resume=RUN` to resume."""
    if words and words[0].isidentifier():
        return words[0], list(words[1:])
    return ("resume" if any(word.startswith("resume=") for word in words) else None), list(words)


def require_verb_first(verb: str | None, words: Sequence[str]) -> None:
    """
    Raises:
        ValueError: the verb is unknown, or stands behind other words.
    """
    if verb == "train":
        raise ValueError("training needs no verb: python -m ganlab key=value …")
    if verb is not None and verb not in VERBS:
        raise ValueError(f"unknown verb {verb!r}; choose one of {', '.join(VERBS)}, or type overrides as key=value")
    for before, word in zip(("", *words), words):
        if word in VERBS and not before.startswith("-"):
            raise ValueError(f"{word} comes first: python -m ganlab {word} …")


def use_verb(verb: str, words: list[str]) -> None:
    """A verb with a module of its own, below ganlab/cli. Its help and its options are known without importing torch."""
    if {"-h", "--help"} & {*words}:
        text = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{verb}.py").read_text())) or ""
        print(help_text(verb, text, OPTIONS[verb]) if verb in OPTIONS else text)
        return
    if verb in OPTIONS and verb != "report":  # report's words may be paths
        parse_options(OPTIONS[verb], words)
    logging.basicConfig(format="%(message)s", stream=sys.stdout)  # as Hydra does; of libraries only warnings
    logging.getLogger("ganlab").setLevel(logging.INFO)
    if verb == "inspect":
        from ganlab.cli.hydra_app import inspect  # start-up time

        return inspect(words)
    if verb == "resume":
        slurm.requeue_on_signal()
    import_module(f"ganlab.cli.{verb}").main(words)


if __name__ == "__main__":
    main()

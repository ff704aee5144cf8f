"""Options from key=value words: types, defaults, help, and one sentence for what cannot be read."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from ganlab.cli.options import OPTIONS, SampleOptions, help_text, option, parse_options


@dataclass
class VerbOptions:
    run: str = option("latest", "run directory")
    n: int = option(64, "number of samples")
    weight: float = option(0.5, "a weight")
    fast: bool = option(False, "faster")
    label: int | None = option(None, "class of all samples")
    out: str | None = option(None, "file to write")
    labels: list[int] = option([], "two classes")
    trust: list[str] = option([], "your own modules")
    from_: int = option(1, "seed at the start")


def test_no_words_give_the_defaults():
    assert parse_options(VerbOptions, []) == VerbOptions()


@pytest.mark.parametrize(
    "word, value",
    [
        ("n=1_000", 1000), ("n=-3", -3), ("weight=2", 2.0), ("weight=1e-3", 0.001), ("fast=True", True), ("fast=false", False),
        ("label=0", 0), ("label=null", None), ("out=a=b.png", "a=b.png"), ("out=0010", "0010"), ("out=[a] #b", "[a] #b"),
        ("labels=3,8", [3, 8]), ("labels=3", [3]), ("trust=a,b.c", ["a", "b.c"]), ("trust=null", []), ("from_=2", 2),
    ],
)  # fmt: skip
def test_value_has_the_type_of_its_field(word, value):
    name, _, text = word.partition("=")
    value_read = getattr(parse_options(VerbOptions, [f"{name.removesuffix('_')}={text}"]), name)
    assert value_read == value and type(value_read) is type(value)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["n=many"], r"^n= must be an integer, got 'many'$"),
        (["n=1.5"], r"^n= must be an integer, got '1.5'$"),
        (["n=null"], r"^n= must be an integer, got 'null'$"),
        (["weight=x"], r"^weight= must be a number, got 'x'$"),
        (["fast=maybe"], r"^fast= must be true or false, got 'maybe'$"),
        (["labels=1,x"], r"^labels= must be an integer, or several separated by commas, got '1,x'$"),
        (["out="], r"^out= must be text, got ''$"),
        (["lable=3"], r"^verb has no option lable=, perhaps label or labels; its options are run, n, weight, fast, label,"),
        (["zzz=3"], r"^verb has no option zzz=; its options are run, n"),
        (["n=1", "n=2"], r"^n= was given twice, the second time as '2'; leave one out$"),
        (["nowhere"], r"^verb takes key=value, got 'nowhere'; its options are run, .*, from$"),
        (["latest"], r"^verb takes key=value, got 'latest', perhaps run=latest; its options are run,"),
    ],
)
def test_unreadable_word_gets_one_sentence(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_options(VerbOptions, words)


def test_existing_path_without_key_is_taken_for_the_run(tmp_path):
    with pytest.raises(ValueError, match=f"perhaps run={tmp_path}; "):
        parse_options(VerbOptions, [str(tmp_path)])


def test_values_are_checked_while_parsing():
    with pytest.raises(ValueError, match="n must be an integer of at least 1, got 0"):
        parse_options(SampleOptions, ["n=0"])


def test_help_shows_default_type_and_meaning_of_every_option():
    lines = help_text("verb", "What it does.\n", VerbOptions).splitlines()
    assert lines[:3] == ["What it does.", "", "Options of python -m ganlab verb:"]
    assert lines[3:] == [
        "  run=latest  str    run directory",
        "  n=64        int    number of samples",
        "  weight=0.5  float  a weight",
        "  fast=False  bool   faster",
        "  label=…     int    class of all samples",
        "  out=…       str    file to write",
        "  labels=…    int,…  two classes",
        "  trust=…     str,…  your own modules",
        "  from=1      int    seed at the start",
    ]


def test_options_and_help_need_no_torch():
    code = "import sys; from ganlab.cli import main; sys.argv[1:] = ['evaluate', '-h']; main.main(); assert 'torch' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0 and "draws=10 " in run.stdout, run.stderr


@pytest.mark.parametrize("verb", OPTIONS)
def test_every_verb_has_readable_defaults(verb):
    parse_options(OPTIONS[verb], [])

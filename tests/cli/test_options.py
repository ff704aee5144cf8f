"""key=value words: types, absences, and sentences for what cannot be read."""

import pytest

from ganlab.cli.options import parsed

OPTIONS = {
    "run": "latest",
    "n": 64,
    "weight": 0.5,
    "fast": False,
    "label": int,
    "out": str,
    "labels": list[int],
    "trust": list[str],
}


def test_defaults_and_absences():
    absent = {"label": None, "out": None, "labels": None, "trust": None}
    assert parsed("verb", [], **OPTIONS) == {"run": "latest", "n": 64, "weight": 0.5, "fast": False, **absent}


@pytest.mark.parametrize(
    "word, value",
    [
        ("n=1_000", 1000), ("n=-3", -3), ("weight=2", 2.0), ("weight=1e-3", 0.001), ("fast=True", True), ("fast=false", False),
        ("label=0", 0), ("label=null", None), ("out=a=b.png", "a=b.png"), ("out=3", "3"), ("labels=3,8", [3, 8]), ("labels=3", [3]),
        ("trust=a,b.c", ["a", "b.c"]), ("run=x", "x"),
    ],
)  # fmt: skip
def test_a_word_has_the_type_of_its_default(word, value):
    found = parsed("verb", [word], **OPTIONS)[word.partition("=")[0]]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["n=many"], r"^n= must be a whole number, got 'many'$"),
        (["n=1.5"], r"^n= must be a whole number, got '1.5'$"),
        (["n="], r"^n= must be a whole number, got ''$"),
        (["n=null"], r"^n= must be a whole number, got 'null'$"),
        (["weight=x"], r"^weight= must be a number, got 'x'$"),
        (["fast=1"], r"^fast= must be true or false, got '1'$"),
        (["labels=1,x"], r"^labels= must be a whole number, got 'x'$"),
        (["out="], r"^out= must be text, got ''$"),
        (["lable=3"], r"^verb has no option lable=, perhaps label or labels was meant; it knows run, n, weight, fast, label,"),
        (["zzz=3"], r"^verb has no option zzz=; it knows run, n"),
        (["n=1", "n=2"], r"^n= was given twice, the second time as '2'; leave one out$"),
        (["nowhere"], r"^verb takes key=value, got 'nowhere'; it knows run"),
    ],
)
def test_what_cannot_be_read_gets_one_sentence(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        parsed("verb", words, **OPTIONS)


def test_a_bare_folder_is_taken_for_a_forgotten_run(tmp_path):
    with pytest.raises(ValueError, match="perhaps resume=latest; it knows resume"):
        parsed("resume", ["latest"], resume="latest")
    with pytest.raises(ValueError, match=f"perhaps run={tmp_path}; "):
        parsed("verb", [str(tmp_path)], **OPTIONS)


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_names_every_option_and_ends(capsys, word):
    with pytest.raises(SystemExit) as end:
        parsed("verb", ["n=many", word], **OPTIONS)
    lines = capsys.readouterr().out.splitlines()
    assert end.value.code == 0 and lines[0].startswith("python -m ganlab verb") and len(lines) == 1 + len(OPTIONS)
    assert "  n=64" in lines and "  fast=false" in lines and any(line.startswith("  label=… (a whole number") for line in lines)

"""Random command lines through ganlab's entry point: each must end in a run or in one clear sentence.

    python tests/benchmarks/fuzz.py [N] [SEED]            # 1,000 command lines, drawn from the seed 0
    python tests/benchmarks/fuzz.py 20 0 --processes      # as real processes, one after another

Each command line trains four batches on the ring and has one hostile argument (NASTY, NUMBERS, FREE). `main()` runs it in a fork
of a process with torch loaded, in an empty directory, under limits of memory and time; a run that exceeds the time, such as
`max_images=10**18`, must end on SIGTERM. An audit hook records programs that are executed and files that are written
elsewhere. Prints a table, writes the distinct messages to `sentences.txt`, and exits with 1 after a violation.
"""

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from ganlab.cli.main import main
from ganlab.config import suggestions
from ganlab.config.paths import conf_folder

TINY = "max_images=256 eval_every=128 logger=csv trainer=cpu hydra.run.dir=run".split()
RING = "data=ring data.train_size=256 data.test_size=64 networks.hidden=[2] metrics.samples=16".split()
DIGITS = "networks.width=2 metrics=none".split()
SECONDS = 20  # for a command line; then it gets SIGTERM and as long again
SECRET = "sk-planted-7f3a9c"
NASTY = [
    "", "null", "~", "true", "False", "0", "-0", "-1", "1", "2", "0.5", "1e400", "-1e400", "nan", "inf", "1e-320", "1e3",
    str(10**18), str(10**30), "0x10", "1_0", "abc", "auto", "'1'", '"0.5"', "[]", "{}", "[1]", "[0,0.99]", "[1,[2,{a:3}]]",
    "{a:1}", "{a:{b:[1,2]}}", "[null]", "[abc,def]", "ключ", "数", "'🙂'", "'a\nb'", "'\t'", r"'\x00'", "x" * 5000, "[" + "1," * 3000 + "1]",
    "'${oc.env:HOME}'", "'${oc.env:WANDB_API_KEY}'", "'${oc.env:NOT_THERE}'", "'$(touch owned)'", "';touch owned'", "'`touch owned`'",
    "'../../x'", "/etc/passwd", "'!!python/object/apply:os.system [\"touch owned\"]'", "'${ganlab.product:1e300,1e300}'",
    "'${ganlab.product:a,2}'", "'${ganlab.family:1}'", "'${nowhere}'", "'${name}'", "'${max_images}'", "'${gan}'", "'${hydra:job}'",
    "'${oc.decode:\"[1,2\"}'", "'${oc.create:{a:1}}'", "'${'", "'???'", "???", "'%s%n'", "'{0}'", "'[red]'", "'[/]'",
    "os.system", "{command:'touch owned'}", "'__import__(\"os\").system(\"touch owned\")'",
]  # fmt: skip
NUMBERS = "0 -1 1 2 3 7 0.5 -0.5 1.5 1e-9 1e9 1e-45 65 1000 nan inf 1e400 null 3.0 [0.5] [1,2] true".split()
POINTS = ("data=ring", "data=grid", "networks=mlp", "metrics=toy")
FREE = [
    "=", "==", "=1", "a", "a=", "a==b", "a.b.c=1", "+a", "+a=", "++a=1", "+a.b={c:[1,2]}", "~a", "~seed", "~gan", "~gan.n_critic=1", "~data",
    "~trainer", "~networks", "~hydra", "~callbacks", "~callbacks.checkpoints", "~logger", "~conditioning", "+seed=1", "++seed=2", "seed=1,2", "seed=range(3)",
    "seed=choice(1,2)", "seed=sort(1,2)", "max_images=int(1e3)", "seed=str(1)", "--foo", "-x", "--cfg", "--cfg=x", "--config-dir=nowhere", "--config-dir=/etc",
    "--config-name=nowhere", "--config-path=nowhere", "--package=nowhere", "--info=defaults", "--resolve", "--multirun", "--experimental-rerun=nowhere", "-c", "-cjob", "--help",
    "--hydra-help", "--version", "--info=x", "run", "train", "evaluate", "resume=nowhere", "resume=", "resume", "hydra.run.dir=../../x", "hydra.run.dir=", "hydra.run.dir=null",
    "hydra.run.dir=/proc/x", "hydra.output_subdir=null", "hydra.output_subdir=../../x", "hydra.job.chdir=true", "hydra.job.name=../../x", "hydra.verbose=true", "hydra.verbose=x",
    "hydra.job.env_copy=[WANDB_API_KEY]", "hydra.job.env_copy=[NOT_THERE]", "hydra.job.env_set={A:b}", "hydra/launcher=nowhere", "hydra/job_logging=none",
    "hydra/sweeper=nowhere", "hydra.callbacks=null", "hydra.mode=x", "hydra.searchpath=[file:///nowhere]", "hydra.searchpath=[nowhere]", "hydra=x",
    "name={_target_:os.system,command:'touch owned'}", "+x._target_=os.system", "seed={_target_:os.getpid}", "+experiment=nowhere", "+experiment=[ring,grid]",
    "experiment=ring", "loss=[ns,ls]", "loss=../data/ring", "data@x=ring", "+data@x=ring", "loss=null", "data=null", "gan=null", "networks=dcgan", "regularizer=r1",
    "regularizer=[r1,r1]", "regularizer={r1:null}", "'a b'", "seed=1 loss=ns", "seed =1", " seed=1", "seed= 1", "\n", "", "''", "ключ=1", "数.x=1", "seed:1", "{}", "[]", "$(touch owned)",
    ";touch owned", "gan._target_=os.system", "gan._target_=nowhere.X", "gan._target_=", "gan._target_=torch.nn.Linear", "gan._target_=ganlab.GAN", "gan._target_=..",
    "gan.generator._target_=builtins.print", "optimizer.generator._target_=torch.optim.LBFGS", "optimizer.generator._target_=torch.optim.SparseAdam",
    "optimizer.generator._partial_=false", "data._target_=ganlab.data.Grid", "callbacks.train_metrics._target_=ganlab.callbacks.MaxImages", "metrics._target_=ganlab.metrics.Nowhere",
]  # fmt: skip


def keys() -> list[tuple[str, str]]:
    """Every dotted key of conf/ with the choice that brings it ("": it is always there), and groups with no choice."""
    conf = Path(conf_folder())
    groups = [(folder.name, "") for folder in conf.iterdir() if folder.is_dir()]
    hydra_keys = [
        "hydra.job.name",
        "hydra.run.dir",
        "hydra.sweep.dir",
        "hydra.verbose",
        "hydra.job.chdir",
        "hydra.output_subdir",
    ]
    downloads = [f"data={name}" for name in ("mnist", "fashion_mnist", "cifar10", "stacked_mnist", "stacked_fashion")]
    left_out = ("logger=[wandb]", "metrics=inception", *downloads)
    config_keys = [(key, choice.replace("'", "")) for key, choice, _ in suggestions.iter_keys(conf)]
    return groups + [(key, "") for key in hydra_keys] + [pair for pair in config_keys if pair[1] not in left_out]


def command_lines(n: int, seed: int) -> list[list[str]]:
    """Command lines of four batches of points or images with, mostly, a key with a nasty value, sometimes a malformed argument."""
    draw, all_keys = random.Random(seed), keys()
    lines = []
    for _ in range(n):
        kind = draw.random()
        if kind < 0.2:
            lines.append([*RING, draw.choice(FREE)])
        elif kind < 0.25:
            alphabet = "abc=.,:+~-[]{}()'\"\\$ \n@/%é0"
            lines.append([*RING, "".join(draw.choices(alphabet, k=draw.randint(1, 30)))])
        else:
            key, choice = draw.choice(all_keys)
            if kind < 0.3:
                spoilt = draw.randrange(len(key) + 1)
                key = key[:spoilt] + draw.choice("xé.@/_ ") + key[spoilt:]
            plus = draw.choice(["", "", "", "", "+", "++", "~"])
            value = draw.choice(NASTY if draw.random() < 0.5 else NUMBERS)
            of_images = choice.startswith(("data=", "networks=", "metrics=")) and choice not in POINTS
            tiny = DIGITS if of_images or draw.random() < 0.3 else RING
            lines.append([*tiny, *([choice] if choice else []), f"{plus}{key}={value}"])
    return lines


def run_main(arguments: list[str], folder: Path) -> None:
    """Call main() and note what it executes and where else it writes; exit as Python would."""
    notes = (folder.parent / "notes").open("w", buffering=1)
    fork = os.getpid()

    def audit(event, details):
        if os.getpid() != fork:
            return
        if event == "subprocess.Popen" and details[0] == "uname":
            return  # platform.processor() asks
        if event in ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "pty.spawn"):
            notes.write(f"executed {event} {details!r:.200}\n")
        elif event == "open" and isinstance(details[0], str) and isinstance(details[1], str) and set(details[1]) & set("wax+"):
            where = os.path.realpath(details[0])
            if not where.startswith((str(folder), "/dev/null", tempfile.gettempdir() + "/torchinductor")):
                notes.write(f"wrote {where}\n")
        elif event == "os.mkdir" and not os.path.realpath(details[0]).startswith(str(folder)):
            notes.write(f"wrote {os.path.realpath(details[0])}\n")

    os.chdir(folder)
    sys.argv = ["ganlab", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "0"
    sys.addaudithook(audit)
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def in_a_fork(arguments: list[str], folder: Path) -> int:
    """The process's id."""
    if child := os.fork():
        return child
    try:
        os.setsid()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**30,) * 2)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder.parent / name, os.O_WRONLY | os.O_CREAT), number)
        sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
        run_main(arguments, folder)
    finally:
        os._exit(99)


def load() -> None:
    """Import what every run needs, before the forks."""
    import torch
    from hydra.core.plugins import Plugins

    from ganlab.config import schema
    from ganlab.runs import train  # noqa: F401

    torch.set_num_threads(1)
    Plugins.instance()
    schema.expected_types(Path(conf_folder()))


def as_a_process(arguments: list[str], folder: Path) -> int:
    out, err = ((folder.parent / name).open("w") for name in ("out", "err"))
    command = [sys.executable, "-m", "ganlab", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, start_new_session=True).pid


def wait_for(child: int, limit: float) -> int | None:
    """The exit code (negative: the signal that killed it); None if it still runs."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def outcome(words: list[str], folder: Path, start=in_a_fork, seconds: float = SECONDS) -> tuple[str, str]:
    """("run", ""), ("stopped" or "sentence", the message), or ("violation", which rule was broken)."""
    folder = folder / "a" / "b" / "c"
    folder.mkdir(parents=True)
    child = start([*TINY, *words], folder)
    code, asked = wait_for(child, seconds), False
    if code is None:
        asked = True
        os.kill(child, signal.SIGTERM)
        code = wait_for(child, seconds)
    if code is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "violation", "hangs"
    out, err = ((folder.parent / name).read_text(errors="replace") for name in ("out", "err"))
    notes = (folder.parent / "notes").read_text() if (folder.parent / "notes").exists() else ""
    typed_a_place = re.search(r"dir=|folder|subdir|save_dir|root=|searchpath|path=", " ".join(words))
    typed_a_target = "_target_" in " ".join(words)
    if "executed" in notes and not typed_a_target:
        return "violation", notes.strip()
    if "wrote" in notes and not typed_a_place:
        return "violation", notes.strip()
    if not typed_a_target and list(folder.parents[1].rglob("owned")):
        return "violation", "the argument was executed"
    if any(SECRET in path.read_text(errors="replace") for path in folder.parents[1].rglob("*") if path.is_file()):
        return "violation", f"the secret was written; {err.strip()[-300:]}"
    return classify(code, out, err, asked)


def classify(code: int, out: str, err: str, interrupted: bool) -> tuple[str, str]:
    if "Traceback" in out + err:
        return "violation", "traceback: " + err.strip().splitlines()[-1]
    messages = [line for line in err.splitlines() if line.startswith("ganlab: ")]
    if code == 0 and not messages:
        return "run", ""
    if interrupted and code == 128 + signal.SIGTERM and len(messages) == 1:
        return "stopped", messages[0]
    rest = [line for line in err.splitlines() if line and line not in messages and "Warning: " not in line and line[0] != " "]
    if code == 2 and err.startswith("usage: ganlab") and "Traceback" not in err:  # argparse's message
        return "sentence", err.strip().splitlines()[-1]
    if code == 1 and len(messages) == 1 and not rest and 20 < len(messages[0]) < 1000:
        return "sentence", err[err.index("ganlab: ") :].strip()
    return "violation", f"exit code {code}: {err.strip()[:600]}"


def normalized(sentence: str) -> str:
    """The message without run directories and the ends of long words, so that equal messages compare equal."""
    sentence = re.sub(r"\S*/a/b/c", "HERE", sentence)
    return re.sub(r"(\S{60})\S+", r"\1…", sentence)


def fuzz(lines: list[list[str]], place: Path, start=in_a_fork, seconds: float = SECONDS) -> list[tuple[str, str]]:
    found = []
    for number, words in enumerate(lines):
        found.append(outcome(words, place / str(number), start, seconds))
        shutil.rmtree(place / str(number), ignore_errors=True)
    return found


def run(arguments: list[str]) -> int:
    numbers = [int(word) for word in arguments if word.isdigit()]
    n, seed = [*numbers, *(1000, 0)[len(numbers) :]]
    lines = command_lines(n, seed)
    place = Path(tempfile.mkdtemp(prefix="fuzz-")).resolve()
    (place / "home").mkdir()
    os.environ |= {"WANDB_API_KEY": SECRET, "WANDB_MODE": "disabled", "HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    if "--processes" in arguments:
        start = as_a_process
    else:
        load()
        start = in_a_fork
    found = fuzz(lines, place, start, SECONDS if start is in_a_fork else 5 * SECONDS)  # which load torch first
    shutil.rmtree(place)
    counts = Counter(kind for kind, _ in found)
    print(f"{n} command lines from the seed {seed}, {time.monotonic() - began:.0f} s")
    for kind in ("run", "stopped", "sentence", "violation"):
        print(f"{kind:>10}  {counts[kind]:5}")
    sentences: dict[str, list[str]] = {}
    for (kind, message), words in zip(found, lines, strict=True):
        if kind != "run":
            sentences.setdefault(f"[{kind}] {normalized(message)}", []).append(" ".join(words))
    with open("sentences.txt", "w") as file:
        for message, typed in sorted(sentences.items()):
            file.write(f"{message}\n    {len(typed)}x, e.g. {typed[0]!r:.160}\n")
    for (kind, message), words in zip(found, lines, strict=True):
        if kind == "violation":
            print(f"{words!r:.300}\n    {message}")
    return int(counts["violation"] > 0)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

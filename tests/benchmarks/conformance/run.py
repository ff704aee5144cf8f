"""How many wrong losses and penalties `conformance` finds, of cases that were written without reading its checks.

python tests/benchmarks/conformance/run.py half=dev|locked [jobs=1]

The checks were developed on the dev half alone: names and messages are printed for it, and rates alone for the locked half.
A case is found if a check fails; for the right reason if the message of a failed check contains one of the case's phrases.
"""

import importlib
import json
import sys
import time
from functools import partial
from multiprocessing import Pool
from pathlib import Path

from bench_common import fresh

from ganlab.analysis import conformance
from ganlab.models.conditioning import AuxiliaryClassifier, ClassLabels

FOLDER = Path(__file__).parent
MODULES = ("wrong_losses", "wrong_penalties", "sound_losses", "sound_penalties")
NEEDS = {
    "labels": lambda: {"conditioning": ClassLabels(3)},
    "ac": lambda: {"conditioning": AuxiliaryClassifier(3, 1.0)},
    "pack": lambda: {"pack": 2},
}


def answer(task):
    """(module, claims, right reason, name, failed messages, noticed messages) of a case."""
    module, name = task
    case = next(c for c in importlib.import_module(module).CASES if c.name == name)
    checks = conformance(partial(fresh(case.factory), **NEEDS.get(case.needs, dict)()))
    failed, noticed = ([c for c in checks if c.state == state] for state in ("fail", "notice"))
    phrases = [phrase.lower() for phrase in getattr(case, "right_reason", ())]
    is_right = any(phrase in check.message.lower() for check in failed for phrase in phrases)
    listed = [[f"{c.where}: {c.name}: {c.message}" for c in checks] for checks in (failed, noticed)]
    return module, case.claims, is_right, name, *listed


def main(half, jobs=1):
    split = json.loads((FOLDER / "split.json").read_text())
    tasks = [(module, name) for module in MODULES for name in split[module][half]]
    start = time.perf_counter()
    with Pool(jobs) as pool:
        answers = pool.map(answer, tasks, chunksize=4)
    wrong = [a for a in answers if a[0].startswith("wrong")]
    sound = [a for a in answers if a[0].startswith("sound")]
    found = [a for a in wrong if a[4]]
    print(f"{half} half: {len(wrong)} wrong, {len(sound)} sound cases, {time.perf_counter() - start:.0f} s")
    for title, cases in (
        ("found, with a claim", [a for a in wrong if a[1]]),
        ("found, without a claim", [a for a in wrong if not a[1]]),
    ):
        noticed = sum(bool(a[5]) and not a[4] for a in cases)
        print(f"  {title:24} {rate(sum(bool(a[4]) for a in cases), len(cases))}, {noticed} more only noticed")
    print(f"  {'for the right reason':24} {rate(sum(a[2] for a in found), len(found))} of those found")
    print(f"  {'false alarms':24} {rate(sum(bool(a[4]) for a in sound), len(sound))} of the sound ones")
    print(f"  {'noticed':24} {rate(sum(bool(a[5]) for a in sound), len(sound))} of the sound ones")
    if half == "dev":
        groups = {
            "missed": [a for a in wrong if not a[4]],
            "found for another reason": [a for a in found if not a[2]],
            "false alarms": [a for a in sound if a[4]],
        }
        for title, cases in groups.items():
            print(f"\n{title} ({len(cases)})")
            for module, claims, _, name, failed, noticed in cases:
                print(f"  {module}.{name}{'' if claims else ' (no claim)'}")
                for message in [f"fails: {m}" for m in failed] + [f"noticed: {m}" for m in noticed]:
                    print(f"      {message[:400]}")


def rate(k, n):
    return f"{k:3d} of {n:3d} = {k / max(n, 1):6.1%}"


if __name__ == "__main__":
    options = dict(argument.split("=") for argument in sys.argv[1:])
    main(options["half"], int(options.get("jobs", 1)))

"""`python tests/benchmarks/calibration [out=calibration] [data_dir=data] [install=false]`

Trains what is missing of the suite in `out/runs`, chooses the thresholds on one half, and writes how often the verdicts are
right on the other: calibration.md, calibration.csv, thresholds.json. `install=true` makes these thresholds ganlab's own.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console

from calibration.choose import choose
from calibration.collect import collect, file_of
from calibration.suite import settings
from calibration.tables import mistakes, rates, write
from calibration.truth import outcomes
from ganlab.cli.options import option, parse_options
from ganlab.diagnostics import rules
from ganlab.utils.files import write_json
from ganlab.utils.library_warnings import silence_library_warnings


@dataclass
class CalibrateOptions:
    out: str = option("calibration", "directory to write to")
    data_dir: str = option("data", "where data sets are kept")
    install: bool = option(False, "make the chosen thresholds ganlab's own")


def main(words: list[str]) -> None:
    options = parse_options(CalibrateOptions, words)
    folder, console = Path(options.out), Console(highlight=False)
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    silence_library_warnings()
    files = []
    for setting in settings():
        files.append(file_of(setting, folder / "runs"))
        if not files[-1].exists():
            started = time.perf_counter()
            collect(setting, folder / "runs", options.data_dir)
            console.print(f"{setting.half:7} {setting.name:45} {time.perf_counter() - started:5.0f} s")
    runs = [run for file in files for run in outcomes(json.loads(file.read_text()))]
    halves = {half: [run for run in runs if run.half == half] for half in ("choose", "judge")}
    limits = choose(halves["choose"])
    about = (
        f"Thresholds from {len(halves['choose'])} runs of {len({r.setting for r in halves['choose']})} settings; rates on "
        f"{len(halves['judge'])} runs of {len({r.setting for r in halves['judge']})} other settings, with other seeds. "
        "Wilson intervals at 95 %, which take runs for independent though seeds share settings."
    )
    write(folder, rates(halves["judge"], limits), mistakes(halves["judge"], limits), about)
    card = {"date": datetime.date.today().isoformat(), "runs": len(runs), "thresholds": limits}
    write_json(folder / "thresholds.json", card)
    if options.install:
        write_json(Path(rules.__file__).parent / "thresholds.json", card)
    console.print((folder / "calibration.md").read_text(), soft_wrap=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"ganlab: {error}")

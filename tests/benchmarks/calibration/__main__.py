"""Calibrate the thresholds of the verdicts, and measure how often the verdicts are right.

    python tests/benchmarks/calibration [out=calibration] [data_dir=data] [install=false]

Trains the settings that `out/runs` lacks, chooses thresholds on one half of them, and measures error rates on the other:
calibration.md, calibration.csv, thresholds.json. `install=true` copies the thresholds into ganlab/diagnostics.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console

from calibration.collect import collect, result_file
from calibration.settings import all_settings
from calibration.tables import error_rates, mistakes, write_tables
from calibration.thresholds import choose_thresholds
from calibration.truth import outcomes
from ganlab.diagnostics import rules
from ganlab.utils.files import write_json
from ganlab.utils.library_warnings import silence_library_warnings


def read_options(arguments: list[str]) -> dict[str, str]:
    options = {"out": "calibration", "data_dir": "data", "install": "false"}
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if unknown := given.keys() - options.keys():
        sys.exit(f"calibration: unknown option {', '.join(sorted(unknown))}\n\n{__doc__}")
    return options | given


def main(arguments: list[str]) -> None:
    options = read_options(arguments)
    out, console = Path(options["out"]), Console(highlight=False)
    (out / "runs").mkdir(parents=True, exist_ok=True)
    silence_library_warnings()
    files = []
    for setting in all_settings():
        files.append(result_file(setting, out / "runs"))
        if not files[-1].exists():
            started = time.perf_counter()
            collect(setting, out / "runs", options["data_dir"])
            console.print(f"{setting.half:4} {setting.name:45} {time.perf_counter() - started:5.0f} s")
    runs = [run for file in files for run in outcomes(json.loads(file.read_text()))]
    fit, test = ([run for run in runs if run.half == half] for half in ("fit", "test"))
    thresholds = choose_thresholds(fit)
    protocol = (
        f"Thresholds from {len(fit)} runs of {len({run.setting for run in fit})} settings; error rates on {len(test)} runs of "
        f"{len({run.setting for run in test})} other settings with other seeds. Wilson intervals at 95 %, which treat runs as "
        "independent although seeds share a setting."
    )
    write_tables(out, error_rates(test, thresholds), mistakes(test, thresholds), protocol)
    result = {"date": datetime.date.today().isoformat(), "runs": len(runs), "thresholds": thresholds}
    write_json(out / "thresholds.json", result)
    if options["install"] == "true":
        write_json(Path(rules.__file__).parent / "thresholds.json", result)
    console.print((out / "calibration.md").read_text(), soft_wrap=True)


if __name__ == "__main__":
    main(sys.argv[1:])

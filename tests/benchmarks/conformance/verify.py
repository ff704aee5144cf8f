"""Build every case, and run its evidence or check: python verify.py [module ...]"""

import importlib
import sys
import time
import traceback

from bench_common import build

for module in sys.argv[1:] or ["wrong_losses", "wrong_penalties", "sound_losses", "sound_penalties"]:
    start, bad = time.time(), 0
    cases = importlib.import_module(module).CASES
    assert len({c.name for c in cases}) == len(cases), [c.name for c in cases if [d.name for d in cases].count(c.name) > 1]
    for case in cases:
        try:
            build(
                case.factory,
                (1, 8, 8) if case.needs == "images" else (2,),
                case.needs if case.needs in ("labels", "ac") else "",
                pack=2 if case.needs == "pack" else 1,
            )
            proof = case.evidence() if hasattr(case, "evidence") else case.check()
            assert proof
        except Exception as e:
            bad += 1
            print("BAD", module, case.name, type(e).__name__, str(e)[:400])
            if "-v" in sys.argv:
                traceback.print_exc()
    print(f"{module}: {len(cases)} cases, {bad} bad, {sum(c.claims for c in cases)} claim, {time.time() - start:.1f} s")

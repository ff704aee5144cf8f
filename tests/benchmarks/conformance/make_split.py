"""Write split.json: the case names of each file, shuffled with random.Random(20261130), in two halves."""

import importlib
import json
import pathlib
import random

split = {}
for module in ("wrong_losses", "wrong_penalties", "sound_losses", "sound_penalties"):
    names = [case.name for case in importlib.import_module(module).CASES]
    random.Random(20261130).shuffle(names)
    half = len(names) // 2
    split[module] = {"dev": names[:half], "locked": names[half:]}
pathlib.Path(__file__).with_name("split.json").write_text(json.dumps(split, indent=1))

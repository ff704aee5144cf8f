"""An ensemble in parts: one clock, one table, one summary; and tables that are whole or not there."""

import csv
import json
import statistics

import pytest

from ganlab.report.runs import find_runs
from ganlab.runs.parts import in_one_time, merge, part_folders
from ganlab.utils.files import write_csv

NAME = "quality/kl"


def rows(seeds, times, values=None):
    return [
        {"images_seen": str(at), "seconds": str(time), "seed": str(seed), "status": "training", NAME: str((values or {}).get(seed, 1.0))}
        for at, time in times
        for seed in seeds
    ]  # fmt: skip


def part(folder, seeds, times, values, speed, training):
    path = folder / f"seeds_{seeds[0]}-{seeds[-1]}"
    path.mkdir(parents=True)
    write_csv(path / "seeds.csv", rows(seeds, times, values))
    (path / "samples.png").write_bytes(str(seeds[0]).encode())
    summary = {
        "seeds": list(seeds), "failed_seeds": [], "objective": {"name": NAME, "value": 0.0, "best": min(values.values())},
        "seconds": {"total": training + 5.0, "training": training}, "images_per_second": speed, "memory_bytes": 10 * seeds[0],
    }  # fmt: skip
    (path / "summary.json").write_text(json.dumps(summary))
    return summary


def test_the_wall_time_of_a_look_is_that_of_all_parts(tmp_path):
    """5 + 7 seconds at the first look; the part that failed after it keeps its 7 in the second."""
    found = in_one_time([rows((1, 2), ((100, 5), (200, 9))), rows((3,), ((100, 7),))])
    assert {(int(row["seed"]), int(row["images_seen"])): row["seconds"] for row in found} == {
        (1, 100): 12, (2, 100): 12, (3, 100): 12, (1, 200): 16, (2, 200): 16,
    }  # fmt: skip


def test_a_part_without_one_finite_objective_is_merged(tmp_path):
    """Infinity is null in its summary."""
    values = {1: 0.1, 2: 0.2}
    parts = [part(tmp_path, (seed,), ((100, 10),), values, speed=1.0, training=1.0) for seed in values]
    parts[1]["objective"]["best"] = None
    assert merge(tmp_path, parts, failed=[])["objective"]["best"] == 0.1


def test_parts_are_merged(tmp_path):
    """Medians over all seeds, times added, images per second over the time in which they were trained."""
    values = {1: 0.1, 2: 0.2, 3: 0.9, 4: 0.7, 5: 0.3}
    summaries = [
        part(tmp_path, (1, 2, 3), ((100, 10), (200, 20)), values, speed=300.0, training=20.0),
        part(tmp_path, (4, 5), ((100, 6), (200, 12)), values, speed=100.0, training=60.0) | {"ended_by": "EXPLODING"},
    ]
    summary = merge(tmp_path, summaries, failed=[])
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["objective"] == {"name": NAME, "value": statistics.median(values.values()), "best": 0.1}
    assert summary["seconds"] == {"total": 25 + 65, "training": 80}
    assert summary["images_per_second"] == pytest.approx((300 * 20 + 100 * 60) / 80)
    assert (summary["seeds"], summary["memory_bytes"], summary["parts"]) == ([1, 2, 3, 4, 5], 40, 2)
    assert summary["ended_by"] == "EXPLODING"
    with (tmp_path / "seeds.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["images_seen"], row["seed"], row["seconds"]) for row in table[:6]] == [
        ("100", "1", "16.0"), ("100", "2", "16.0"), ("100", "3", "16.0"), ("100", "4", "16.0"), ("100", "5", "16.0"),
        ("200", "1", "32.0"),
    ]  # fmt: skip
    (run,) = find_runs([tmp_path])
    assert (run.together, run.is_ensemble, run.pictured) == (3, True, [1, 2, 3])
    assert run.seeds[4].seconds == [16, 32]


def test_a_part_of_which_nothing_is_left_cost_its_time_too(tmp_path):
    values = {5: 0.1, 6: 0.2, 11: 0.3}
    failed = part(tmp_path, (5, 6), ((100, 10),), values, speed=1.0, training=10.0)
    (tmp_path / "seeds_5-6" / "summary.json").unlink()
    kept = part(tmp_path, (11,), ((100, 4),), values, speed=2.0, training=4.0)
    summary = merge(tmp_path, [kept], failed=failed["seeds"])
    assert summary["seconds"]["total"] == kept["seconds"]["total"] + 10
    assert summary["failed_seeds"] == [5, 6]
    assert (tmp_path / "samples.png").read_bytes() == b"11"  # not of a part that failed


def test_parts_come_in_the_order_in_which_they_were_trained(tmp_path):
    """5-10 before 11-16, which a sort by name would turn round."""
    for name in ("seeds_11-16", "seeds_5-10", "seeds_of_another", "samples"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "seeds.csv").write_text("")
    assert [path.name for path in part_folders(tmp_path)] == ["seeds_5-10", "seeds_11-16"]


def test_a_table_has_every_rows_columns_and_is_whole_or_not_there(tmp_path):
    path = tmp_path / "table.csv"
    write_csv(path, [{"a": 1, "b": "x,y"}, {"c": 2.5, "a": None}])
    assert path.read_text() == 'a,b,c\n1,"x,y",\n,,2.5\n'
    with pytest.raises(TypeError):
        write_csv(path, [{"a": 1}, 7])
    assert path.read_text().startswith("a,b,c") and [p.name for p in tmp_path.iterdir()] == ["table.csv"]

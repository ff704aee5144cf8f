"""The place of conf/."""

from pathlib import Path


def conf_folder() -> str:
    """The directory conf/: inside the installed package, or beside it in a clone."""
    here = Path(__file__).resolve().parents[1]
    return str(next(c for c in (here / "conf", here.parent / "conf") if (c / "config.yaml").exists()))

"""torchvision's downloads, made to fail soon and in words."""

import socket
from http.client import HTTPException
from pathlib import Path

from torchvision.datasets import VisionDataset

SILENCE = 20  # seconds without an answer after which a network counts as absent; torchvision would wait for ever


def download(source: type[VisionDataset], data_dir: Path, tried: str, ways_out: list[str]) -> None:
    """Let `source` download itself into `data_dir`.

    Raises FileNotFoundError that says what was `tried` before, why the download failed, and the `ways_out`.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        source(data_dir, train=False, download=True)  # fetches both splits, reads the small one
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())
        choices = "".join(f"\n  - {way}" for way in [*ways_out, "connect to the network and run again"])
        raise FileNotFoundError(f"{tried}, and the download failed ({reason}). Ways out:{choices}") from None
    finally:
        socket.setdefaulttimeout(before)

"""Downloads through torchvision, with a timeout and an error message that names the remedies."""

import socket
from http.client import HTTPException
from pathlib import Path

from torchvision.datasets import VisionDataset

TIMEOUT = 20  # seconds without an answer; torchvision would wait for ever


def download(source: type[VisionDataset], data_dir: Path, problem: str, remedies: list[str]) -> None:
    """Download a torchvision data set into `data_dir`.

    Args:
        problem: why the files at hand do not suffice; the error message begins with it.
        remedies: what the user can do if the download fails.

    Raises:
        FileNotFoundError: the download failed.
    """
    default_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        source(data_dir, train=False, download=True)  # fetches both splits, reads the small one
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())
        choices = "".join(f"\n  - {remedy}" for remedy in [*remedies, "connect to the network and run again"])
        raise FileNotFoundError(f"{problem}, and the download failed ({reason}). Either:{choices}") from None
    finally:
        socket.setdefaulttimeout(default_timeout)

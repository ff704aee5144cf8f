"""All that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import logging
import random
import signal
import threading
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ganlab.callbacks.evaluation import Evaluation
from ganlab.callbacks.periodic import Periodic, find_callback
from ganlab.utils import slurm
from ganlab.utils.files import atomic_torch_save

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
OF_CLUSTERS = (signal.SIGUSR1, signal.SIGUSR2)  # Slurm's, if --signal=USR1@SECONDS asks for it, and submitit's
PENDING_SIGNALS: list[int] = []  # signals that came too late to stop their run
ASK_EVERY = 16  # batches between two agreements of several processes about a signal that may have reached one of them


class Interrupted(Exception):
    """The run was asked to stop and has saved itself. `signal`: by which signal."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


class Checkpoints(Periodic):
    """`checkpoints/last.ckpt` at each look, and `best.ckpt` before it when the quality's objective improved.

    Stands last, so that a checkpoint holds what every other callback did at the same look. Beside Lightning's own
    (weights, optimizers, schedules, loops, callbacks) it holds the random states of all processes; the place in the
    data is the data module's.

    On SIGTERM, and on the first Ctrl-C, the batch is finished, last.ckpt is written and `Interrupted` raised; a second
    Ctrl-C stops at once. On SIGUSR1 in a Slurm job, and on the signal that submitit listens to, the job is then queued
    again; on SIGTERM a Slurm job saves and trains on, since Slurm ends it by itself and may start it again.

    Raises:
        OSError: the checkpoint cannot be written; the last one stays as it was.
        ValueError: the processes of the run do not have the same folder.
    """

    def __init__(self, every: int, folder: str):
        super().__init__(every)
        self.folder = Path(folder) / "checkpoints"
        self._random: list[dict] | None = None
        self._signal: int | None = None
        self._handlers: dict[int, object] = {}

    def setup(self, trainer, gan, stage):
        folders = sorted({*of_all_processes(str(self.folder.resolve().parent))})
        if len(folders) > 1:
            raise ValueError(
                f"the processes of this run have different folders ({', '.join(folders)}); give all of them the same "
                "hydra.run.dir=FOLDER"
            )

    def run(self, trainer, gan):
        quality = find_callback(trainer, Evaluation)
        measured = quality is not None and quality.last_run_at == gan.images_seen  # at this look, which may be one of more
        if measured and quality.improved:  # first: a kill in between repeats this look, and writes it again
            self._save(trainer, "best.ckpt")
        self._save(trainer, "last.ckpt")

    def _save(self, trainer, name: str) -> None:
        for logger in trainer.loggers:
            logger.save()  # a checkpoint that outlives a power cut has its rows
        trainer.save_checkpoint(self.folder / name)

    def on_save_checkpoint(self, trainer, gan, checkpoint):
        checkpoint["random"] = of_all_processes(random_state())

    def on_load_checkpoint(self, trainer, gan, checkpoint):
        self._random = checkpoint["random"]

    def on_train_start(self, trainer, gan):
        super().on_train_start(trainer, gan)
        if self._random is not None:
            set_random_state(self._random[trainer.global_rank % len(self._random)])
            self._random = None
        self._signal = None
        PENDING_SIGNALS.clear()
        if threading.current_thread() is threading.main_thread():
            requeueing = [
                n for n in OF_CLUSTERS if by_submitit(signal.getsignal(n)) or (slurm.job_id() and n == signal.SIGUSR1)
            ]
            self._handlers = {number: signal.signal(number, self._asked_to_stop) for number in (*SIGNALS, *requeueing)}

    def _asked_to_stop(self, number, frame):
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        super().on_train_batch_end(trainer, gan, outputs, batch, batch_idx)
        number = self._signal
        if trainer.world_size > 1:
            number = agreed(number, gan.device) if batch_idx % ASK_EVERY == 0 else None
        if number is not None:
            gan.check_finite()
            self._save(trainer, "last.ckpt")
            said = f"stopped by {signal.Signals(number).name} at {gan.images_seen:,} images, and saved"
            if number == signal.SIGTERM and slurm.job_id():
                if trainer.is_global_zero:
                    log.info(f"saved at {gan.images_seen:,} images on SIGTERM; trains on until Slurm ends the job")
                self._signal = None
                return
            if number in OF_CLUSTERS:
                if by_submitit(handler := self._handlers[number]):
                    handler(number, None)  # leaves by SystemExit in the process that queues the job again
                elif trainer.is_global_zero:
                    said += f"; {slurm.requeue()}"
            raise Interrupted(said, number)

    def on_train_end(self, trainer, gan):
        super().on_train_end(trainer, gan)
        if self._signal is not None:
            PENDING_SIGNALS.append(self._signal)  # it came in the last looks, when nothing was left to stop

    def teardown(self, trainer, gan, stage):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def reraise_pending_signal() -> None:
    """A signal that came in the last looks of a run, which then ended as if nothing had been, ends what comes after it."""
    if PENDING_SIGNALS:
        signal.raise_signal(PENDING_SIGNALS.pop())


def by_submitit(handler) -> bool:
    return str(getattr(handler, "__module__", "")).startswith("submitit.")


class WholeCheckpoints(TorchCheckpointIO):
    """A checkpoint file is whole or not there: written beside its name, then renamed."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        try:
            atomic_torch_save(Path(path), checkpoint)
        except OSError as error:
            raise OSError(f"the checkpoint {path} cannot be written ({error}); the one before it stays as it was") from error


def random_state() -> dict:
    """Of everything that draws random numbers in this process, in types that load without pickle."""
    version, words, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "python": [version, list(words), gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
    }


def set_random_state(state: dict) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))


def of_all_processes(state) -> list:
    if not (dist.is_available() and dist.is_initialized()):
        return [state]
    states: list = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states


def agreed(number: int | None, device: torch.device) -> int | None:
    """The signal that any of the processes had."""
    highest = torch.tensor(number or 0, device=device)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return int(highest) or None

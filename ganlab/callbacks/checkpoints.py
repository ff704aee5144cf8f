"""Checkpoints from which a run resumes bit for bit, also after a signal."""

import logging
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ganlab.callbacks.evaluation import Evaluation
from ganlab.callbacks.periodic import Periodic, find_callback
from ganlab.utils import slurm
from ganlab.utils.errors import Interrupted
from ganlab.utils.files import atomic_torch_save

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
REQUEUE_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)  # from Slurm, if asked for by --signal=USR1@SECONDS, and from submitit
SIGNAL_SYNC_EVERY = 16  # batches between two all-reduces of the signals that the processes of a run have received


class Checkpoints(Periodic):
    """Write `checkpoints/last.ckpt` at each evaluation, and before it `best.ckpt` if the objective improved.

    Must be the last callback, so that a checkpoint holds what the others did at the same evaluation. Adds the random states
    of all processes to what Lightning saves; the position in the data is saved by the data module.

    On SIGTERM and on the first Ctrl-C the run finishes its batch, writes last.ckpt and raises `Interrupted`; a second Ctrl-C
    stops at once. On SIGUSR1 in a Slurm job, and on submitit's signal, it also requeues the job. In a Slurm job, SIGTERM only
    saves and training continues: Slurm ends the job itself, and may restart it.

    A callback that fails between two batches ends the run, which is saved first (with one process only: several would have to
    fail together). Its own call is due again when the run is resumed.

    `pending_signal`: one that arrived and has not been acted on, for example during the last evaluation; else None.

    Raises:
        OSError: the checkpoint cannot be written; the previous one is kept.
        ValueError: the processes of the run have different run directories.
    """

    def __init__(self, every: int, run_dir: str):
        super().__init__(every)
        self.run_dir = Path(run_dir)
        self.pending_signal: int | None = None
        self._has_trained = False  # in this process
        self._random_states: list[dict] | None = None
        self._replaced_handlers: dict[int, Callable] = {}

    def setup(self, trainer, gan, stage):
        run_dirs = sorted({*gather_objects(str(self.run_dir.resolve()))})
        if len(run_dirs) > 1:
            raise ValueError(
                f"the processes of this run have different run directories ({', '.join(run_dirs)}); give all of them the "
                "same hydra.run.dir=DIR"
            )

    def run(self, trainer, gan):
        evaluation = find_callback(trainer, Evaluation)
        # best.ckpt first: a run killed in between resumes from the previous last.ckpt and writes both again
        if evaluation is not None and evaluation.last_run_at == gan.images_seen and evaluation.improved:
            self._save(trainer, "best.ckpt")
        self._save(trainer, "last.ckpt")

    def _save(self, trainer, name: str) -> None:
        for logger in trainer.loggers:
            logger.save()  # the rows before a checkpoint must be on the disk before it is
        trainer.save_checkpoint(self.run_dir / "checkpoints" / name)

    def on_train_batch_start(self, trainer, gan, batch, batch_idx):
        self._has_trained = True

    def on_exception(self, trainer, gan, exception):
        if not isinstance(exception, Exception) or isinstance(exception, (Interrupted, FloatingPointError)):
            return
        if trainer.world_size > 1 or not self._has_trained:
            return
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        if progress.processed > progress.completed or trainer.fit_loop.done:  # in a step, one network is ahead of the other
            with suppress(Exception):  # the first error is the one to report; a non-finite loss is not saved
                gan.check_finite()
                self._save(trainer, "last.ckpt")

    def on_save_checkpoint(self, trainer, gan, checkpoint):
        checkpoint["random_states"] = gather_objects(random_state())

    def on_load_checkpoint(self, trainer, gan, checkpoint):
        self._random_states = checkpoint["random_states"]

    def on_train_start(self, trainer, gan):
        super().on_train_start(trainer, gan)
        if self._random_states is not None:
            if trainer.global_rank < len(self._random_states):  # of more processes than before, the new ones keep their seeds
                set_random_state(self._random_states[trainer.global_rank])
            self._random_states = None
        self.pending_signal = None
        if threading.current_thread() is threading.main_thread():
            requeue = [
                number
                for number in REQUEUE_SIGNALS
                if is_submitit_handler(signal.getsignal(number)) or (slurm.job_id() and number == signal.SIGUSR1)
            ]
            self._replaced_handlers = {n: signal.signal(n, self._handle_signal) for n in (*STOP_SIGNALS, *requeue)}

    def _handle_signal(self, number, frame):
        if self.pending_signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.pending_signal = number

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        super().on_train_batch_end(trainer, gan, outputs, batch, batch_idx)
        number = self.pending_signal or 0
        if trainer.world_size > 1:
            if batch_idx % SIGNAL_SYNC_EVERY:
                return
            number = int(trainer.strategy.reduce(torch.tensor(number, device=gan.device), reduce_op="max"))
        if number:
            gan.check_finite()
            trainer._logger_connector.update_train_step_metrics()  # of `self.log`; Lightning would log them after the callbacks
            self._save(trainer, "last.ckpt")
            self._stop_or_continue(trainer, gan, number)

    def _stop_or_continue(self, trainer, gan, number: int) -> None:
        if number == signal.SIGTERM and slurm.job_id():
            if trainer.is_global_zero:
                log.info(f"saved at {gan.images_seen:,} images on SIGTERM; training continues until Slurm ends the job")
            self.pending_signal = None
            return
        message = f"stopped by {signal.Signals(number).name} at {gan.images_seen:,} images, and saved"
        if number in REQUEUE_SIGNALS:
            if is_submitit_handler(handler := self._replaced_handlers[number]):
                handler(number, None)  # requeues in one process, which leaves by SystemExit
            elif trainer.is_global_zero:
                message += f"; {slurm.requeue()}"
        raise Interrupted(message, number)

    def teardown(self, trainer, gan, stage):
        for number, handler in self._replaced_handlers.items():
            signal.signal(number, handler)
        self._replaced_handlers = {}


def is_submitit_handler(handler) -> bool:
    return str(getattr(handler, "__module__", "")).startswith("submitit.")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its name, then rename it: a file of that name is always complete."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        try:
            atomic_torch_save(Path(path), checkpoint)
        except OSError as error:
            raise OSError(f"the checkpoint {path} cannot be written ({error}); the previous one is kept") from error


def random_state() -> dict:
    """The states of torch's, Python's and NumPy's generators in this process, in types that load with `weights_only`."""
    version, words, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)
    key = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "python": [version, list(words), gauss],
        "numpy": numpy | {"state": numpy["state"] | {"key": key}},
    }


def set_random_state(state: dict) -> None:
    """Restore what `random_state` returned."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    numpy = state["numpy"]
    key = numpy["state"]["key"].cpu().numpy().astype(np.uint32)
    np.random.set_state(numpy | {"state": numpy["state"] | {"key": key}})


def gather_objects(value) -> list:
    """The value of every rank, in order (`all_gather_object`)."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values

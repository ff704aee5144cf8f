"""What a run can do without (pictures, tables, loggers …): its first error is logged and switches it off; training goes on."""

import logging
import os
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType

from lightning.pytorch.loggers.logger import DummyLogger

from ganlab.utils.errors import describe_error

log = logging.getLogger(__name__)

SETUP_HOOKS = ("setup", "on_fit_start", "on_train_start")


def attempt(name: str, call: Callable, *args) -> None:
    """Call it; an error is logged in one sentence and not raised."""
    try:
        call(*args)
    except Exception as error:
        _warn(f"{name} failed ({describe_error(error)})")


def _warn(message: str) -> None:
    log.warning(message, exc_info=os.environ.get("HYDRA_FULL_ERROR") == "1")


class Extra:
    """Stands for a callback that a run can do without, one with `extra = True`; `isinstance` sees the class of that callback.

    The first exception of one of its methods is logged, and from then on the methods do nothing. Still raised are a ValueError
    at the start of training, which refuses a setting; FloatingPointError, which is about the run's own losses; and any error
    of a callback whose `collective` is true in a run of several processes, because the others would wait for this one.

    Attributes:
        name_in_config: its key in the configuration.
        error: why it was switched off; None while it works.
    """

    def __init__(self, wrapped: object, name: str):
        self._wrapped, self.name_in_config = wrapped, name
        self.error: str | None = None

    @property  # type: ignore[misc]
    def __class__(self):
        return type(self._wrapped)

    def __getattr__(self, name: str):
        value = getattr(object.__getattribute__(self, "_wrapped"), name)
        if isinstance(value, (MethodType, FunctionType)):
            value = self.__dict__[name] = partial(self._call, name)  # kept: Lightning calls ten hooks in each batch
        return value

    def _call(self, name: str, *args, **kwargs):
        if self.error is not None and name != "state_dict":
            return None
        try:
            return getattr(self._wrapped, name)(*args, **kwargs)
        except Exception as error:
            if self._must_raise(name, error, args):
                raise
            self._switch_off(error)

    def _must_raise(self, name: str, error: Exception, args: tuple) -> bool:
        refuses = isinstance(error, ValueError) and name in SETUP_HOOKS
        others_wait = getattr(self._wrapped, "collective", False) and args and args[0].world_size > 1
        return refuses or others_wait or isinstance(error, FloatingPointError)

    def _switch_off(self, error: Exception) -> None:
        if self.error is None:
            self.error = describe_error(error)
            _warn(f"{self.name_in_config} failed and is switched off ({self.error}); the run goes on without it")


class ExtraLogger(Extra):
    """Stands for a logger: its steps are the real images seen, whoever logs; once switched off it is a `DummyLogger`.

    Lightning and its callbacks count batches, which in a plot beside ganlab's numbers would be another axis. The errors of a
    logger whose `required` is true are raised.
    """

    def __init__(self, wrapped, name: str, gan):
        super().__init__(wrapped, name)
        self._gan = gan

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except Exception as error:  # `experiment` connects to a server
            is_missing = isinstance(error, AttributeError) and not hasattr(type(self._wrapped), name)
            if is_missing or self._must_raise(name, error, ()):
                raise
            self._switch_off(error)
            return getattr(self._wrapped, name)

    def log_metrics(self, metrics, step=None) -> None:
        """Log at the images seen. Lightning adds an `epoch`, which is 0 throughout a run."""
        if row := {name: value for name, value in metrics.items() if name != "epoch" or type(value) is not int}:
            self._call("log_metrics", row, step=self._gan.images_seen)

    def _must_raise(self, name, error, args):
        return getattr(self._wrapped, "required", False)

    def _switch_off(self, error):
        super()._switch_off(error)
        self._wrapped = DummyLogger()


def failed_extras(parts) -> dict[str, str]:
    """Key in the configuration -> error, of the callbacks and loggers that were switched off."""
    return {part.name_in_config: part.error for part in parts if isinstance(part, Extra) and part.error is not None}

"""Turn an exception into one sentence: what is wrong, and what to type."""

import errno
import re
from pathlib import Path

from hydra.errors import InstantiationException, MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationKeyError

from ganlab.config import suggestions
from ganlab.config.paths import conf_folder
from ganlab.utils.errors import describe_error, line_in_user_code

DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
MAX_LENGTH = 600  # characters of a sentence
TRANSLATIONS = {  # the start of a message of Python, torch, Lightning or Hydra: the sentence in its place
    r".*?(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'": (
        r"\1 has no setting \2; correct its name, or leave it out (with ~ before its whole key where a preset brings it)"
    ),
    r"Can't instantiate abstract class (\w+) (?:with|without an implementation for) abstract methods? '?(\w+)": (
        r"\1 does not define the method \2; write it"
    ),
    r".*?(\w+)(?:\.__init__)?\(\) missing .* arguments?: '(params|optimizer)'": (
        r"\1 is called when training starts, with the \2; write _partial_: true beside its _target_"
    ),
    r".*?(\w+)(?:\.__init__)?\(\) missing .* arguments?: (.*)": r"\1 needs a setting for \2",
    r"all elements of input should be between 0 and 1": (
        "a loss takes probabilities and got logits, which is what D returns; use torch's binary_cross_entropy_with_logits"
    ),
    r".*DefaultCPUAllocator: .*tried to allocate (\d+) bytes": (
        r"the memory does not hold \1 bytes more; choose smaller numbers, for example for data.batch_size, seeds, n or rows"
    ),
    r"A worker process managed by the executor was unexpectedly terminated|A worker died|Job \S+ .*has not produced any out": (
        "a job's process ended without a message (killed, or out of memory); python -m ganlab resume=SWEEP_DIR continues"
    ),
    r"No trials are completed yet": "no trial of the search has a value; search other settings (the reasons are above)",
    r".*gloo/transport/": "another process of this run ended and says why; python -m ganlab resume=latest continues",
    r"Invalid learning rate: (\S+)": (
        r"a learning rate must be at least 0, got \1; correct optimizer.generator.lr or optimizer.discriminator.lr"
    ),
    r"No supported gpu backend found!": "there is no GPU here; trainer=auto takes what there is",
    r"Ambiguous value for argument '(.+?)'\n": r"\1 has several values; -m runs one after another, and [1,2] is a list",
    r"Could not override '\w+'\. No match in the defaults list\..* use \+(\w+)=(.*)": (
        r"no \1 is chosen by default, so one is added with a plus: +\1=\2"
    ),
}
TRANSLATIONS |= {
    rf"(\S*\b{hook})\(\) takes .* given": rf"\1 cannot be called; write {signature}, or without self below @staticmethod"
    for hook, signature in suggestions.LOSS_SIGNATURES.items()
}


def explain(error: Exception) -> str:
    """One sentence; the line of the user's own code where the error arose, if it did; how to see the traceback."""
    instantiation = ""
    while isinstance(error, InstantiationException) and isinstance(error.__cause__, Exception):
        instantiation = instantiation or str(error)
        error = error.__cause__
    sentence = " ".join((_translate(error) or _of_hydra(error) or _of_python(error, instantiation)).split())
    if len(sentence) > MAX_LENGTH:
        sentence = f"{sentence[: MAX_LENGTH // 2]} … {sentence[-MAX_LENGTH // 2 :]}"
    if own := line_in_user_code(error):
        sentence += f"\n  in {own.filename}, line {own.lineno}: {own.line}"
    return f"{sentence}\n  (HYDRA_FULL_ERROR=1 shows the whole traceback)"


def _translate(error: Exception) -> str | None:
    message = str(error).strip()
    if type(error).__name__ == "OutOfMemoryError":  # of torch, which is not loaded for a typo
        return f"the device's memory is full ({message.partition(chr(10))[0]}); halve data.batch_size, or seeds"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full ({message}); free some space and continue with python -m ganlab resume=latest"
    if isinstance(error, OSError) and error.filename and error.errno in DENIED:
        return f"{error.filename} cannot be opened ({error.strerror}); choose another directory with hydra.run.dir=DIR"
    if missing := re.match(r"Error loading '([\w.]+)':\s*ModuleNotFoundError", message):
        return suggestions.unknown_target(missing[1])
    for pattern, sentence in TRANSLATIONS.items():
        if match := re.match(pattern, message, re.DOTALL):
            return match.expand(sentence)
    return None


def _of_hydra(error: Exception) -> str | None:
    """The sentence for an error of Hydra or OmegaConf; None for others."""
    if not type(error).__module__.startswith(("hydra", "omegaconf")):
        return None
    conf, message = Path(conf_folder()), re.sub(r"\n\s*(full_key|object_type)[:=].*", "", str(error).strip())
    if isinstance(error, MissingConfigException):
        return suggestions.unknown_choice(error.missing_cfg_file or "", error.options or (), conf)
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} cannot be read; type KEY=VALUE, and quote a VALUE that is not plain: 'name=\"a b\"'"
    if key := re.match(r"Could not override '(.+)'\.", message):
        return suggestions.unknown_key(key[1], conf)
    if isinstance(error, InterpolationKeyError) and (needs := re.match(r"Interpolation key '(.+)' not found", message)):
        return suggestions.unresolved_key(str(error.full_key), needs[1])
    if missing := re.search(r"Missing mandatory value: ([\w.]+)", message):
        return f"{missing[1]} has no value (???); give it one"
    if "while resolving interpolation: " in message:
        return f"{getattr(error, 'full_key', '')} cannot be resolved: {message.partition('interpolation: ')[2]}"
    if message.startswith("Error merging override"):
        message += f" ({str(error.__cause__).partition(chr(10))[0]})"
    return message or type(error).__name__


def _of_python(error: Exception, instantiation: str) -> str:
    sentence, target = describe_error(error), re.search(r"Error in call to target '(\S+)'", instantiation)
    if target is None or isinstance(error, (ValueError, OSError, ArithmeticError)):
        return sentence
    return f"{target[1].rpartition('.')[2]} cannot be built with these settings ({sentence})"

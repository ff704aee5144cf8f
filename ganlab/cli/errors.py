"""What went wrong, in one sentence."""

from __future__ import annotations

import errno
import re
import traceback
from pathlib import Path

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from ganlab.config import suggestions
from ganlab.config.paths import conf_folder
from ganlab.config.suggestions import LOSS_SIGNATURES
from ganlab.utils.tracebacks import line_in_user_code

DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
LONGEST = 600  # characters of a sentence
OTHER_WORDS = (  # what Python, Lightning and Hydra say, and the same as one sentence with the way out
    (
        r"(?:.*?)(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'",
        r"\1 has no setting \2; correct its name, or leave it out (with ~ before its whole key where a preset brings it)",
    ),
    (
        r"Can't instantiate abstract class (\w+) (?:with|without an implementation for) abstract methods? '?(\w+)",
        r"\1 does not say what its \2 is; write that method",
    ),
    *(
        (rf"(\S*\b{hook})\(\) takes .* given", rf"\1 cannot be called; write {signature}, or without self below @staticmethod")
        for hook, signature in LOSS_SIGNATURES.items()
    ),
    (
        r"(?:.*?)(\w+)(?:\.__init__)?\(\) missing .* arguments?: '(params|optimizer)'",
        r"\1 is called when training starts, with the \2; write _partial_: true beside its _target_",
    ),
    (r"(?:.*?)(\w+)(?:\.__init__)?\(\) missing .* arguments?: (.*)", r"\1 needs a setting for \2"),
    (
        r"all elements of input should be between 0 and 1",
        "a loss takes probabilities and got logits, which is what D gives; use torch's binary_cross_entropy_with_logits",
    ),
    (
        r".*DefaultCPUAllocator: .*tried to allocate (\d+) bytes",
        r"the memory does not hold \1 bytes more; choose smaller numbers, as of data.batch_size, seeds_at_once, n or rows",
    ),
    (r".*gloo/transport/", "another process of this run has ended, and says why; python -m ganlab resume=latest goes on"),
    (
        r"A worker process managed by the executor was unexpectedly terminated|A worker died",
        "a job's process ended without a word (killed, or no memory left); resume=FOLDER, with the sweep's, goes on",
    ),
    (
        r"Job (\S+) .*?\shas not produced any output \(state: (.*?)\)",
        r"the cluster's job \1 ended without a word (\2); resume=FOLDER, with the sweep's, goes on",
    ),
    (
        r"Job not requeued because: timed-out too many times",
        "the job's time was over more often than hydra.launcher.max_num_timeout allows; resume=FOLDER, with the sweep's, goes on",
    ),
    (
        r"Automatic gradient accumulation is not supported",
        "gradients are not accumulated, since losses and penalties look at whole batches; leave "
        "trainer.accumulate_grad_batches out, and choose a larger data.batch_size",
    ),
    (
        r"Automatic gradient clipping is not supported",
        "leave trainer.gradient_clip_val out; gan.gradient_clip=NUMBER clips the gradients of both players",
    ),
    (
        r"Invalid learning rate: (\S+)",
        r"a learning rate must be at least 0, got \1; correct optimizer.generator.lr or optimizer.discriminator.lr",
    ),
    (
        r"Invalid (\w+) (?:value|parameter at index \d): (\S+)",
        r"no optimizer takes \1=\2; correct it in optimizer.generator or optimizer.discriminator",
    ),
    (r"No supported gpu backend found!", "there is no GPU here; trainer=auto takes what there is"),
    (r"Could not append to config. An item is already at '(.+?)'", r"there is a \1 already; leave the + out"),
    (r"Could not delete from config. The value of '(.+?)' is", r"\1 has another value than the one to delete; type ~\1"),
    (
        r"Could not delete(?: from config\.)? '(.+?)'(?: does not exist|\. No match).*",
        r"there is no \1 to delete; leave ~\1 out",
    ),
    (r"Ambiguous value for argument '(.+?)'\n", r"\1 has several values; -m runs one after another, and [1,2] is a list"),
    (
        r"Config group override deletion value must be a string : .*key_or_group='(\S+?)'",
        r"\1 is a group of choices; ~\1 deletes it",
    ),
    (r"Config group override must be a string", "a group of choices takes the name of one, or several as [name,name]"),
    (r"force-add of config groups is not supported: '\++(\S+?)=", r"\1 is a group of choices; type \1=CHOICE without +"),
    (
        r"Override \S* ?looks like a config group override, but config group '(.+?)' does not exist",
        r"there is no group \1 to choose from",
    ),
)


def explain(error: Exception) -> str:
    """The error in one sentence; where it arose in the user's own code, if it did; how to see everything."""
    place = ""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        place = place or str(error)
        error = error.__cause__
    if type(error).__name__ == "OutOfMemoryError":
        first = str(error).strip().partition("\n")[0]
        return f"the device's memory is full ({first}); halve data.batch_size, or seeds_at_once"
    said = str(error).strip()
    if known := next((ours for theirs, ours in OTHER_WORDS if (found := re.match(theirs, said, re.DOTALL))), None):
        sentence = found.expand(known)
    elif type(error).__module__.startswith(("hydra", "omegaconf")):
        sentence = _of_hydra(error)
    else:
        sentence = _of_python(error, place)
    if len(sentence := " ".join(sentence.split())) > LONGEST:
        sentence = f"{sentence[: LONGEST // 2]} … {sentence[-LONGEST // 2 :]}"
    if own := line_in_user_code(error):
        sentence += f"\n  in {own.filename}, line {own.lineno}: {own.line}"
    return f"{sentence}\n  (HYDRA_FULL_ERROR=1 shows the whole traceback)"


def _of_python(error: Exception, place: str) -> str:
    sentence = str(error).strip()
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full ({sentence}); free some space and go on with python -m ganlab resume=latest"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{Path(error.filename).name[:40]!r} … is too long for a file's name; shorten it"
    if isinstance(error, OSError) and error.filename and error.errno in DENIED:
        return f"{error.filename} cannot be opened ({error.strerror}); choose another folder with hydra.run.dir=FOLDER"
    if isinstance(error, (ValueError, OSError, ArithmeticError)):
        return sentence
    if not sentence:
        sentence = f"in {traceback.extract_tb(error.__traceback__)[-1].name}"
    sentence = f"{type(error).__name__}: {sentence}"
    if called := re.search(r"Error in call to target '(\S+)'", place):
        sentence = f"{called[1].rpartition('.')[2]} cannot be built with these settings ({sentence})"
    return sentence


def _of_hydra(error: HydraException | OmegaConfBaseException) -> str:
    conf, sentence = Path(conf_folder()), str(error).strip()
    if isinstance(error, MissingConfigException):
        return _no_such_choice(error, conf)
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} cannot be read; type KEY=VALUE, with quotes inside the shell's around a VALUE that is not "
            "plain, as in 'name=\"a b\"'"
        )
    if key := re.match(r"Could not override '(.+)'\.", sentence):
        return suggestions.unknown_key(key[1], conf)
    if isinstance(error, InterpolationKeyError) and (needs := re.match(r"Interpolation key '(.+)' not found", sentence)):
        return suggestions.unresolved(error.full_key, needs[1])
    if found := re.match(r"\w+ (?:raised )?while resolving interpolation: (.*?)(\n|$)", sentence):
        sentence = found[1].strip('"')
        if not sentence.startswith("Missing mandatory"):
            return f"{error.full_key} cannot be resolved: {sentence}"
    if missing := re.match(r"Missing mandatory value: (\S+)", sentence):
        return f"{missing[1]} has no value (???); give it one"
    if sentence.startswith("Error merging override") and error.__cause__ is not None:
        sentence += f" ({str(error.__cause__).partition(chr(10))[0]})"
    return (
        re.sub(r"\n\s*(full_key|object_type)[:=].*", "", sentence)
        or f"the configuration cannot be read ({type(error).__name__})"
    )


def _no_such_choice(error: MissingConfigException, conf: Path) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not name:
        return "there is no config.yaml in the folder of --config-path; leave it out, --config-dir adds a folder of your own"
    if not group:
        return f"there is no configuration {name!r}; leave --config-name out, or name one in your --config-dir"
    options = error.options or sorted(path.stem for path in (conf / group).glob("*.yaml"))
    return f"there is no {group}={name}; choose one of {', '.join(options)}"

"""Hydra and its errors, between a command line and what it calls."""

import os
import sys
from typing import NoReturn

from ganlab.config.paths import conf_folder


def compose(verb: str) -> None:
    """Hydra composes the configuration from the command line and calls the verb's function, in a sweep for each job."""
    import hydra
    from hydra._internal.utils import get_args_parser

    from ganlab.cli import job
    from ganlab.cli.errors import DENIED
    from ganlab.config import secrets, suggestions

    job.verb = verb
    if problem := suggestions.misplaced_option(sys.argv[1:]):
        sys.exit(f"ganlab: {problem}")
    parser = get_args_parser()
    parser.error = _exit  # type: ignore[method-assign]
    parser.parse_args()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing its own traceback
    try:
        secrets.validate_words(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=conf_folder(), config_name="config")(getattr(job, verb))()
    except BrokenPipeError:  # | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(f"ganlab: {verb} was interrupted")
    except Exception as error:
        if job.WANTS_TRACEBACK:
            raise
        if isinstance(error, OSError) and error.errno in DENIED:  # of Hydra, making the job's folder
            sys.exit(f"ganlab: the output folder cannot be written ({error}); choose another with hydra.run.dir=FOLDER")
        sentence = job.explain(error)
        if isinstance(error, (AssertionError, AttributeError, LookupError, TypeError)):  # of Hydra's own code, likewise
            sentence = f"Hydra cannot use a word of this command line, perhaps of a group or of hydra.* ({sentence}"
            sentence = sentence.replace("\n", ")\n", 1)
        sys.exit(f"ganlab: {sentence}")


def _exit(message: str) -> NoReturn:
    sys.exit(f"ganlab: {' '.join(message.split())}; python -m ganlab --help lists what there is")

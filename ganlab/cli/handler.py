"""End the program with one sentence (cli/errors.py words it) and an exit code; HYDRA_FULL_ERROR=1 shows the traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ganlab.runs.run_dir import RunDir, is_first_process
from ganlab.utils.errors import Interrupted


@contextmanager
def errors_as_sentences(task: str, show_traceback: bool, run: RunDir | None = None) -> Iterator[None]:
    """End the program with one sentence for whatever is raised inside.

    Args:
        task: what was interrupted, in the sentence for Ctrl-C.
        show_traceback: raise the exception again in place of the sentence.
        run: the run that was interrupted; its resume command is part of the sentence.
    """
    try:
        yield
    except BrokenPipeError:  # | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Interrupted as stop:
        if is_first_process():
            print(f"ganlab: {stop}; {_how_to_resume(run)}", file=sys.stderr)
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        saved = f"; {_how_to_resume(run)} with what was saved before" if run and run.is_run else ""
        if run and run.is_complete:
            saved = f" after it was complete; its results are in {run.path}"
        sys.exit(f"ganlab: {task} was interrupted{saved}")
    except Exception as error:
        if show_traceback:
            raise
        from ganlab.cli.errors import explain  # start-up time: it is rarely needed

        sys.exit(f"ganlab: {explain(error)}")


def _how_to_resume(run: RunDir | None) -> str:
    from ganlab.runs.resume import resume_command  # start-up time

    return f"{resume_command(run) if run else 'python -m ganlab resume=latest'} continues"

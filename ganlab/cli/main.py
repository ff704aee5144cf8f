"""`python -m ganlab [verb] …`: what Hydra composes from conf/ (train, which needs no naming, and inspect), and the verbs
for what training left.
"""

import ast
import io
import logging
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from ganlab.cli.hydra_app import compose
from ganlab.cli.options import OPTIONS, help_text, parse_options
from ganlab.utils import slurm

COMPOSED = ("train", "inspect")  # functions of ganlab.cli.job
MODULES = {  # each has a main(arguments)
    "evaluate": "ganlab.cli.evaluate",
    "export": "ganlab.cli.export",
    "interpolate": "ganlab.cli.interpolate",
    "neighbors": "ganlab.cli.neighbors",
    "report": "ganlab.cli.report",
    "resume": "ganlab.cli.resume",
    "sample": "ganlab.cli.sample",
}
VERBS = (*COMPOSED, *MODULES)


def main() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):  # and no notebook's
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: a terminal without Unicode ends no run
    verb = "train"
    if len(sys.argv) > 1 and sys.argv[1].isidentifier():
        verb = sys.argv.pop(1)
        if verb not in VERBS:
            sys.exit(f"ganlab: unknown verb {verb!r}; choose one of {', '.join(VERBS)}, or write overrides as key=value")

    late = [word for before, word in zip(sys.argv, sys.argv[1:]) if word in VERBS and not before.startswith("-")]
    if late:
        sys.exit(f"ganlab: {late[0]} comes first: python -m ganlab {late[0]} …")

    sys.path.insert(0, os.getcwd())  # a user's own module, in the folder where they stand: gan._target_=my_gan.MyGAN
    if verb == "train" and any(word.startswith("resume=") for word in sys.argv[1:]):
        verb = "resume"
    if verb in ("train", "resume"):
        slurm.requeue_on_signal()
    if verb in MODULES:
        return use(verb, sys.argv[1:])
    if verb == "inspect" and {"-m", "--multirun"} & set(sys.argv):
        sys.exit("ganlab: inspect looks at one loss at a time and draws the others behind it; leave -m out")

    compose(verb)


def use(verb: str, arguments: list[str]) -> None:
    """A verb that composes nothing; `-h` prints what its module says of it, and its options."""
    try:
        if {"-h", "--help"} & set(arguments):
            docstring = ast.get_docstring(ast.parse(Path(find_spec(MODULES[verb]).origin).read_text()))
            return print(help_text(verb, docstring, OPTIONS[verb]))
        if verb != "report":  # whose words may be paths
            parse_options(OPTIONS[verb], arguments)  # before the verb's module loads torch
        logging.basicConfig(format="%(message)s", stream=sys.stdout)  # as Hydra does for what it calls; of others only warnings
        logging.getLogger("ganlab").setLevel(logging.INFO)
        import_module(MODULES[verb]).main(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(f"ganlab: {verb} was interrupted; nothing is left half-written")
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        if isinstance(error, (ValueError, OSError)):
            sys.exit(f"ganlab: {error}")
        from ganlab.cli.errors import explain

        sys.exit(f"ganlab: {explain(error)}")


if __name__ == "__main__":
    main()

"""`python -m ganlab [verb] …`: what Hydra composes from conf/ (train, which needs no naming, and inspect), and the verbs
for what training left.
"""

import os
import sys
from importlib import import_module
from pathlib import Path

COMPOSED = ("train", "inspect")  # functions of ganlab.job
MODULES = {  # each has a main(arguments)
    "evaluate": "ganlab.evaluation",
    "export": "ganlab.export",
    "interpolate": "ganlab.interpolation",
    "neighbours": "ganlab.neighbours",
    "report": "ganlab.report",
    "resume": "ganlab.resuming",
    "sample": "ganlab.sampling",
}
VERBS = (*COMPOSED, *MODULES)


def conf_folder() -> str:
    """The first conf/ that holds config.yaml: inside the installed package, or beside it in a clone."""
    here = Path(__file__).resolve().parent
    return str(next(c for c in (here / "conf", here.parent / "conf") if (c / "config.yaml").exists()))


def main() -> None:
    verb = "train"
    if len(sys.argv) > 1 and sys.argv[1].isidentifier():
        verb = sys.argv.pop(1)
        if verb not in VERBS:
            sys.exit(f"ganlab: unknown verb {verb!r}; choose one of {', '.join(VERBS)}, or write overrides as key=value")

    sys.path.insert(0, os.getcwd())  # a user's own module, in the folder where they stand: gan._target_=my_gan.MyGAN
    if verb == "train" and any(word.startswith("resume=") for word in sys.argv[1:]):
        verb = "resume"
    if verb in MODULES:
        return use(verb, sys.argv[1:])
    if verb == "inspect" and {"-m", "--multirun"} & set(sys.argv):
        sys.exit("ganlab: inspect looks at one loss at a time and draws the others behind it; leave -m out")

    compose_and_call(verb)


def compose_and_call(verb: str) -> None:
    """Hydra composes the configuration from the command line and calls the verb's function, in a sweep for each job."""
    import hydra

    from ganlab import job

    job.verb = verb
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing its own traceback
    try:
        hydra.main(version_base="1.3", config_path=conf_folder(), config_name="config")(getattr(job, verb))()
    except BrokenPipeError:  # | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if job.WANTS_TRACEBACK:
            raise
        if isinstance(error, OSError) and not type(error).__module__.startswith("hydra"):  # a job explains its own errors, so this is Hydra making the job's folder
            sys.exit(f"ganlab: the output folder cannot be written ({error}); choose another with hydra.run.dir=FOLDER")
        sys.exit(f"ganlab: {job.explain(error)}")


def use(verb: str, arguments: list[str]) -> None:
    """A verb that composes nothing; `-h` prints what its module says of it, and its options."""
    module = import_module(MODULES[verb])
    if {"-h", "--help"} & set(arguments):
        print(module.__doc__)
    try:
        module.main(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(f"ganlab: {verb} was interrupted; nothing is left half-written")
    except (ValueError, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.exit(f"ganlab: {error}")


if __name__ == "__main__":
    main()

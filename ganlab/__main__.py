"""`python -m ganlab [verb] overrides…`: finds conf/, lets Hydra compose, runs the verb (train if none is named)."""

import os
import sys
from pathlib import Path

VERBS = ("train", "inspect", "report")  # the first two are functions of ganlab.job


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

    if verb == "report":
        return report(sys.argv[1:])
    if verb == "inspect" and {"-m", "--multirun"} & set(sys.argv):
        sys.exit("ganlab: inspect looks at one loss at a time and draws the others behind it; leave -m out")

    import hydra

    from ganlab import job

    job.verb = verb
    sys.path.insert(0, os.getcwd())  # a user's own module, in the folder where they stand: gan._target_=my_gan.MyGAN
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


def report(arguments: list[str]) -> None:
    """`python -m ganlab report PATH…`, which composes nothing."""
    from ganlab.report import main

    if {"-h", "--help"} & set(arguments):
        print("python -m ganlab report FOLDER… [out=FOLDER] [metric=NAME]   folders of runs, sweeps, or of several")
        return
    try:
        main(arguments)
    except ValueError as error:
        sys.exit(f"ganlab: {error}")


if __name__ == "__main__":
    main()

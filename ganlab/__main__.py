"""`python -m ganlab overrides…`: finds conf/, lets Hydra compose, runs the job."""

import os
import sys
from pathlib import Path


def conf_folder() -> str:
    """The first conf/ that holds config.yaml: inside the installed package, or beside it in a clone."""
    here = Path(__file__).resolve().parent
    return str(next(c for c in (here / "conf", here.parent / "conf") if (c / "config.yaml").exists()))


def main() -> None:
    import hydra

    from ganlab.job import WANTS_TRACEBACK, explain, run

    sys.path.insert(0, os.getcwd())  # a user's own module, in the folder where they stand: gan._target_=my_gan.MyGAN
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing its own traceback
    try:
        hydra.main(version_base="1.3", config_path=conf_folder(), config_name="config")(run)()
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        if isinstance(error, OSError):  # a job explains its own errors, so this is Hydra making the job's folder
            sys.exit(f"ganlab: the output folder cannot be written ({error}); choose another with hydra.run.dir=FOLDER")
        sys.exit(f"ganlab: {explain(error)}")


if __name__ == "__main__":
    main()

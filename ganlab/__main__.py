"""`python -m ganlab`."""

import os

# Waiting threads spin for some microseconds and then sleep, so that another process gets the core. GNU's OpenMP, which torch ships,
# reads this when it is loaded. cgan_fashion on two cores: 2,177 images/s; 1,954 with GNU's default of 300,000; 1,310 without spinning.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from ganlab.cli.main import main  # noqa: E402

if __name__ == "__main__":
    main()

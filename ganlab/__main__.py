"""`python -m ganlab`."""

import os

# Threads that wait do not spin on a core that another process could use. OpenMP reads this when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from ganlab.cli.main import main  # noqa: E402

if __name__ == "__main__":
    main()

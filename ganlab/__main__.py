"""`python -m ganlab`."""

from ganlab.cli.main import main

if __name__ == "__main__":
    main()

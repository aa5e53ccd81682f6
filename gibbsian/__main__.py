"""`python -m gibbsian`, e.g. for torchrun: `torchrun -m gibbsian compare ...`."""

from gibbsian.cli import main

if __name__ == "__main__":
    main()

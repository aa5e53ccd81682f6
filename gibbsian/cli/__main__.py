"""For torchrun, which takes a module: `torchrun --nproc-per-node 2 -m gibbsian.cli compare ...`."""

from gibbsian.cli import main

if __name__ == "__main__":
    main()

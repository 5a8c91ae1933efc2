"""`python -m kinase.cli` is `kinase`."""

from kinase.cli import main

if __name__ == "__main__":
    main()

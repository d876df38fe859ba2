"""Memorised or generalised: python eval/memorization.py --counts 4,64,1024 --help lists options."""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("memorization", sys.argv[1:], "eval/memorization.py"))

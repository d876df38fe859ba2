"""Score models at several sizes: python eval/resolutions.py runs/a runs/b --sizes 32x32 --help."""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("resolutions", sys.argv[1:], "eval/resolutions.py"))

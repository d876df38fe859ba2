"""Score guidance rules at several scales, as a table, a plot and a picture grid.

    python eval/guidance_sweep.py runs/demo --kinds cfg,apg --scales 1,2,4,8,16

The same command again goes on where it was stopped.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("guidance-sweep", sys.argv[1:], "eval/guidance_sweep.py"))

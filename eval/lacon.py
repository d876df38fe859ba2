"""Score a model under late constraints: does it meet held-out conditions, and at what cost?

    python eval/lacon.py runs/demo --conditions edge,mask,palette --scales 0.5,1,2

The same command again goes on where it was stopped.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("lacon-sweep", sys.argv[1:], "eval/lacon.py"))

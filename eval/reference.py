"""Keep what networks see in real images: a file that evaluations are scored against.

    python eval/reference.py DIR --size 256x256 --profile adm --out reference.npz

It also turns statistics of other tools (pytorch-fid, EDM, EDM2) into such a file.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("reference", sys.argv[1:], "eval/reference.py"))

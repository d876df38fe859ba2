"""Train a diffusion transformer; without arguments, the demo on drawn shapes.

    accelerate launch train/dit.py [--config FILE.yaml] [--model.depth 12 ...]

``--help`` lists every field, ``--dry-run`` prints the resolved configuration. The same command
again resumes the run in ``--out``.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("train", sys.argv[1:], "train/dit.py"))

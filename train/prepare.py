"""Encode images to latents once, to train on.

    python train/prepare.py --vae.path ID|PATH --data.kind folder --data.path DIR --out LATENTS
    torchrun --nproc_per_node 2 train/prepare.py ...

``--help`` lists every field, ``--dry-run`` prints the resolved configuration. The same command
again goes on with what a stop left behind, and mends files that are damaged.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("prepare", sys.argv[1:], "train/prepare.py"))

"""Train an adapter, with which a trained model draws images and a condition of them jointly.

    accelerate launch train/joint.py RUN [--pair depth] [--data.kind folder ...]

``--help`` lists every field, ``--dry-run`` prints the resolved configuration. The same command
again resumes the adapter in ``RUN/joint/CONDITION``.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("joint", sys.argv[1:], "train/joint.py"))

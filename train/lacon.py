"""Train an aligner, which lets the images of a trained model be steered by a condition.

    accelerate launch train/lacon.py RUN [--condition edge] [--data.kind folder ...]

``--help`` lists every field, ``--dry-run`` prints the resolved configuration. The same command
again resumes the aligner in ``RUN/aligners/CONDITION``.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("lacon", sys.argv[1:], "train/lacon.py"))

"""Distil a trained model into one that draws in a single step (and in 2 and 4).

    accelerate launch train/nitro.py TEACHER_RUN [--pairs.count 8000 ...]

``--help`` lists every field, ``--dry-run`` prints the resolved configuration. The same command
again resumes the student in ``TEACHER_RUN-nitro``.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("nitro", sys.argv[1:], "train/nitro.py"))

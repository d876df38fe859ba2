"""What a distillation is worth, part by part: python eval/nitro.py TEACHER_RUN --out DIR.

``--help`` lists every field. ``--commands`` prints the commands that train the rows of the table
side by side; without it they are trained one after the other.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("nitro-eval", sys.argv[1:], "eval/nitro.py"))

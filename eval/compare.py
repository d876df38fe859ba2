"""Compare saved evaluations: python eval/compare.py A.json B.json --help lists the options."""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("compare", sys.argv[1:], "eval/compare.py"))

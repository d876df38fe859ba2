"""Check claims: python eval/evidence.py docs/evidence/*.json computes their verdicts again."""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("evidence", sys.argv[1:], "eval/evidence.py"))

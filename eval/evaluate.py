"""Score a model, a folder of images or an .npz: FID, precision, recall, class accuracy.

    python eval/evaluate.py runs/demo --reference shapes --size 32x32 --num-images 512

Every figure is printed beside the same figure of real images against real ones.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("eval", sys.argv[1:], "eval/evaluate.py"))

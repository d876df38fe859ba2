"""Score joint generation: images from maps, maps from images, and both drawn together.

    python eval/joint.py runs/demo --conditions depth,edge,mask

The same command again goes on where it was stopped.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("joint-eval", sys.argv[1:], "eval/joint.py"))

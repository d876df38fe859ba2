"""Draw images from a trained model, at any size its patch divides.

    python sample/generate.py runs/demo --size 48x32 --size 32x64 --classes circle,star
    python sample/generate.py runs/demo --constraint edge=sketch.png

SOURCE is a run folder, a pipeline folder or a hub id. ``--help`` lists every option.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("sample", sys.argv[1:], "sample/generate.py"))

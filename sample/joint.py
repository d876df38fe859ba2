"""Draw images and pictures of a condition jointly, or either from the other.

    python sample/joint.py runs/demo --want image,depth
    python sample/joint.py runs/demo --given depth=map.png --classes circle,star
    python sample/joint.py runs/demo --given image=photos --want depth
    python sample/joint.py runs/demo --given depth=sketch.png --coarse 0.7

SOURCE is a run folder, a pipeline folder or a hub id, with adapters by train/joint.py. ``--help``
lists every option.
"""

import sys

from diffgen.cli import launch

if __name__ == "__main__":
    sys.exit(launch("joint-sample", sys.argv[1:], "sample/joint.py"))

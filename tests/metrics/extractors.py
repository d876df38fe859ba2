"""What the tests of extractors share."""

import hashlib
from pathlib import Path

import torch

PICTURES = torch.randint(
    0, 256, (3, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

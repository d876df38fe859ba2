"""Compiling a model block by block."""

from diffgen.models.dit import DiT


def compile_blocks(model: DiT, backend: str = "inductor") -> None:
    """Have ``torch.compile`` compute each block of ``model``, in place, without graph breaks.

    For batches of images of one size, or padded. Packed ones are refused from then on: how many
    tokens each image has is data, and every new mixture would be compiled anew.

    Parameters, their names, copies and what wraps the model stay as they are; a deep copy is not
    compiled. The blocks are alike, so they share one graph, compiled when the first one runs.

    Args:
        model: with or without gradient checkpointing; hooks of its blocks run as before, those
            inside a block may not.
        backend: of torch.compile.
    """
    for block in model.blocks:
        block.compile(backend=backend, fullgraph=True)

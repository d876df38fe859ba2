"""``prepare``: from images to the posteriors of their latents, on disk, for trainings to share."""

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from tqdm import tqdm

from diffgen.commands.left_out import tell_left_out
from diffgen.commands.preparation import (
    Preparation,
    begin,
    build_encoding,
    index_of,
    tell_damaged,
)
from diffgen.config.base import parse_size
from diffgen.config.prepare import PrepareConfig
from diffgen.data.images import DamagedImage
from diffgen.data.prepared_encoding import SKIP
from diffgen.data.prepared_images import Picture, image_sizes
from diffgen.data.prepared_plan import Shard, plan_of_one_size, plan_of_sizes
from diffgen.data.shards import Note, finished, write_shard
from diffgen.device import on_cpu
from diffgen.files import locked
from diffgen.group import Group
from diffgen.signals import Interrupted
from diffgen.training.run_folder import RunFolder


def prepare(config: PrepareConfig) -> None:
    """Encode the images into ``config.out``; several processes share the files.

    Files that the same command has left there, and that are whole, are kept, unless an image that
    was left out of one can be read now.

    Raises:
        UserError: anything a user can mend; see its message.
        Interrupted: a signal came; its message tells how many files there are.
    """
    group = Group.join(cpu=on_cpu(config.device))
    with ExitStack() as lock:
        with group.together():
            work = begin(config)
            if group.main:
                lock.enter_context(locked(config.out))
                work.folder.open(work.settings(), work.space.vae, work.weights)
                tell_left_out(work.source.images, RunFolder(config.out))
        with group.connected():
            shards, unread = plan(work, group)
            notes = encode_missing(work, shards, group)
            with group.together():
                index = index_of(work, notes, unread)
                if group.main:
                    work.folder.close(index)
    group.leave()
    if group.main:
        tell_damaged(work, index)
        left_out = f" ({len(index.skipped):,} damaged left out)" if index.skipped else ""
        print(f"latents of {index.count:,} images{left_out} in {len(notes):,} files, {config.out}")


def plan(work: Preparation, group: Group) -> tuple[list[Shard], dict[int, str]]:
    """The files to be, and damaged images of which not even the size is known."""
    config, count, factor = work.config, len(work.source.images), work.space.format.factor
    if config.crop not in ("none", "mixed"):
        height, width = parse_size(config.data.size)
        size = (height // factor, width // factor)
        return plan_of_one_size(count, size, config.shard_images), {}
    mine = range(count * group.rank // group.world, count * (group.rank + 1) // group.world)
    with group.together():
        sizes, damaged = image_sizes(work.source, mine, shown=group.main)
        if damaged and not config.skips:
            raise DamagedImage(f"{next(iter(damaged.values()))} {SKIP}")
    parts = group.everyones((sizes, damaged))
    unread = {number: why for _, some in parts for number, why in some.items()}
    every = np.concatenate([sizes for sizes, _ in parts])
    return plan_of_sizes(every, factor, config.shard_images), unread


def encode_missing(work: Preparation, shards: Sequence[Shard], group: Group) -> list[Note]:
    """Write the files that are not there or not whole; the notes of all. All must call it."""
    notes: dict[str, Note] = {}
    try:
        with group.together():
            dealt = group.deal(shards)
            shown = tqdm(dealt, "checking files", delay=2, leave=False, disable=not group.main)
            there = {s.file: note for s in shown if (note := kept(work, s))}
        for some in group.everyones(there):
            notes |= some
        todo = [shard for shard in shards if shard.file not in notes]
        if todo:
            with group.together():
                if group.main:
                    work.folder.tell_damaged([shard.file for shard in todo])
                    work.folder.reopen()
            for some in group.everyones(encode_shared(work, todo, shards, group)):
                notes |= some
    except Interrupted as stop:
        there_now = sum(work.folder.has(shard.file) for shard in shards)
        left = f"{there_now} of {len(shards)} files are in {work.config.out}, the same command goes"
        raise Interrupted(stop.signum, f"{left} on") from None
    return [notes[shard.file] for shard in shards]


def kept(work: Preparation, shard: Shard) -> Note | None:
    """The note of a file that is whole; None: it is to be written.

    So it is where an image that was left out of it has been mended since, and where none may be
    left out any more: what is wrong with that is told then.
    """
    note = finished(work.config.out, shard)
    if note is None or (note.skipped and not work.config.skips):
        return None
    factor = work.space.format.factor
    size = (shard.size[0] * factor, shard.size[1] * factor)
    for number in note.skipped:
        answer = work.source.checked(number, work.source[number], size)
        if isinstance(answer, Picture):
            return None
        if not isinstance(answer, DamagedImage):
            raise answer
    return note


def encode_shared(
    work: Preparation, todo: Sequence[Shard], shards: Sequence[Shard], group: Group
) -> dict[str, Note]:
    """Write the files ``todo`` of all, one a process at a time; the notes of one's own."""
    mine: dict[str, Note] = {}
    total, missing = (sum(map(len, some)) for some in (shards, todo))
    with group.together():
        encoding = build_encoding(work)
    bar = tqdm(
        total=total,
        initial=total - missing,
        unit="img",
        desc="encoding",
        disable=not group.main,
    )
    with bar:
        for turn in range(0, len(todo), group.world):
            these = todo[turn : turn + group.world]
            before = bar.n
            with group.together():
                for shard in group.deal(these):
                    tensors, damaged = encoding.encode(work.source, shard, bar.update)
                    mine[shard.file] = write_shard(work.config.out, shard.file, tensors, damaged)
            bar.update(sum(map(len, these)) - (bar.n - before))
    return mine

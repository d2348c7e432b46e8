"""Loads samples as batches, in an order that depends on the step alone: a resumed run sees the same samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

S_co = TypeVar("S_co", covariant=True)


class Samples(Protocol[S_co]):
    """Training images by running number; the same number always gives the same sample."""

    def __getitem__(self, number: int, /) -> S_co: ...


class _SampleDataset(Dataset[Any]):
    def __init__(self, samples: Samples[Any]) -> None:
        self._samples = samples

    def __getitem__(self, number: int) -> Any:
        return self._samples[number]


class _BatchNumbers:
    """Numbers of the samples of each forward pass from `start` on, for one of several ranks."""

    def __init__(self, start: int, stop: int, batch_size: int, rank: int, ranks: int) -> None:
        self._passes = range(start, stop)
        self._batch_size, self._rank, self._ranks = batch_size, rank, ranks

    def __len__(self) -> int:
        return len(self._passes)

    def __iter__(self) -> Iterator[list[int]]:
        for number in self._passes:
            first = (number * self._ranks + self._rank) * self._batch_size
            yield list(range(first, first + self._batch_size))


def load_batches(
    samples: Samples[Any],
    collate: Callable[[Sequence[Any]], Any],
    *,
    start: int,
    stop: int,
    batch_size: int,
    workers: int,
    rank: int = 0,
    ranks: int = 1,
) -> DataLoader[Any]:
    """Batches of forward passes start to stop - 1; workers prefetch.

    Args:
        workers: processes besides this one; 0 makes samples here.
    """
    return DataLoader(
        _SampleDataset(samples),
        batch_sampler=_BatchNumbers(start, stop, batch_size, rank, ranks),
        collate_fn=collate,
        num_workers=workers,
        # A separate one: a loader draws a seed when it starts, and would shift dropout's generator in a resumed run.
        generator=torch.Generator(),
        prefetch_factor=4 if workers else None,
        # Fork is quick, but unsafe once torch's threads run; the server starts clean.
        multiprocessing_context="forkserver" if workers else None,
        persistent_workers=False,
    )

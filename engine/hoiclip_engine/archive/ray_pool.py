"""Hands jobs to worker processes by Ray Data: files are cut, a pool of actors looks at units, reports come back.

The only file that knows Ray. Nothing is retried here: whoever dies takes one job with it, and whoever handed it out
finds it undone (workplace.py). A Ray of our own listens on 127.0.0.1 alone, wants a token that nobody else has, and has
no dashboard; another one is used only where the user names it.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import secrets
import threading
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hoiclip.errors import BackendMissing, UsageError
from hoiclip_engine.archive.work import FileJob, LookConfig, Report, Worker, cut
from hoiclip_engine.cpu import cpu_count, pin_to_share
from hoiclip_engine.engine import MOST_LANES

LOCAL = "127.0.0.1"
CUTTING_AT_A_TIME = 2
"""Files read through beside the looking; the disk is what they wait for."""
_ASK_S = 0.2
_LOGGERS = ("ray", "ray.data", "ray.util", "ray._private")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """Who works."""

    workers: int | None = None
    """None: one for each GPU, or for every four processors, which is how many frames an engine looks at a time."""
    on_gpu: bool = False
    address: str | None = None
    """Of a Ray cluster that is there; None: one of our own, on this machine, for as long as this lasts."""


class RayPool:
    """A context: Ray is there while it lasts."""

    def __init__(self, look: LookConfig, config: PoolConfig) -> None:
        """Raises BackendMissing: Ray is not installed."""
        _prepare(local=config.address is None)
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise BackendMissing(f"hoiclip archive needs {error.name}; pip install 'hoiclip[archive]'") from error
        self._ray, self._look, self._config = ray, look, config
        self._unheard = ExitStack()

    def __enter__(self) -> RayPool:
        ray, config = self._ray, self._config
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        common = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": True}
        if config.address is not None:
            try:
                ray.init(address=config.address, **common)
            except (ConnectionError, ValueError, RuntimeError) as error:
                first = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise UsageError(f"expected a Ray cluster at {config.address}, found none ({first})") from None
        else:
            # One processor more than there is, in Ray's books: files are cut beside the looking.
            own: dict[str, Any] = {"num_cpus": max(cpu_count(), config.workers or 1) + 1, "include_dashboard": False}
            ray.init(address="local", _node_ip_address=LOCAL, **own, **common)
        try:
            self._share_out(ray.cluster_resources())
        except BaseException:
            ray.shutdown()
            raise
        self._quieten()
        # Ray tells of dead workers on standard output, which belongs to results.
        self._unheard.enter_context(redirect_stdout(self._unheard.enter_context(Path(os.devnull).open("w"))))
        return self

    def _share_out(self, has: Mapping[str, float]) -> None:
        """How many workers there are, and what each of them may use.

        Raises:
            UsageError: the engine runs on a GPU and Ray has none.
        """
        gpus, local = has.get("GPU", 0.0), self._config.address is None
        if self._config.on_gpu and not gpus:
            raise UsageError("expected a GPU for this backend, found that Ray sees none; take another --backend")
        cpus = cpu_count() if local else int(has.get("CPU", 1))
        self.workers = self._config.workers or (int(gpus) if self._config.on_gpu else -(-cpus // MOST_LANES))
        self._gpus = min(1.0, gpus / self.workers) if self._config.on_gpu else 0.0
        self._shares = self.workers if local and not self._config.on_gpu else 1

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()
        self._unheard.close()

    def _quieten(self) -> None:
        context = self._ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.enable_auto_log_stats = False
        context.max_errored_blocks = -1  # a job that somebody dies of is no reason to stop the others
        warnings.filterwarnings("ignore", module=r"ray\.")
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            logger.setLevel(logging.CRITICAL)
            logger.propagate = False

    def run(self, jobs: Sequence[FileJob], *, workers: int) -> Generator[Report | None, None, None]:
        """Reports as they come, and None whenever nothing has come for a moment; jobs that somebody died of have none.

        Work that was begun goes on where it is closed early, until the pool is left.
        """
        came: queue.SimpleQueue[Report | BaseException | None] = queue.SimpleQueue()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray 2.64 will call some arguments otherwise
            rows = self._dataset(jobs, workers)

        def listen() -> None:
            try:
                for row in rows.iter_rows():
                    came.put(Report(**json.loads(row["report"])))
                came.put(None)
            except BaseException as error:
                came.put(error)

        threading.Thread(target=listen, name="hoiclip-ray", daemon=True).start()
        while True:
            try:
                report = came.get(timeout=_ASK_S)
            except queue.Empty:
                yield None
                continue
            if report is None:
                return
            if isinstance(report, BaseException):
                raise report
            yield report

    def _dataset(self, jobs: Sequence[FileJob], workers: int) -> Any:
        data = self._ray.data
        items = data.from_items([{"job": json.dumps(asdict(job))} for job in jobs], override_num_blocks=len(jobs))
        units = items.flat_map(_cut, num_cpus=0.25, concurrency=CUTTING_AT_A_TIME, max_retries=0)
        # One unit to a task, so that a task that dies takes no other unit with it.
        single = units.repartition(target_num_rows_per_block=1)
        return single.map(
            _Actor,
            fn_constructor_args=(asdict(self._look), self._shares),
            compute=data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            num_cpus=1,
            num_gpus=self._gpus,
            max_restarts=0,  # the pool makes new ones
            max_task_retries=0,
        )


def _prepare(*, local: bool) -> None:
    """What Ray reads from the environment when it is imported, and hands on to the processes that it starts."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if local:
        # On Windows and macOS Ray stays on the loopback device by itself; elsewhere it takes the network's, whatever
        # address it is told, unless it is told to do as it does there.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Other users of this machine reach the loopback device too. Ray's own way leaves a token in the home folder.
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)


def _cut(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"report": json.dumps(asdict(one)), "job": ""}
        if isinstance(one, Report)
        else {"report": "", "job": json.dumps(asdict(one))}
        for one in cut(FileJob(**json.loads(row["job"])))
    ]


class _Actor:
    """One worker process."""

    def __init__(self, look: dict[str, Any], shares: int) -> None:
        pin_to_share(shares)
        self._worker = Worker(LookConfig(**look))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["report"]:
            return {"report": row["report"]}
        return {"report": json.dumps(asdict(self._worker.look_at(FileJob(**json.loads(row["job"])))))}

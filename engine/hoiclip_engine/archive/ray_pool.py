"""Hands jobs to worker processes by Ray Data: files are split, a pool of actors infers work items, reports come back.

The only file that knows Ray. Nothing is retried here: a process that dies takes one job with it, and the coordinator
finds that undone (work_directory.py). A Ray of our own listens on 127.0.0.1 alone, wants a secret token, and has no
dashboard; another one is used only where the user names it.
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

from hoiclip.core.errors import BackendMissing, UsageError
from hoiclip_engine.archive.work_directory import FileJob, JobReport
from hoiclip_engine.archive.worker import Worker, WorkerConfig, plan_work_items
from hoiclip_engine.backends.cpu import cpu_count, pin_to_cpu_slot
from hoiclip_engine.engine import MAX_REQUESTS

LOCAL = "127.0.0.1"
MAX_SPLITTING = 2
"""Files that are split at a time, beside the inference; they wait for the disk."""
_ASK_S = 0.2
_LOGGERS = ("ray", "ray.data", "ray.util", "ray._private")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """Number and place of the workers."""

    workers: int | None = None
    """None: one for each GPU, or for every four processors, which is how many frames an engine infers at a time."""
    on_gpu: bool = False
    address: str | None = None
    """Address of an existing Ray cluster; None: one of our own, on this machine, while the pool exists."""


class RayPool:
    """A context manager: Ray runs while it is open."""

    def __init__(self, worker_config: WorkerConfig, config: PoolConfig) -> None:
        """Raises BackendMissing: Ray is not installed."""
        _prepare(local=config.address is None)
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise BackendMissing(f"hoiclip archive needs {error.name}; pip install 'hoiclip[archive]'") from error
        self._ray, self._worker_config, self._config = ray, worker_config, config
        self._silenced = ExitStack()

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
            # One processor more than there is, in Ray's books: files are split beside the inference.
            own: dict[str, Any] = {"num_cpus": max(cpu_count(), config.workers or 1) + 1, "include_dashboard": False}
            ray.init(address="local", _node_ip_address=LOCAL, **own, **common)
        try:
            self._assign_resources(ray.cluster_resources())
        except BaseException:
            ray.shutdown()
            raise
        self._quieten()
        # Ray reports dead workers on standard output, which belongs to results.
        self._silenced.enter_context(redirect_stdout(self._silenced.enter_context(Path(os.devnull).open("w"))))
        return self

    def _assign_resources(self, has: Mapping[str, float]) -> None:
        """Sets the number of workers and the resources of each.

        Raises:
            UsageError: the engine runs on a GPU and Ray has none.
        """
        gpus, local = has.get("GPU", 0.0), self._config.address is None
        if self._config.on_gpu and not gpus:
            raise UsageError("expected a GPU for this backend, found that Ray sees none; take another --backend")
        cpus = cpu_count() if local else int(has.get("CPU", 1))
        self.workers = self._config.workers or (int(gpus) if self._config.on_gpu else -(-cpus // MAX_REQUESTS))
        self._gpus = min(1.0, gpus / self.workers) if self._config.on_gpu else 0.0
        self._pinned_workers = self.workers if local and not self._config.on_gpu else 1

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()
        self._silenced.close()

    def _quieten(self) -> None:
        context = self._ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.enable_auto_log_stats = False
        context.max_errored_blocks = -1  # a job that a worker dies of does not stop the others
        warnings.filterwarnings("ignore", module=r"ray\.")
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            logger.setLevel(logging.CRITICAL)
            logger.propagate = False

    def run(self, jobs: Sequence[FileJob], *, workers: int) -> Generator[JobReport | None, None, None]:
        """Reports as they come, and None whenever there was none for a moment; jobs that a worker died of have none.

        Work that was begun continues where the generator is closed early, until the pool is closed.
        """
        reports: queue.SimpleQueue[JobReport | BaseException | None] = queue.SimpleQueue()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray 2.64 will rename some arguments
            rows = self._dataset(jobs, workers)

        def listen() -> None:
            try:
                for row in rows.iter_rows():
                    reports.put(JobReport(**json.loads(row["report"])))
                reports.put(None)
            except BaseException as error:
                reports.put(error)

        threading.Thread(target=listen, name="hoiclip-ray", daemon=True).start()
        while True:
            try:
                report = reports.get(timeout=_ASK_S)
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
        work_items = items.flat_map(_split_rows, num_cpus=0.25, concurrency=MAX_SPLITTING, max_retries=0)
        # One work item to a task, so that a task that dies takes no other with it.
        single = work_items.repartition(target_num_rows_per_block=1)
        return single.map(
            _RayWorker,
            fn_constructor_args=(asdict(self._worker_config), self._pinned_workers),
            compute=data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            num_cpus=1,
            num_gpus=self._gpus,
            max_restarts=0,  # the pool makes new ones
            max_task_retries=0,
        )


def _prepare(*, local: bool) -> None:
    """Sets what Ray reads from the environment on import, and passes on to the processes that it starts."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if local:
        # On Windows and macOS Ray stays on the loopback device by itself; elsewhere it takes the network's, whatever
        # its address option says, unless this variable makes it behave as it does there.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Other users of this machine reach the loopback device too. Ray's own way leaves a token in the home folder.
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)


def _split_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"report": json.dumps(asdict(item)), "job": ""}
        if isinstance(item, JobReport)
        else {"report": "", "job": json.dumps(asdict(item))}
        for item in plan_work_items(FileJob(**json.loads(row["job"])))
    ]


class _RayWorker:
    """One worker process."""

    def __init__(self, worker_config: dict[str, Any], pinned_workers: int) -> None:
        pin_to_cpu_slot(pinned_workers)
        self._worker = Worker(WorkerConfig(**worker_config))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["report"]:
            return {"report": row["report"]}
        return {"report": json.dumps(asdict(self._worker.process(FileJob(**json.loads(row["job"])))))}

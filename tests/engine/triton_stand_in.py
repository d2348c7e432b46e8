"""A model repository run in this process: the ensemble's steps, with every tensor held against its configuration.

Stands in for the server's scheduler and for the module that it gives to Python models; test_triton_server.py runs
the same on a real server. Imports no torch.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
from google.protobuf import json_format, text_format

NUMPY = {"BOOL": np.bool_, "UINT8": np.uint8, "INT64": np.int64, "FP32": np.float32, "FP64": np.float64}
Arrays = dict[str, Any]


class Tensor:
    """A tensor as the server passes it: 64 bit floats and all others by their numpy type, texts as objects."""

    def __init__(self, name: str, value: Any) -> None:
        assert value.flags.c_contiguous
        self._name, self._value = name, value

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._value


class InferenceRequest:
    def __init__(self, arrays: Arrays) -> None:
        self._tensors = [Tensor(name, np.ascontiguousarray(value)) for name, value in arrays.items()]

    def inputs(self) -> list[Tensor]:
        return self._tensors


class TritonError(Exception):
    def message(self) -> str:
        return str(self)


class InferenceResponse:
    def __init__(self, output_tensors: list[Tensor], error: TritonError | None = None) -> None:
        self.output_tensors, self.error = output_tensors, error


class Logger:
    lines: list[str] = []  # noqa: RUF012

    @classmethod
    def log_error(cls, line: str) -> None:
        cls.lines.append(line)


def install() -> None:
    """Gives Python models the module they import."""
    module = ModuleType("triton_python_backend_utils")
    vars(module).update(
        Tensor=Tensor, InferenceResponse=InferenceResponse, TritonError=TritonError, Logger=Logger
    )  # fmt: skip
    sys.modules.setdefault(module.__name__, module)


@cache
def schema() -> Any:
    """The server's own schema of config.pbtxt. By its file: the package beside it wants grpc."""
    found = importlib.util.find_spec("tritonclient")
    assert found is not None
    assert found.submodule_search_locations is not None
    return _module(Path(found.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py", "model_config_pb2")


def _module(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config_of(folder: Path) -> Any:
    """Fields that the schema does not know are refused."""
    config = text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), schema().ModelConfig())
    assert config.name == folder.name
    return config


class OneModel:
    """A model with its configuration."""

    def __init__(self, folder: Path) -> None:
        self.config = config_of(folder)
        version = folder / "1"
        if self.config.backend == "python":
            self._python = _module(version / "model.py", f"served_{folder.name}").TritonPythonModel()
            self._python.initialize(
                {
                    "model_config": json.dumps(
                        json_format.MessageToDict(self.config, preserving_proto_field_name=True)
                    ),
                    "model_name": folder.name,
                    "model_repository": str(folder),
                    "model_version": version.name,
                }
            )
        else:
            assert self.config.platform == "onnxruntime_onnx"
            self._python = None
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(
                str(version / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )

    def __call__(self, *requests: Arrays) -> list[Arrays]:
        """The response to each request, as if the server had joined them.

        Raises:
            TritonError: a model answered one of them with it.
        """
        for request in requests:
            self._check(request, self.config.input)
        if self._python is None:
            names = [output.name for output in self.config.output]
            found = [dict(zip(names, self._session.run(names, request), strict=True)) for request in requests]
        else:
            responses = self._python.execute([InferenceRequest(request) for request in requests])
            for response in responses:
                if response.error is not None:
                    raise response.error
            found = [{tensor.name(): tensor.as_numpy() for tensor in response.output_tensors} for response in responses]
        for arrays in found:
            self._check(arrays, self.config.output)
            assert set(arrays) == {output.name for output in self.config.output}
        return found

    def _check(self, arrays: Arrays, specs: Any) -> None:
        """Types and shapes, as the server holds them against the configuration."""
        for spec in specs:
            if spec.name not in arrays:
                assert spec.optional, f"{self.config.name} misses {spec.name}"
                continue
            value, kind = arrays[spec.name], schema().DataType.Name(spec.data_type).removeprefix("TYPE_")
            assert value.dtype == NUMPY.get(kind, np.object_), f"{spec.name} is {value.dtype}, expected {kind}"
            dims = [-1, *spec.dims] if self.config.max_batch_size else list(spec.dims)
            fits = len(dims) == value.ndim and all(
                side in (-1, found) for side, found in zip(dims, value.shape, strict=True)
            )
            assert fits, f"{self.config.name}: {spec.name} is {value.shape}, expected {dims}"
        unknown = set(arrays) - {spec.name for spec in specs}
        assert not unknown, f"{self.config.name} knows no {unknown}"


class Repository:
    """All models of a repository, called by their ensemble."""

    def __init__(self, folder: Path, ensemble: str) -> None:
        install()
        self.ensemble = config_of(folder / ensemble)
        assert self.ensemble.platform == "ensemble"
        steps = self.ensemble.ensemble_scheduling.step
        self.models = {step.model_name: OneModel(folder / step.model_name) for step in steps}

    def __call__(self, **sent: Any) -> Arrays:
        pool: Arrays = dict(sent)
        for step in self.ensemble.ensemble_scheduling.step:
            inputs = {key: pool[name] for key, name in step.input_map.items() if name in pool}
            (found,) = self.models[step.model_name](inputs)
            pool |= {step.output_map[key]: value for key, value in found.items()}
        return {tensor.name: pool[tensor.name] for tensor in self.ensemble.output}


def main() -> None:
    """python -m tests.engine.triton_stand_in REPOSITORY ENSEMBLE PICTURE.npy OUT.npz: one image, without torch."""
    folder, ensemble, image, out = sys.argv[1:]
    sys.modules["torch"] = None  # type: ignore[assignment]
    np.savez(out, **Repository(Path(folder), ensemble)(image=np.load(image)))


if __name__ == "__main__":
    main()

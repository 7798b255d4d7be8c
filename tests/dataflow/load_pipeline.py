"""Does with a staged pipeline what a worker does, in a worker's environment, and prints as JSON how it went.

Every function and coder is unpickled, our own DoFns are set up, every module of the package is imported, and what the
package requires is looked for.

    python tests/dataflow/load_pipeline.py pipeline.pb
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import worker_env
from apache_beam.internal import pickler
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.runners.pipeline_context import PipelineContext

PACKAGES = ("transforms", "fraud_pipeline")
_COMBINES = {
    urn.urn
    for urn in (
        common_urns.composites.COMBINE_PER_KEY,
        common_urns.composites.COMBINE_GLOBALLY,
        common_urns.combine_components.COMBINE_GROUPED_VALUES,
    )
}


def main(path: str) -> None:
    """Prints what was loaded and what was not."""
    pickler.set_library("cloudpickle")
    pipeline = api.Pipeline.FromString(Path(path).read_bytes())
    failures: dict[str, str] = {}
    loaded = []
    for name, function in _functions(pipeline):
        try:
            fn = pickler.loads(function)
            fn = fn[0] if isinstance(fn, tuple) else fn
            loaded.append(f"{type(fn).__module__}.{type(fn).__qualname__}")
            if isinstance(fn, beam.DoFn) and type(fn).__module__.partition(".")[0] in PACKAGES:
                fn.setup()
        except Exception as error:
            failures[name] = repr(error)
    context = PipelineContext(pipeline.components)
    for kind, ids in (
        ("coders", pipeline.components.coders),
        ("windowing_strategies", pipeline.components.windowing_strategies),
    ):
        for id in ids:
            try:
                getattr(context, kind).get_by_id(id)
            except Exception as error:
                failures[id] = repr(error)
    modules, missing = _import_all()
    print(
        json.dumps(
            {
                "functions": loaded,
                "coders": len(pipeline.components.coders),
                "failures": failures,
                "unmet": worker_env.unmet("fraud-pipeline"),
                "modules": modules,
                "missing": missing,
            }
        )
    )


def _functions(pipeline: api.Pipeline) -> Iterator[tuple[str, bytes]]:
    for step in pipeline.components.transforms.values():
        if step.spec.urn == common_urns.primitives.PAR_DO.urn:
            yield step.unique_name, api.ParDoPayload.FromString(step.spec.payload).do_fn.payload
        elif step.spec.urn in _COMBINES:
            yield step.unique_name, api.CombinePayload.FromString(step.spec.payload).combine_fn.payload


def _import_all() -> tuple[list[str], dict[str, Any]]:
    modules, missing = [], {}
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        for module in [package, *(m.name for m in pkgutil.walk_packages(path, f"{package}."))]:
            if module.endswith("__main__"):
                continue
            modules.append(module)
            try:
                importlib.import_module(module)
            except ModuleNotFoundError as error:
                missing[module] = error.name
    return modules, missing


if __name__ == "__main__":
    main(sys.argv[1])

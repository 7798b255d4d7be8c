"""What a running job's state hangs on: prints it for a pipeline, as JSON, for the golden file.

Dataflow carries state over to a new version by the name of a step, the id of a state or timer, and their coders. A
change of any of them is refused by `--update`, or loses what is stored.

    python tests/dataflow/stateful_steps.py pipeline.pb > tests/goldens/stateful_steps.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.portability.api import schema_pb2
from google.protobuf.wrappers_pb2 import BytesValue

_BUFFERING = {
    common_urns.primitives.GROUP_BY_KEY.urn,
    common_urns.composites.RESHUFFLE.urn,
    common_urns.composites.PUBSUB_READ.urn,
}
_COMBINING = {common_urns.composites.COMBINE_PER_KEY.urn, common_urns.composites.COMBINE_GLOBALLY.urn}


def stateful_steps(pipeline: api.Pipeline) -> dict[str, Any]:
    """Steps with state, timers or buffered elements, by name: what of them must stay as it is."""
    components = pipeline.components
    steps: dict[str, Any] = {}
    for step in components.transforms.values():
        if step.spec.urn == common_urns.primitives.PAR_DO.urn:
            par_do = api.ParDoPayload.FromString(step.spec.payload)
            if par_do.state_specs or par_do.timer_family_specs:
                (input_id, *_) = step.inputs.values()
                steps[step.unique_name] = {
                    "input": _collection(components, input_id),
                    "states": {name: _state(components, spec) for name, spec in par_do.state_specs.items()},
                    "timers": {
                        name: {
                            "domain": api.TimeDomain.Enum.Name(spec.time_domain),
                            "coder": _coder(components, spec.timer_family_coder_id),
                        }
                        for name, spec in par_do.timer_family_specs.items()
                    },
                }
        elif step.spec.urn in _COMBINING:
            combine = api.CombinePayload.FromString(step.spec.payload)
            steps[step.unique_name] = {
                "kind": step.spec.urn,
                "accumulator": _coder(components, combine.accumulator_coder_id),
            }
        elif step.spec.urn in _BUFFERING:
            steps[step.unique_name] = {
                "kind": step.spec.urn,
                "inputs": {name: _collection(components, of) for name, of in step.inputs.items()},
                "outputs": {name: _collection(components, of) for name, of in step.outputs.items()},
            }
    return steps


def _collection(components: api.Components, collection_id: str) -> dict[str, str]:
    collection = components.pcollections[collection_id]
    windowing = components.windowing_strategies[collection.windowing_strategy_id]
    return {"coder": _coder(components, collection.coder_id), "windows": windowing.window_fn.urn}


def _state(components: api.Components, spec: api.StateSpec) -> dict[str, Any]:
    kind = spec.WhichOneof("spec")
    assert kind is not None
    fields = getattr(spec, kind)
    return {
        "kind": kind,
        "protocol": spec.protocol.urn,
        "coders": {
            field.name: _coder(components, getattr(fields, field.name))
            for field in fields.DESCRIPTOR.fields
            if field.name.endswith("coder_id")
        },
    }


def _coder(components: api.Components, coder_id: str) -> str:
    coder = components.coders[coder_id]
    name = coder.spec.urn.removeprefix("beam:coder:").removesuffix(":v1")
    if name == "pickled_python":
        # The class, then its pickle, which differs from one run to the next.
        name = BytesValue.FromString(coder.spec.payload).value.partition(b"$")[0].decode()
    elif name == "row":
        schema = schema_pb2.Schema.FromString(coder.spec.payload)
        name = f"row({', '.join(f'{field.name} {_one_line(field.type)}' for field in schema.fields)})"
    parts = [_coder(components, part) for part in coder.component_coder_ids]
    return f"{name}[{', '.join(parts)}]" if parts else name


def _one_line(message: Any) -> str:
    return " ".join(str(message).split())


def to_json(steps: dict[str, Any]) -> str:
    """The text of the golden file."""
    return json.dumps(steps, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(to_json(stateful_steps(api.Pipeline.FromString(Path(sys.argv[1]).read_bytes()))), end="")

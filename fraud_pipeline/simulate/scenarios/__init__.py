"""The attack scenarios, a module each: to add one, add a module with a `SCENARIO`."""

from __future__ import annotations

import importlib
import pkgutil

from fraud_pipeline.simulate.attacks import Scenario


def load_scenarios() -> dict[str, Scenario]:
    """All scenarios by name, in the order of their names."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    scenarios = [importlib.import_module(f"{__name__}.{name}").SCENARIO for name in names]
    return {scenario.name: scenario for scenario in scenarios}

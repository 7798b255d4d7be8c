"""Simulated login and payment traffic with labelled attacks: pure, and deterministic by seed."""

from fraud_pipeline.simulate.config import NO_DISORDER, AttackPlan, Delivery, SimulationConfig
from fraud_pipeline.simulate.delivery import Arrival, AttackLabel
from fraud_pipeline.simulate.engine import simulate

__all__ = [
    "NO_DISORDER",
    "Arrival",
    "AttackLabel",
    "AttackPlan",
    "Delivery",
    "SimulationConfig",
    "simulate",
]

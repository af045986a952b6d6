"""HTML from the templates beside this file, everything in it escaped, and every image inside the page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ecgscan_lite.evaluation.classification import FEW_POSITIVES
from ecgscan_lite.reporting import tables


def render_html(template: str, **context: Any) -> str:
    """A page from one of the templates, which names at its top the variables that it needs."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    named = ("number", "interval", "p_value", "auroc", "sections", "statement_rows", "reconstruction_rows")
    environment.filters |= {name: getattr(tables, name) for name in named} | {
        "signed": lambda value: tables.number(value, "{:+.3f}"),
        "sort_numerically": lambda texts: sorted(texts, key=float),
        "base64": lambda image: base64.b64encode(image).decode("ascii"),
    }
    environment.globals |= {"MODELS": tables.MODELS, "EVALUATIONS": tables.EVALUATIONS, "FEW_POSITIVES": FEW_POSITIVES}
    return environment.get_template(template).render(**context)

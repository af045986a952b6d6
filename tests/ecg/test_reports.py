"""Reports come apart into findings, and a negation keeps its scope."""

from __future__ import annotations

import pytest

from ecgscan_lite.ecg.reports import split_report


@pytest.mark.parametrize(
    ("report", "findings"),
    [
        ("Sinus rhythm, rate 72. Left axis deviation.", ["sinus rhythm", "rate 72", "left axis deviation"]),
        ("sinus rhythm; normal ecg\nno change", ["sinus rhythm", "normal ecg", "no change"]),
        (
            "Atrial fibrillation. No evidence of ischaemia, infarction or hypertrophy.",
            ["atrial fibrillation", "no evidence of ischaemia, infarction or hypertrophy"],
        ),
        ("PR 0.16 s, QRS 92 ms", ["pr 0.16 s", "qrs 92 ms"]),
        ("Normal ECG. normal ecg.", ["normal ecg"]),
        ("", []),
        (" . , ;", []),
    ],
)
def test_findings(report: str, findings: list[str]) -> None:
    assert split_report(report) == findings

"""A written report as the findings that it names."""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"(?:\.(?!\d)|[;\n])\s*")
_COMMA = re.compile(r",\s+")
_NEGATION = re.compile(
    r"\b(?:no|not|nor|without|neither|absent|absence|unlikely|excluded?|free of|denies)\b", re.IGNORECASE
)


def split_report(report: str) -> list[str]:
    """The distinct findings of a report, in its order: its sentences, split at commas too.

    A sentence that negates anything is kept whole, so that "no ischaemia, infarction or hypertrophy" is not split into
    a negation and two assertions.
    """
    findings: list[str] = []
    for sentence in _SENTENCE_END.split(report):
        findings += [sentence] if _NEGATION.search(sentence) else _COMMA.split(sentence)
    stripped = (finding.strip(" .,:-").lower() for finding in findings)
    return list(dict.fromkeys(finding for finding in stripped if len(finding) > 2))

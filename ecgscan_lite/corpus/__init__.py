"""A corpus: records of any data set, prepared once in a form that reads fast."""

from __future__ import annotations

from ecgscan_lite.corpus.corpus import COLUMNS, INDEX_FILE, INFO_FILE, Corpus
from ecgscan_lite.corpus.prepare import prepare
from ecgscan_lite.corpus.shards import CorpusError, encode

__all__ = ["COLUMNS", "INDEX_FILE", "INFO_FILE", "Corpus", "CorpusError", "encode", "prepare"]

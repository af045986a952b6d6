"""What one encoder of a comparison makes of the test records, as arrays by name; what does not apply is absent.

scores, degraded_scores: log-odds of the task's classes on clean and on degraded pages, from a probe that was fitted on
    clean ones, or from a supervised classifier. Shape: (N, C).
zero_shot, degraded_zero_shot: similarity to the prompts of the statements that some test records have and others have
    not, on the same pages. Shape: (N, S).
leads, projected_leads: `LEAD_MEASURES` of the leads that are read off the pages, as they are and projected onto the
    limb identities. Shape: (N, 4).
transfer_NAME: similarity to the prompts of the statements of the data set NAME, on its own test records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecgscan_lite import evaluation
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.ecg.leads import LIMB_PROJECTION
from ecgscan_lite.experiments.comparison.claims import LEAD_MEASURES
from ecgscan_lite.experiments.comparison.plan import Method
from ecgscan_lite.experiments.features import RenderOptions, embed_leads, embed_pages, embed_signals, reconstruct_pages
from ecgscan_lite.experiments.protocol import PROBE, probe_splits, statement_labels, task_labels
from ecgscan_lite.files import write_atomically
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import Settings
from ecgscan_lite.training.objectives.supervised import classify


def save_outputs(path: Path, outputs: Mapping[str, np.ndarray], key: str) -> None:
    """Write a NumPy archive without pickles, with a key that tells it from the outputs of other runs."""
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(file, key=np.array(key), **outputs)


def load_outputs(path: Path, key: str) -> dict[str, np.ndarray] | None:
    """The outputs that were saved with this key; None where there are none, or the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            outputs = dict(archive)
    except Exception:  # an archive that was cut short raises errors of zipfile, zlib and NumPy
        return None
    return outputs if str(outputs.pop("key", "")) == key else None


def encode_and_probe(
    model: ECGScan, corpus: Corpus, method: Method, settings: Settings, options: RenderOptions, *, degraded: str,
    transfers: Mapping[str, Corpus], run: Path,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Fit a probe on the features of an encoder, and apply both to the test records.

    Args:
        model: the encoder.
        corpus: records that the probe is fitted on ("train"), chosen on ("val") and applied to ("test").
        method: the method that the encoder comes from.
        settings: the settings that it was trained with.
        options: appearance of the clean pages.
        degraded: ageing of the degraded pages; only a method of role "model" is applied to them.
        transfers: other data sets that it is applied to without labels.
        run: folder of the run, which holds the classifier of a supervised one.
    """
    labels, data = task_labels(corpus, settings.data.task), settings.data
    if method.probe_input == "signals":
        encoded = embed_signals(model, corpus)
    elif method.probe_input == "reconstruction":
        encoded = embed_leads(model, corpus, options)
    else:
        encoded = embed_pages({"model": model}, corpus, options)["model"]
    train, val, test = probe_splits(corpus, encoded.features, labels)
    if method.probe_input == "classifier":
        names, scores = classify(run, test.embeddings)
        return {"scores": scores[:, [names.index(name) for name in labels.columns]]}
    probe = evaluation.fit_probe(train, val, **PROBE)
    outputs = {"scores": probe.scores(test.embeddings)}
    has_prompts = "text" in data.modalities and data.text != "none" and not method.untrained
    if has_prompts and method.probe_input != "reconstruction":
        outputs["zero_shot"] = encoded.embeddings[corpus.rows("test")] @ _prompts(model, corpus).T
    reads_leads = data.modalities == "image,signal,text" and settings.loss.reconstruction > 0
    if method.probe_input == "pages" and not method.untrained and reads_leads:
        outputs |= _measure_leads(model, corpus, options)
    if method.role != "model":
        return outputs
    aged = replace(options, page=replace(options.page, ageing=(degraded,)))
    pages = embed_pages({"model": model}, corpus.subset(corpus.rows("test")), aged)["model"]
    outputs["degraded_scores"] = probe.scores(pages.features)
    if "zero_shot" in outputs:
        outputs["degraded_zero_shot"] = pages.embeddings @ _prompts(model, corpus).T
        for name, other in transfers.items():
            pages = embed_pages({"model": model}, other.subset(other.rows("test")), options)["model"]
            outputs[f"transfer_{name}"] = pages.embeddings @ _prompts(model, other).T
    return outputs


def _measure_leads(model: ECGScan, corpus: Corpus, options: RenderOptions) -> dict[str, np.ndarray]:
    target, visible, leads = reconstruct_pages({"model": model}, corpus, corpus.rows("test"), options)
    read = {"leads": leads["model"], "projected_leads": np.einsum("kl,nlt->nkt", LIMB_PROJECTION, leads["model"])}
    tables = {name: evaluation.reconstruction_by_record(x, target, visible) for name, x in read.items()}
    return {name: table[list(LEAD_MEASURES)].to_numpy() for name, table in tables.items()}


def _prompts(model: ECGScan, corpus: Corpus) -> np.ndarray:
    """Embeddings of the prompts of the statements of the test records. Shape: (S, D)."""
    return model.embed_statements(list(statement_labels(corpus, "test").columns))

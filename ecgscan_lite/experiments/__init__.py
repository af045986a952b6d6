"""Experiments: a model or a comparison of methods evaluated on a corpus; results are returned, not written."""

#: Files of a report. Where both stand in an experiment's folder, the experiment is finished.
RESULTS_FILE, REPORT_FILE = "results.json", "report.html"

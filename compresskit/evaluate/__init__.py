"""Evaluation: checkpoints in, a report out.

From the command to the table: `config` and `settings` (what to do), `evaluate` (every checkpoint, from the `cache` or
in a `process` of its own), `worker` (that process: it loads, asks, measures), `compare` and `stats` (intervals,
differences), `gate` (verdicts), `report/` (one file a format). What is handed on: `measurement` (to the worker and
back), `row` (the report), `answers` (the official format). What the worker uses: `collect` and `predict` (answers to
questions), `shard` (several processes), `score` (EM and F1), `metrics` and `language` (other figures), `measure`
(bytes, memory, time). `combine` puts saved reports together; `contents` is for `inspect`, and `figure` for whatever
is drawn.
"""

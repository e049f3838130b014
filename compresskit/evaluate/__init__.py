"""Evaluation: ask a checkpoint, score its answers, measure bytes, memory and time, render a report."""

"""The Python API, a layer beside the command line: the same options, the same code below, results as objects.

What is public has its name in `compresskit/__init__.py`; nothing of it is to be imported from here. `making` has the
functions that make checkpoints, `evaluating` the one that measures, `reading` what answers questions, `recipes` what
runs a recipe. `checkpoint` and `report` are what they return. `keywords` are the types of their keywords, `values`
turns these into options, `described` tells them to `help()`; `surroundings` leaves the process as it was found.
"""

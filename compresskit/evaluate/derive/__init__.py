"""Gates derived from a saved report: limits that a re-run holds with a stated probability, and that a real loss fails.

`source` reads the report with its runs, `prediction` has the formula, `quality` and `costs` measure what is left as
room, `proposing` chooses the limits and proves them, `writing` puts them into a project's file.
"""

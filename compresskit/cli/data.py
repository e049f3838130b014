"""`compresskit data`: what is done with data sets alone."""

from __future__ import annotations

import typer

from compresskit.cli.data_check import check_data
from compresskit.cli.data_convert import convert_data

data = typer.Typer(name="data", help="Check a data set for faults, or write it anew, clean.")
data.command("check")(check_data)
data.command("convert")(convert_data)

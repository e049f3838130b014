"""What the HTML page is made of: its columns, the lineage of a row, templates, style and script."""

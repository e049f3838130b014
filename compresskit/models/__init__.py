"""Model families, and the loading of any checkpoint into one of them."""

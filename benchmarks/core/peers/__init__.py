"""One file per system that is measured; `core.roster` lists them."""

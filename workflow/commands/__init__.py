"""What a user asks besides Snakemake: `python workflow --help`."""

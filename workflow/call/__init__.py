"""One call of Snakemake: what it refuses before the first job, what it shows meanwhile, and what it says in the end."""

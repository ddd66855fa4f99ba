"""One thin command line a workflow step; each reads one recipe file and writes one complete folder."""

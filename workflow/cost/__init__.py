"""How long jobs take: by the speeds of a node before they run, by those that have ended while they do."""

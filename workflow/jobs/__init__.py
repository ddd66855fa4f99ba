"""Scripts that the rules start beside the commands of `deit`."""

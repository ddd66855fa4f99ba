"""What a params file says, and what is wrong in it."""

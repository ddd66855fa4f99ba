"""What is kept on disk, and how it survives: never a part of a result's name."""

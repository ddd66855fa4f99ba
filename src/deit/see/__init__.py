"""What a network sees: readers, images, views, mixing and how they are loaded."""

"""What a student is told: a teacher's answers, asked for and cached."""

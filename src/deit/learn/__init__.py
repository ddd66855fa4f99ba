"""What a network learns: objectives, schedules, the step and the loop."""

"""Edge rules and elementary functions that every row shares."""

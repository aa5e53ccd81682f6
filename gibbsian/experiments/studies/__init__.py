"""Studies: each a command that makes one committed result."""

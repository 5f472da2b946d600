"""What a user would pick instead of this project, wrapped to take the same frames."""

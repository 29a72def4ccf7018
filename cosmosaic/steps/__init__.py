"""What a step is: declaration, key, execution."""

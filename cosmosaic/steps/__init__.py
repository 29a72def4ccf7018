"""The mechanism of steps: declaration, files, key, execution, publication."""

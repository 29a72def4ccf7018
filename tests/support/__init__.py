"""What the tests share: surveys, servers, scenes, truth."""

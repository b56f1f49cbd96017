"""Small apps for tests."""

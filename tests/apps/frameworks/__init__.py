"""One small application for each framework, all with the same routes: tests/process/test_http_frameworks.py."""

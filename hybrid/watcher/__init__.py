"""The file watcher of ``--reload``: a process that says when the app's files have changed."""

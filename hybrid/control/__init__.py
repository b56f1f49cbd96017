"""The control process: answers questions about the others, and passes wishes on to the parent."""

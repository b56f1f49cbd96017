"""What more than one process needs. Standard library only: the parent loads these modules."""

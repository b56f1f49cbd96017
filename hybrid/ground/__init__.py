"""Ground floor: words every room needs. Imports nothing of ours."""

"""The mold: imported the app; forks workers, serves nothing."""

"""What can be watched: metrics, traces and logs, against the tables of their pages."""

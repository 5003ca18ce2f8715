"""What the library keeps from whom: encryption, secrets, roles of the database, the audit log."""

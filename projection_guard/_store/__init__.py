"""All SQL of the guard: plain functions of a SQLAlchemy `Connection`; async code reaches them by `run_sync`."""

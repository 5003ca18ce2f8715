"""projection_guard in a Django project."""

"""A Django application: what handlers of these tests write by the ORM."""

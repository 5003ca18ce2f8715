"""Health and admin routes as data, framework-free: `fastapi` and `flask` beside this package only translate."""

"""The documentation site: what its reference is written from, what it is put together of, and what is checked.

    python -m tests.site reference      write docs/reference anew
    python -m tests.site stage          put the pages together in build/docs, which mkdocs.yml names
    python -m tests.site check          look whether a browser would load anything from elsewhere
    python -m tests.site links          ask the addresses of other sites whether they still answer

`make docs`, `make reference` and `make links` call them; tests/project/test_site*.py look at the same data.
"""

"""The dashboard's pages, asked for by HTTP from real servers."""

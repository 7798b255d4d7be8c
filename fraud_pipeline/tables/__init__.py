"""The result tables: declared once, made in BigQuery or DuckDB, filled with rows, asked with SQL."""

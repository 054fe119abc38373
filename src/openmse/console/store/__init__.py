"""What the console keeps: SQLite by default, PostgreSQL by URL; one explicit schema version."""

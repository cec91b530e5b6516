"""How a job starts, gets its GPU, reports progress and cost, is locked."""

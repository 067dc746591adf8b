"""Clients and backends that misbehave, vanish or come back: nobody else may notice."""

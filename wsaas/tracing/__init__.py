"""Spans for OpenTelemetry, from the extra `otel`. Nothing of this package is imported unless `TRACES` is on."""

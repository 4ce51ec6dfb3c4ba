"""The only place that knows ClickHouse: client, schema, the embedded folder, sizes."""

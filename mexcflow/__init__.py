"""mexcflow records crypto market data into ClickHouse and can prove what it holds."""

__version__ = "0.1.0"

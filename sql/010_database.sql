-- The database of the string tables: one table a symbol, with its views beside it.
-- Named, and not `default`, because chDB's `default` is an overlay that keeps no table of its own.
CREATE DATABASE IF NOT EXISTS mexc_data ENGINE = Atomic;

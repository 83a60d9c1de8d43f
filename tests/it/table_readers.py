"""Counts the rows of our tables with deltalake, Polars and DuckDB, and prints them, one table a line.

Arguments: the folder, or the URL of the bucket's prefix, that holds the tables; the tables' names.
"""

import os
import sys

import deltalake
import duckdb
import polars

root, tables = sys.argv[1], sys.argv[2:]
remote = root.startswith("s3://")
options = {k: v for k, v in os.environ.items() if k.startswith("AWS_")} if remote else None

for table in tables:
    delta = deltalake.DeltaTable(f"{root}/{table}", storage_options=options)
    by_delta = delta.to_pyarrow_dataset().count_rows()
    lazy = polars.scan_delta(f"{root}/{table}", storage_options=options)
    by_polars = lazy.select(polars.len()).collect().item()
    assert by_delta == by_polars, (table, by_delta, by_polars)
    if table == "samples":
        # Seven series with the values 0 to 49.
        read = lazy.select(polars.col("value").sum(), polars.col("series").n_unique()).collect().row(0)
        assert read == (7 * 1225, 7), read
    if not remote:  # DuckDB's extension for S3 does not come from PyPI
        files = delta.file_uris()
        by_duckdb = 0
        if files:
            parquet = f"read_parquet({files}, hive_partitioning = true, union_by_name = true)"
            by_duckdb = duckdb.sql(f"select count(*) from {parquet}").fetchall()[0][0]
        assert by_delta == by_duckdb, (table, by_delta, by_duckdb)
        if table == "samples":
            read = duckdb.sql(f"select sum(value), count(distinct series) from {parquet}").fetchall()[0]
            assert read == (7 * 1225, 7), read
        if table == "spans":
            # An attribute that all rows have is a column by itself, one that hardly any has is in the map.
            for condition, rows in [("\"attributes.batch\" = '3'", 20), ("attributes['rare'] = 'yes'", 1)]:
                read = duckdb.sql(f"select count(*) from {parquet} where {condition}").fetchall()[0][0]
                assert read == rows, (condition, read)
            one = lazy.filter(polars.col("service") == "reader-1").select(polars.len()).collect().item()
            assert one == by_delta / 2, one
    print(table, by_delta)

//! What spantape keeps: recordings as WAV, the Parquet catalog, and its queries.

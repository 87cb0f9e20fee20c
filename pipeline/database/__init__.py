"""Stage `database`: read a source of known compounds, clean it, and count every row that falls."""

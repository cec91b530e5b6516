"""The further questions of a comparison, one module each, with its functions answer, tables, figure, or gather."""

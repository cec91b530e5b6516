"""The further questions, one module each."""

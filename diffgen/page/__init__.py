"""The report of an evaluation: one HTML page with pictures and plots, or Markdown tables.

Everything but the pictures comes from what the evaluation's JSON holds.
"""
